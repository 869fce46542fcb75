"""Which sequence's grid the result comes back on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

PREFERENCE = ("T1ce", "FLAIR", "T2", "T1")
"""Among equally fine grids: the images on which a tumour is usually outlined and operations are planned come first."""

_WHOLE_HEAD_MM = 100.0  # a field of view that is shorter along some axis cannot hold a whole adult brain
_ABOUT_EQUAL = 1.1


@dataclass(frozen=True)
class Reference:
    """The chosen sequence and why, as a sentence for the report."""

    sequence: str
    reason: str


def choose_reference(images: Mapping[str, sitk.Image]) -> Reference:
    """The sequence with the best-resolved image of the whole head.

    Thin slices decide first, because they decide how smooth and how exact a segmentation is in 3D; then the smaller
    voxel volume; what differs by no more than 10 % counts as equal, and then ``PREFERENCE`` decides. A slab that
    cannot hold the whole brain is only taken when there is nothing else.

    Args:
        images: 3-D images by sequence, at least one.
    """
    if len(images) == 1:
        return Reference(next(iter(images)), "It is the only sequence.")
    whole = {name: image for name, image in images.items() if _shortest_side(image) >= _WHOLE_HEAD_MM}
    candidates = dict(whole or images)
    reasons = []
    if len(candidates) < len(images):
        reasons.append("it covers the whole head")
    for measure, reason in ((_thickness, "it has the thinnest slices"), (_voxel_volume, "it has the smallest voxels")):
        finest = min(measure(image) for image in candidates.values())
        left = {name: image for name, image in candidates.items() if measure(image) <= _ABOUT_EQUAL * finest}
        if len(left) < len(candidates):
            reasons.append(f"{reason} ({finest:.3g} mm)" if measure is _thickness else reason)
        candidates = left
    chosen = next(name for name in PREFERENCE if name in candidates)
    if len(candidates) > 1:
        others = ", ".join(name for name in PREFERENCE if name in candidates and name != chosen)
        reasons.append(f"of equally fine images ({others}) it is the one on which tumours are more often outlined")
    return Reference(chosen, _sentence(reasons))


def _shortest_side(image: sitk.Image) -> float:
    return float(min(np.array(image.GetSize()) * image.GetSpacing()))


def _thickness(image: sitk.Image) -> float:
    return max(image.GetSpacing())


def _voxel_volume(image: sitk.Image) -> float:
    return float(np.prod(image.GetSpacing()))


def _sentence(reasons: list[str]) -> str:
    text = "; ".join(reasons)
    return text[0].upper() + text[1:] + "."
