"""Losses, one small function each, with formula and source."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss
from MSTKDSegmenterLib.engine.regions import CLASSES, REGIONS
from torch import Tensor

# Smoothing of one voxel in numerator and denominator keeps a gradient against false positives where a region is absent
# (the official 1 - 2 sum(py) / (sum p^2 + sum y^2) is constant there; method defect 9).
_dice = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)
_MEMBERS = [[CLASSES.index(name) for name in members] for members in REGIONS.values()]


def regions(classes: Tensor) -> Tensor:
    """(B, 4, z, y, x) class probabilities or one-hot -> (B, 3, z, y, x) regions WT, TC, ET: sums over their classes."""
    return torch.stack([classes[:, members].sum(dim=1) for members in _MEMBERS], dim=1)


def segmentation(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy over the four classes + mean soft Dice loss over WT, TC, ET.

    CE = -mean_v log softmax(l)_{y_v};  Dice = 1 - (2 sum p y + 1) / (sum p + sum y + 1), pooled over the batch.

    Args:
        logits: (B, 4, z, y, x).
        labels: (B, z, y, x) int64 indices into CLASSES.
    """
    logits = logits.float()
    truth = F.one_hot(labels, len(CLASSES)).movedim(-1, 1).float()
    return F.cross_entropy(logits, labels) + _dice(regions(logits.softmax(dim=1)), regions(truth))
