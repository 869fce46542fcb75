"""How well a network's output matches the labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from MSTKDSegmenterLib.engine.regions import CLASSES, REGIONS
from torch import Tensor

# Smoothing of one voxel in numerator and denominator keeps a gradient against false positives where a region is absent.
# Dice per sample, not over the batch: two processes with one sample each then give the step of one with both.
_dice = DiceLoss(batch=False, smooth_nr=1.0, smooth_dr=1.0)
_MEMBERS = [[CLASSES.index(name) for name in members] for members in REGIONS.values()]


def one_hot(labels: Tensor) -> Tensor:
    """(B, z, y, x) int64 indices into CLASSES -> (B, 4, z, y, x) float32."""
    return F.one_hot(labels, len(CLASSES)).movedim(-1, 1).float()


def regions(classes: Tensor) -> Tensor:
    """(B, 4, z, y, x) class probabilities or one-hot -> (B, 3, z, y, x) regions WT, TC, ET: sums over their classes."""
    return torch.stack([classes[:, members].sum(dim=1) for members in _MEMBERS], dim=1)


def cross_entropy_and_dice(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the four exclusive classes + mean soft Dice loss over WT, TC, ET.

    CE = -mean_v log softmax(l)_{y_v};  Dice = 1 - (2 sum p y + 1) / (sum p + sum y + 1), mean over samples and regions.

    Args:
        logits: (B, 4, z, y, x).
        labels: (B, z, y, x) int64 indices into CLASSES.
    """
    logits = logits.float()
    return F.cross_entropy(logits, labels) + _dice(regions(logits.softmax(dim=1)), regions(one_hot(labels)))


def official_dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Dice loss per channel as released, (C,): 1 - 2 sum p y / (sum p^2 + sum y^2 + 1e-7), over the whole batch.

    For a class that is absent it is 1 whatever p is, and so without a gradient (method defect 9).
    """
    p, y = (t.transpose(0, 1).flatten(1) for t in (probabilities, truth))
    return 1 - 2 * (p * y).sum(1) / ((p**2).sum(1) + (y**2).sum(1) + 1e-7)


def official(logits: Tensor, labels: Tensor, background_logits: Tensor | None = None) -> Tensor:
    """Sum of `official_dice` over the four channels of independent sigmoids.

    Args:
        background_logits: whose background channel counts instead; as released, the student's loss took the teacher's,
            so that nothing taught the student its background (method defect 3).
    """
    p = logits.float().sigmoid()
    if background_logits is not None:
        p = torch.cat([p[:, :3], background_logits.float().sigmoid()[:, 3:]], dim=1)
    return official_dice(p, one_hot(labels)).sum()
