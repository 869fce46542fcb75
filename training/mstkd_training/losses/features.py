"""Distillation of what the networks see inside: features and attention maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def relative(teacher: Tensor, student: Tensor) -> Tensor:
    """|m - f|^2 / |f|^2, mean over the samples: the squared difference in units of the teacher's own, a constant there.

    Nothing bounds the scale of a feature but the terms that look at it. Without the division, features that grow in
    training take their terms along: content and MST went from a quarter of the gradient to nine tenths in 250 steps.

    Args:
        teacher, student: (B, ...) of one shape.
    """
    f, m = teacher.float().flatten(1), student.float().flatten(1)
    return ((m - f).pow(2).sum(1) / f.detach().pow(2).sum(1).clamp_min(1e-12)).mean()


def content(teacher: Tensor, student: Tensor) -> Tensor:
    """Relative squared difference of the content features (B, C, z, y, x)."""
    return relative(teacher, student)


def multiscale(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """MST: sum over the transformer's features of their relative squared difference."""
    return torch.stack([relative(f, m) for f, m in zip(teacher, student, strict=True)]).sum()


def official_content(teacher: Tensor, student: Tensor) -> Tensor:
    """As released: mean squared difference."""
    return F.mse_loss(student.float(), teacher.float())


def official_multiscale(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """As released: sum over the transformer's features of their mean squared difference."""
    return torch.stack([official_content(f, m) for f, m in zip(teacher, student, strict=True)]).sum()


def extreme_value(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """EVD: attention maps A_k, each weighted by the extremes over k, compared.

    With M = max_k A_k, m = min_k A_k, a = mean_k A_k, element by element and per network:
    sum_k sum_{e in M, m, a} |A_k^f e^f - A_k^m e^m|^2 / |A_k^f e^f|^2, mean over the samples.

    Relative, because entries of A go with 1 / N, N the number of tokens, and up to 1 where attention is sharp, so that
    the squares alone range over 1 / N^4 ... 1 from one crop or step to another.

    Args:
        teacher, student: (B, heads, N, N) maps.
    """
    return torch.stack([relative(f, m) for f, m in _weighted(teacher, student)]).sum()


def official_extreme_value(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """As released: 1e8 sum_k sum_e mean (A_k^f e^f - A_k^m e^m)^2, a factor that suits 120 tokens."""
    return 1e8 * torch.stack([((f - m) ** 2).mean() for f, m in _weighted(teacher, student)]).sum()


def _weighted(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Every map of both networks times each of the extremes of its own network."""
    f, m = (torch.stack([attention.float() for attention in maps]) for maps in (teacher, student))
    for extreme in (lambda maps: maps.amax(0), lambda maps: maps.amin(0), lambda maps: maps.mean(0)):
        yield from zip(f * extreme(f), m * extreme(m))
