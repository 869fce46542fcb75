"""How well two images of any contrast agree in a region, and whether they agree there and nowhere else."""

from __future__ import annotations

from itertools import product

import numpy as np
import SimpleITK as sitk

from .geometry import Grid, resample

BINS = 32
OFFSET_MM = 10.0
"""How far the images are shifted apart for `sharpness`: beyond a thick slice and the width of a gyrus."""


class Agreement:
    """Compares a fixed image with a moving one in a region of the fixed one, for any transform between them.

    Args:
        fixed: 3-D float32.
        region: mask on the grid of ``fixed``, nonzero where to compare, not empty.
        moving: 3-D float32 on any grid.

    Transforms map physical points of ``fixed`` to physical points of ``moving`` (LPS, mm).
    """

    def __init__(self, fixed: sitk.Image, region: sitk.Image, moving: sitk.Image) -> None:
        self._grid = Grid.of(fixed)
        self._inside = sitk.GetArrayFromImage(region) != 0
        self._fixed = sitk.GetArrayFromImage(fixed)[self._inside]
        self._moving = moving

    def coverage(self, transform: sitk.Transform) -> float:
        """Share of the region that lies in the moving image's field of view."""
        return float(np.isfinite(self._values(transform)).mean())

    def similarity(self, transform: sitk.Transform) -> float:
        """Normalised mutual information where both images have data: 1 for unrelated images, 2 for equal ones.

        (H(A) + H(B)) / H(A, B) of the joint histogram, Studholme et al., Pattern Recognition 32 (1999).
        """
        moving = self._values(transform)
        both = np.isfinite(moving)
        if np.count_nonzero(both) < BINS**2:
            return 1.0
        bins = _binned(self._fixed[both]) * BINS + _binned(moving[both])
        joint = np.bincount(bins, minlength=BINS**2).reshape(BINS, BINS) / bins.size
        together = _entropy(joint)
        return (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / together if together > 0 else 1.0

    def sharpness(self, transform: sitk.Transform) -> float:
        """Shared information at ``transform``, divided by the mean of what is left 10 mm away in the six directions.

        Any two heads share some information wherever they lie upon each other, because tissues lie in similar places.
        Only two images of the same head agree fold by fold, so that a shift of a few millimetres costs them much.
        """
        shifts = [np.array(axis) * sign * OFFSET_MM for axis, sign in product(np.eye(3), (-1, 1))]
        away = [
            self.similarity(sitk.CompositeTransform([transform, sitk.TranslationTransform(3, shift.tolist())]))
            for shift in shifts
        ]
        return (self.similarity(transform) - 1) / max(float(np.mean(away)) - 1, 1e-6)

    def _values(self, transform: sitk.Transform) -> np.ndarray:
        """The moving image in the region, NaN outside its field of view."""
        moved = resample(self._moving, self._grid, transform=transform, default=float("nan"))
        return sitk.GetArrayViewFromImage(moved)[self._inside]


def _binned(values: np.ndarray) -> np.ndarray:
    low, high = np.percentile(values, (0.5, 99.5))
    return np.clip((values - low) / max(high - low, 1e-12) * BINS, 0, BINS - 1).astype(np.int64)


def _entropy(shares: np.ndarray) -> float:
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())
