"""Heads for synthetic studies: how much of every 2 mm voxel each tissue takes, so that thin sulci are not lost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import bounding_box

from .anatomy import NAMES, brain_region, tissue_map
from .label_maps import Arrays, prepared

TISSUES: dict[str, tuple[str, ...]] = {
    "white_matter": ("white_matter",),
    "white_matter_lesion": ("white_matter_lesion",),
    "cortex": ("cortex",),
    "deep_grey": ("deep_grey",),
    "stem": ("brain_stem", "cerebellum_white"),
    "cerebellum": ("cerebellum_cortex",),
    "ventricle": ("ventricle",),
    "csf": ("csf", "vessel"),
}
"""Tissues that are told apart, by what the label maps call them; the rest, dura and bone, is `outside`."""
CHANNELS = (*TISSUES, "outside", "brain")
SPACING = 2.0
_FACTOR = 2  # label map voxels of 1 mm per voxel
_MARGIN_MM = 12


@dataclass(frozen=True)
class Head:
    """Shares of CHANNELS per voxel, uint8 (C, z, y, x), 255 = all of it; the tissues sum to 255, `brain` is apart.

    The grid is a box around the brain with axes L, P, S and SPACING. centre: centroid of the brain, voxels (z, y, x).
    """

    name: str
    shares: np.ndarray
    centre: np.ndarray


def head_from_tissue(tissue: np.ndarray, name: str) -> Head:
    """Tissue indices into anatomy.NAMES at 1 mm, (z, y, x) with axes S, P, L -> Head."""
    brain = brain_region(tissue)
    used = bounding_box(brain)
    widths = [(max(0, _MARGIN_MM - u.start), max(0, u.stop + _MARGIN_MM - n)) for u, n in zip(used, tissue.shape)]
    tissue, brain = np.pad(tissue, widths), np.pad(brain, widths)  # 0 is air
    box = []
    for (before, _), u in zip(widths, used):
        low, count = u.start + before - _MARGIN_MM, u.stop - u.start + 2 * _MARGIN_MM
        box.append(slice(low, low + count // _FACTOR * _FACTOR))
    tissue, brain = tissue[tuple(box)], brain[tuple(box)]
    shares = [_share(np.isin(tissue, [NAMES.index(n) for n in members])) for members in TISSUES.values()]
    outside = 255 - np.sum(shares, axis=0, dtype=np.int32)
    shares = np.stack([*shares, np.clip(outside, 0, 255).astype(np.uint8), _share(brain)])
    return Head(name, shares, np.argwhere(shares[-1] > 127).mean(axis=0))


def load_heads(archive: Path, cache: Path) -> list[Head]:
    """All label maps of a tar archive, sorted by name. The first call takes two minutes and fills `cache`.

    Raises:
        FileNotFoundError: there is no such archive.
    """

    def prepare(image: sitk.Image, name: str) -> Arrays:
        head = head_from_tissue(tissue_map(image, name), name)
        return {"shares": head.shares, "centre": head.centre}

    return [Head(name, **arrays) for name, arrays in prepared(archive, cache, prepare)]


def _share(mask: np.ndarray) -> np.ndarray:
    z, y, x = (side // _FACTOR for side in mask.shape)
    votes = mask.reshape(z, _FACTOR, y, _FACTOR, x, _FACTOR).sum(axis=(1, 3, 5), dtype=np.float32)
    return np.floor(votes * (255 / _FACTOR**3)).astype(np.uint8)
