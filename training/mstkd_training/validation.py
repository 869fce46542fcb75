"""Watching a run: Dice on the working grid, with a mask schedule that stays the same, and pictures of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.metrics import compute_dice
from monai.visualize import blend_images
from MSTKDSegmenterLib.engine.geometry import bounding_box
from MSTKDSegmenterLib.engine.network import MSTKDNet
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, parse_subset, presence, subset_name
from torch import Tensor

from .cache import Sample
from .class_map import BACKGROUND
from .config import ValidationConfig
from .losses.segmentation import one_hot, regions

PICTURED = (("FLAIR", "T1", "T1ce", "T2"), ("FLAIR", "T2"), ("T1",))
"""The subsets that pictures are drawn of."""


def schedule(study: int, count: int, among: Sequence[tuple[str, ...]] = SUBSETS) -> list[tuple[str, ...]]:
    """`count` of the subsets for the study with this number; over as many studies as subsets each comes equally often.

    Where there are fewer than `count`, all of them.
    """
    count = min(count, len(among))
    return [among[(study * count + k) % len(among)] for k in range(count)]


def region_masks(network: MSTKDNet, logits: Tensor) -> Tensor:
    """(B, 4, z, y, x) logits -> (B, 3, z, y, x) bool WT, TC, ET."""
    return regions(network.probabilities(logits.float())) > 0.5


@torch.no_grad()
@torch.backends.cudnn.flags(benchmark=False, enabled=True)  # every study has its own size: no search for each of them
def predict(network: MSTKDNet, study: Sample, subset: tuple[str, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits (1, 4, z, y, x) and class indices (1, z, y, x) of the brain's box, padded to what the network takes."""
    box = bounding_box(study.brain)  # of all sequences, for pictures to lie on one another; the engine's may be smaller
    labels = study.labels[box]
    pads = [(0, -side % network.multiple) for side in labels.shape]
    image = np.pad(study.image[(slice(None), *box)], [(0, 0), *pads])
    image = torch.from_numpy(image.astype(np.float32)).to(device)[None]
    truth = torch.from_numpy(np.pad(labels, pads, constant_values=BACKGROUND)).to(device)[None].long()
    present = torch.tensor(presence(subset), device=device).float()
    return network(image * present.view(1, 4, 1, 1, 1), present[None]), truth


@torch.no_grad()
def validate(
    network: MSTKDNet,
    studies: Sequence[Sample],
    device: torch.device,
    config: ValidationConfig,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, dict[str, float]] | None:
    """Mean Dice per subset and region. For watching and for choosing a checkpoint; `eval.py` measures what users get.

    Args:
        config: which subsets, and how many of them per study.
        stopped: is asked before each subset of each study; once it says so, there is no result.
    """
    network.eval()
    among = [parse_subset(name) for name in config.only] or SUBSETS
    rows: dict[str, list[Tensor]] = {}
    for number, study in enumerate(studies):
        for subset in schedule(number, config.subsets, among):
            if stopped():
                return None
            logits, truth = predict(network, study, subset, device)
            wanted = regions(one_hot(truth))
            # an absent region that is not found counts as 1
            dice = compute_dice(region_masks(network, logits).float(), wanted, ignore_empty=False)[0]
            rows.setdefault(subset_name(subset), []).append(dice)
    order = [name for name in map(subset_name, SUBSETS) if name in rows]
    return {name: dict(zip(REGIONS, torch.stack(rows[name]).mean(dim=0).tolist(), strict=True)) for name in order}


@torch.no_grad()
def picture(network: MSTKDNet, study: Sample, device: torch.device) -> np.ndarray:
    """uint8 (height, width, 3): the axial slice with most tumour; truth, then what each of PICTURED finds."""
    network.eval()
    box = bounding_box(study.brain)
    labels = study.labels[box]
    z = int(np.argmax((labels != BACKGROUND).sum(axis=(1, 2))))
    grey = study.image[(0, *box)][z : z + 1].astype(np.float32)
    grey = (grey - grey.min()) / max(float(np.ptp(grey)), 1e-6)
    panels = []
    for subset in (None, *PICTURED):
        if subset is None:
            levels = regions(one_hot(torch.from_numpy(labels)[None].long())).sum(dim=1)[0]
        else:
            logits, _ = predict(network, study, subset, device)
            levels = region_masks(network, logits).sum(dim=1)[0].cpu()
        label = levels[z : z + 1, : grey.shape[1], : grey.shape[2]].float().numpy() / len(REGIONS)
        panels.append(blend_images(grey, label, alpha=0.5, cmap="jet", rescale_arrays=False))
    return (np.concatenate(panels, axis=2).transpose(1, 2, 0) * 255).clip(0, 255).astype(np.uint8)
