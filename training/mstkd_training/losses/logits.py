"""Distillation of what the networks put out: probabilities and logits, (B, 4, z, y, x)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .segmentation import official_dice, one_hot


def consistency(teacher: Tensor, student: Tensor) -> Tensor:
    """Sum over the classes of the mean squared difference of the probabilities (softmax of the logits)."""
    difference = teacher.float().softmax(dim=1) - student.float().softmax(dim=1)
    return (difference**2).mean(dim=(0, 2, 3, 4)).sum()


def official_consistency(teacher: Tensor, student: Tensor, labels: Tensor, teacher_background: bool) -> Tensor:
    """The same of sigmoids; as released, background is the teacher's own Dice loss instead (method defect 3)."""
    p, q = teacher.float().sigmoid(), student.float().sigmoid()
    squared = ((p - q) ** 2).mean(dim=(0, 2, 3, 4))
    last = official_dice(p[:, 3:], one_hot(labels)[:, 3:]).sum() if teacher_background else squared[3]
    return squared[:3].sum() + last


def standardised(logits: Tensor, axis: int) -> Tensor:
    """(l - mean) / (std + 1e-7) along an axis; std with n - 1."""
    logits = logits.float()
    return (logits - logits.mean(axis, keepdim=True)) / (logits.std(axis, keepdim=True) + 1e-7)


def standardised_kl(teacher: Tensor, student: Tensor, temperature: float, axis: int = 1) -> Tensor:
    """SLKD: T^2 mean_v KL(softmax(Z(l^f) / T) || softmax(Z(l^m) / T)) / 4, softmax over the classes.

    Sun et al., Logit standardization in knowledge distillation, CVPR 2024; divided by the number of classes as in the
    released code, whose weight of 1 so stays comparable.

    Args:
        axis: along which Z standardises: 1, the classes; the released code took -1, the depth (method defect 4).
    """
    p = F.log_softmax(standardised(teacher, axis) / temperature, dim=1)
    q = F.log_softmax(standardised(student, axis) / temperature, dim=1)
    return temperature**2 * F.kl_div(q, p, reduction="none", log_target=True).mean()


def mean_square(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared difference of the logits."""
    return F.mse_loss(student.float(), teacher.float())
