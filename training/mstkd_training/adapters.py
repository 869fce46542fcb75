"""Projections that let a student be compared with a teacher of another width or resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from MSTKDSegmenterLib.engine.network import MSTKDNet, Taps
from torch import Tensor, nn

from .ensemble import Ensemble


@dataclass(frozen=True)
class Features:
    """What the feature terms compare: content, stages (encoder, style, decoder), transformer features, attention."""

    content: Tensor
    stages: list[Tensor]
    multiscale: list[Tensor]
    attention: list[Tensor]

    @staticmethod
    def of(taps: Taps) -> Features:
        return Features(taps.content, taps.stages, taps.transformer.features, taps.transformer.attention)

    def detached(self) -> Features:
        return Features(self.content.detach(), *([t.detach() for t in ts] for ts in self._lists()))

    def _lists(self) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        return self.stages, self.multiscale, self.attention


class Adapters(nn.Module):
    """Student features -> the teacher's channels (1 x 1 x 1 convolutions) and grids (trilinear); equal ones pass as is.

    The projections are trained with the student and thrown away with the teacher.
    """

    def __init__(self, student: MSTKDNet, teacher: MSTKDNet | Ensemble) -> None:
        super().__init__()
        ours, theirs = _probe(student), _probe(teacher)
        self.content = _projection(ours.content, theirs.content)
        self.stages = nn.ModuleList(map(_projection, ours.stages, theirs.stages))
        self.multiscale = nn.ModuleList(map(_projection, ours.multiscale, theirs.multiscale))
        self.same_attention = bool(theirs.attention) and [a.shape for a in ours.attention] == [
            a.shape for a in theirs.attention
        ]

    def by_term(self) -> dict[str, nn.Module]:
        """The projections by the term that trains them."""
        return {"content": self.content, "gram": self.stages, "multiscale": self.multiscale}

    def forward(self, student: Features, teacher: Features) -> Features:
        return Features(
            _fitted(self.content, student.content, teacher.content),
            [_fitted(*three) for three in zip(self.stages, student.stages, teacher.stages)],
            [_fitted(*three) for three in zip(self.multiscale, student.multiscale, teacher.multiscale)],
            student.attention,
        )


def _probe(network: MSTKDNet | Ensemble) -> Features:
    """Features of an empty image, for their shapes."""
    taps = Taps()
    training = network.training
    sides = [64] * 3  # a multiple of what any network of the family asks for
    with torch.no_grad():
        network.eval()(torch.zeros(1, network.config.sequences, *sides), torch.ones(1, network.config.sequences), taps)
    network.train(training)
    return Features.of(taps)


def _projection(ours: Tensor, theirs: Tensor) -> nn.Module:
    same = ours.shape[1] == theirs.shape[1]
    return nn.Identity() if same else nn.Conv3d(ours.shape[1], theirs.shape[1], 1)


def _fitted(projection: nn.Module, ours: Tensor, theirs: Tensor) -> Tensor:
    projected = projection(ours)
    if projected.shape[2:] != theirs.shape[2:]:
        projected = F.interpolate(projected.float(), size=theirs.shape[2:], mode="trilinear", align_corners=False)
    return projected
