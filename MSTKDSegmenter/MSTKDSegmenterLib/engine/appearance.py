"""Which sequence an image looks like, from its intensities alone: FLAIR, T2, or undecided.

Fluid is found first, as what is much darker or brighter than most of the brain, in the ventricles as well as in the
sulci. Bright fluid everywhere is a T2. Dark fluid is a FLAIR where the tissue next to it, which is grey matter, is as
bright as the white matter deeper in, and a T1 where it is darker. With and without contrast agent look too much alike
to be told apart: a haematoma is as bright on a T1 as an enhancing tumour. Numpy and SimpleITK only, a fraction of a
second: it runs while somebody waits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .background import background_value
from .geometry import Grid
from .names import Recognition

_STEP_MM = 3.0
"""Voxels are skipped, not averaged, to about this distance, so that thin sulci keep their contrast."""

_COARSEST_IN_PLANE_MM = 1.5
"""Coarser images are those of diffusion or perfusion, which may have the contrast of a T2."""

_LOWEST_VALUE = -200.0
"""Below lie the Hounsfield units of air, no intensity of an MRI."""

_STRIPPED_ML, _STRIPPED_CUT_CM2 = (700.0, 2000.0), 40.0
"""Volume of a brain, and how much of it may be on one face of the image; a head has more of either."""

_DEPTH_MM = {True: 5.0, False: 20.0}
"""How far below its surface a stripped brain, or a head with skull, shows brain only."""

_HEIGHT_MM = {True: 110.0, False: 95.0}
"""How far below the top; beyond lie the skull base and the face."""

_SMALLEST_ML = 200.0
_DARK, _BRIGHT = 0.6, 1.5  # times the median of the brain
_NEAR_MM = 10.0
_RADIUS_MM = 12.0
_SHELLS_MM = ((0.5, 3.5), (3.5, 6.5), (6.5, 9.5))
_FEWEST_VOXELS = 200

_MOST_DARK_IN_T2, _LEAST_DARK = 0.05, 0.025
_NEAR_BRIGHT_IN_T2 = 0.8
"""A T2 has more of its brain near bright fluid; many lesions bring a FLAIR to 0.77."""
_LEAST_NEAR_DARK = 0.5
_LEAST_IN_FLAIR, _MOST_IN_T1 = 2.88, 2.82
"""Of ``Fluid.rise``: 16 FLAIR images had 2.85 to 3.13, 31 T1 images with and without contrast agent 2.63 to 2.83. None
of these images was taken for another sequence, nor any of 915 made of them (thick slices, noise, bias, gamma, ...)."""


@dataclass(frozen=True)
class Fluid:
    """What is measured in the brain. Shares are of its voxels.

    dark, bright: share that is. near_dark, near_bright: share that has such a voxel within 10 mm.
    rise: brightness of the tissue next to dark fluid (0.5 to 3.5 mm) plus twice that of the tissue behind (to 6.5 mm),
    over that of the white matter deeper in (to 9.5 mm), each relative to the tissue around it; 3 if all are the same.
    """

    dark: float
    bright: float
    near_dark: float
    near_bright: float
    rise: float


def recognise_intensities(image: sitk.Image) -> Recognition:
    """What a head MRI looks like, or undecided where that is not clear; never excluded.

    Args:
        image: 3-D scalar image in LPS (mm), any real pixel type, with or without skull.
    """
    if sorted(image.GetSpacing())[1] > _COARSEST_IN_PLANE_MM:
        return Recognition(None, "too coarse to be told from diffusion or perfusion by its intensities: undecided")
    head = _head(image)
    if head is None:
        return Recognition(None, "the intensities show no whole head: undecided")
    fluid = measure(head)
    shares = f"fluid dark in {fluid.dark:.0%}, bright in {fluid.bright:.0%} of the brain"
    if fluid.near_bright > _NEAR_BRIGHT_IN_T2:
        if fluid.dark < _MOST_DARK_IN_T2:
            return Recognition("T2", f"looks like a T2: bright fluid in sulci and ventricles ({shares})")
    elif fluid.dark > _LEAST_DARK and fluid.near_dark > _LEAST_NEAR_DARK:
        if fluid.rise > _LEAST_IN_FLAIR:
            return Recognition("FLAIR", f"looks like a FLAIR: dark fluid, bright grey matter ({shares})")
        if fluid.rise < _MOST_IN_T1:
            return Recognition(None, "looks like a T1, with or without contrast agent: undecided")
    return Recognition(None, f"the intensities do not decide ({shares})")


@dataclass(frozen=True)
class Head:
    """values: float32 (z, y, x), 0 in air. brain: bool, the part that is brain for certain. spacing: mm (z, y, x)."""

    values: np.ndarray
    brain: np.ndarray
    spacing: np.ndarray


def measure(head: Head) -> Fluid:
    """Where fluid is, and how bright the tissue beside it."""
    brain, total = head.brain, int(np.count_nonzero(head.brain))
    relative = head.values / np.median(head.values[brain])
    dark, bright = brain & (relative < _DARK), brain & (relative > _BRIGHT)
    tissue = brain & ~dark & ~bright
    from_dark, from_bright = _distance(dark, head.spacing), _distance(bright, head.spacing)
    # against the tissue around: neither a coil's bright side nor an oedema changes that
    local = relative / np.maximum(_mean_around(relative, tissue, head.spacing), 1e-3)
    shells = [tissue & (from_dark > start) & (from_dark <= end) for start, end in _SHELLS_MM]
    rise = float("nan")
    if min(np.count_nonzero(shell) for shell in shells) >= _FEWEST_VOXELS:
        first, second, deep = (float(np.median(local[shell])) for shell in shells)
        rise = (first + 2 * second) / deep
    return Fluid(
        dark=np.count_nonzero(dark) / total,
        bright=np.count_nonzero(bright) / total,
        near_dark=np.count_nonzero(from_dark[brain] <= _NEAR_MM) / total,
        near_bright=np.count_nonzero(from_bright[brain] <= _NEAR_MM) / total,
        rise=rise,
    )


def _head(image: sitk.Image) -> Head | None:
    """The head on a coarse sample of the voxels, or None if there is none to be seen."""
    steps = [max(1, round(_STEP_MM / spacing)) for spacing in reversed(image.GetSpacing())]
    sample = sitk.GetArrayViewFromImage(image)[:: steps[0], :: steps[1], :: steps[2]]
    values = np.nan_to_num(sample.astype(np.float32), posinf=0.0, neginf=0.0)
    spacing = np.array(steps) * image.GetSpacing()[::-1]
    if min(values.shape) < 3 or float(values.min()) < _LOWEST_VALUE or float(values.max()) <= float(values.min()):
        return None
    background = background_value(image)
    outside = np.zeros(values.shape, dtype=bool) if background is None else values == background
    seen = values[~outside]
    if seen.size == 0:
        return None
    low = float(np.percentile(seen, 0.5))
    values = np.clip(np.where(outside, 0.0, values - (low if background is None else min(low, background))), 0.0, None)
    level = float(values[values > values.mean()].mean())
    solid = _solid(values > (0.2 if background is None else 0.02) * level, spacing)
    stripped = background is not None and _like_a_brain(solid, spacing)
    if background is not None and not stripped:
        solid = _solid(values > 0.2 * level, spacing)
    if not solid.any():
        return None
    height = _height(image, values.shape, spacing)
    depth = _distance(~np.pad(solid, 1), spacing)[1:-1, 1:-1, 1:-1]
    brain = (depth > _DEPTH_MM[stripped]) & (height > height[solid].max() - _HEIGHT_MM[stripped])
    if np.count_nonzero(brain) * float(np.prod(spacing)) / 1000 < _SMALLEST_ML:
        return None
    return Head(values, brain, spacing)


def _solid(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """The largest connected part of a mask, gaps closed and holes filled."""
    radius = [max(1, round(2 * _STEP_MM / step)) for step in reversed(spacing.tolist())]
    closed = sitk.BinaryMorphologicalClosing(sitk.GetImageFromArray(mask.astype(np.uint8)), radius)
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(closed), sortByObjectSize=True)
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.Cast(parts == 1, sitk.sitkUInt8))).astype(bool)


def _like_a_brain(solid: np.ndarray, spacing: np.ndarray) -> bool:
    voxel = float(np.prod(spacing))
    low, high = _STRIPPED_ML
    cuts = [
        np.count_nonzero(solid.take(end, axis)) * voxel / spacing[axis] / 100 for axis in range(3) for end in (0, -1)
    ]
    return low <= np.count_nonzero(solid) * voxel / 1000 <= high and max(cuts) <= _STRIPPED_CUT_CM2


def _height(image: sitk.Image, shape: tuple[int, ...], spacing: np.ndarray) -> np.ndarray:
    """How far towards the top of the head each voxel lies, mm from the first one."""
    up = Grid.of(image).axes[2, ::-1] * spacing
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return z * up[0] + y * up[1] + x * up[2]


def _distance(mask: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Of every voxel to the nearest one of the mask, mm; infinite if the mask is empty."""
    if not mask.any():
        return np.full(mask.shape, np.inf, dtype=np.float32)
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    image.SetSpacing(spacing[::-1].tolist())
    away = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
    return np.maximum(sitk.GetArrayFromImage(away), 0.0)


def _mean_around(values: np.ndarray, where: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Mean over the voxels of ``where`` in a box around every voxel."""
    radius = [max(1, round(_RADIUS_MM / step)) for step in reversed(spacing.tolist())]

    def box(array: np.ndarray) -> np.ndarray:
        return sitk.GetArrayFromImage(sitk.BoxMean(sitk.GetImageFromArray(array.astype(np.float32)), radius))

    return box(values * where) / np.maximum(box(where), 1e-3)
