"""Several networks that teach as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from MSTKDSegmenterLib.engine.network import MSTKDNet, NetworkConfig, Taps
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Says what its members say on average: the mean of their probabilities, as logits.

    Features are a network's own, and a mean of several networks' would be nobody's: the first member shows its.

    Args:
        members: two or more, with the same kind of answer.

    Raises:
        ValueError: the members answer with independent classes, whose probabilities have no common logits.
    """

    def __init__(self, members: Sequence[MSTKDNet]) -> None:
        super().__init__()
        if any(member.config.independent for member in members):
            raise ValueError(
                "several teachers whose classes are independent: a mean of their answers is not defined here, name one "
                "run in teacher.run"
            )
        self.members = nn.ModuleList(members)

    @property
    def config(self) -> NetworkConfig:
        """Of the member that shows its features."""
        return self.members[0].config

    @property
    def multiple(self) -> int:
        """Input sides must be multiples of this."""
        return math.lcm(*(member.multiple for member in self.members))

    def forward(self, x: Tensor, present: Tensor | None = None, taps: Taps | None = None) -> Tensor:
        """As MSTKDNet.forward; the softmax of the answer is the mean of the members' softmaxes."""
        first, *others = self.members
        answers = [first(x, present, taps), *(member(x, present) for member in others)]
        logs = torch.stack([answer.float().log_softmax(dim=1) for answer in answers])
        return logs.logsumexp(dim=0)  # a sum in place of the mean: softmax takes the constant out
