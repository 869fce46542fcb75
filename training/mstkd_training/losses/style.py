"""Global style matching (GSME): Gram matrices across the stages of the network, and a discriminator of styles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from .features import relative


def cross_gram(one: Tensor, other: Tensor) -> Tensor:
    """(B, C, z, y, x) twice -> (B, C, C): F G^T / N, N the number of voxels, so that it does not depend on the crop.

    In float32: autocast would multiply in bfloat16, whose three digits are lost in a difference of two such sums.
    """
    one, other = (t.float().flatten(2) for t in (one, other))
    with torch.autocast(one.device.type, enabled=False):
        return one @ other.transpose(1, 2) / one.shape[-1]


def gram(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """Sum over the cyclic pairs of stages (i, i - 1) of |G^m - G^f|^2 / |G^f|^2, mean over the samples.

    Relative, because a Gram matrix goes with the square of the features and its squared difference with the fourth
    power, which would outgrow all other terms as soon as the features grow.
    """
    pairs = range(len(teacher))
    grams = ((cross_gram(teacher[i], teacher[i - 1]), cross_gram(student[i], student[i - 1])) for i in pairs)
    return torch.stack([relative(f, m) for f, m in grams]).sum()


def official_gram(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """As released: G = F_i F_{i-1}^T / (B C D H W), 1e-4 sum (G^f - G^m)^2 / (4 C^2 (D H)^2): about 1e-16 (defect 5).

    D and H are the first two sides in the released x, y, z order: x and y here.
    """
    total = teacher[0].new_zeros((), dtype=torch.float32)
    for i in range(len(teacher)):
        batch, channels, _, height, width = teacher[i].shape
        difference = (cross_gram(teacher[i], teacher[i - 1]) - cross_gram(student[i], student[i - 1])) / (
            batch * channels
        )
        total = total + (difference**2).sum() / (4 * channels**2 * (width * height) ** 2)
    return 1e-4 * total


def fooled(verdict: Tensor) -> Tensor:
    """The student's adversarial term: BCE of the discriminator's logits for its style against "saw everything" (0)."""
    return F.binary_cross_entropy_with_logits(verdict.float(), torch.zeros_like(verdict, dtype=torch.float32))


def discriminated(full: Tensor, partial: Tensor) -> Tensor:
    """The discriminator's loss: BCE of its logits for full styles against 0 and for partial ones against 1."""
    ones = torch.ones_like(partial, dtype=torch.float32)
    return fooled(full) + F.binary_cross_entropy_with_logits(partial.float(), ones)
