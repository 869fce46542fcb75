"""Distillation of what the networks see inside: features and attention maps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def content(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of the content features (B, C, z, y, x)."""
    return F.mse_loss(student.float(), teacher.float())


def multiscale(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """MST: sum over the transformer's features of their mean squared difference."""
    return torch.stack([content(f, m) for f, m in zip(teacher, student, strict=True)]).sum()


def extreme_value(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """EVD: attention maps A_k, each weighted by the extremes over k, compared.

    With M = max_k A_k, m = min_k A_k, a = mean_k A_k, element by element and per network:
    sum_k sum_{e in M, m, a} |A_k^f e^f - A_k^m e^m|^2 / |A_k^f e^f|^2, mean over the samples.

    Relative to the teacher's own, taken as constant there: entries of A go with 1 / N, N the number of tokens, and up
    to 1 where attention is sharp, so that the squares alone range over 1 / N^4 ... 1 from one crop or step to another.

    Args:
        teacher, student: (B, heads, N, N) maps.
    """
    total = teacher[0].new_zeros((), dtype=torch.float32)
    for f, m in _weighted(teacher, student):
        apart, size = ((values**2).flatten(1).sum(1) for values in (f - m, f.detach()))
        total = total + (apart / size).mean()
    return total


def official_extreme_value(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Tensor:
    """As released: 1e8 sum_k sum_e mean (A_k^f e^f - A_k^m e^m)^2, a factor that suits 120 tokens."""
    return 1e8 * torch.stack([((f - m) ** 2).mean() for f, m in _weighted(teacher, student)]).sum()


def _weighted(teacher: Sequence[Tensor], student: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Every map of both networks times each of the extremes of its own network."""
    f, m = (torch.stack([attention.float() for attention in maps]) for maps in (teacher, student))
    for extreme in (lambda maps: maps.amax(0), lambda maps: maps.amin(0), lambda maps: maps.mean(0)):
        yield from zip(f * extreme(f), m * extreme(m))
