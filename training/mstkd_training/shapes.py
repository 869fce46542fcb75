"""Real tumours of other patients as shapes: cut out, and put into another head turned, scaled and bent."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from MSTKDSegmenterLib.engine.geometry import bounding_box
from MSTKDSegmenterLib.engine.regions import CLASSES

from .cases import patient_of
from .files import archived
from .patches import MASKS
from .patches import SPACING as MASK_SPACING

NCR, ED, ET, NONE = (CLASSES.index(name) for name in ("NCR", "ED", "ET", "background"))
CAVITY = len(CLASSES)
"""Within the generator a resection cavity has a value of its own; in the labels of a study it is background."""
TREATED = "brats2024_gli_masks.npz.xz"
BRAIN = (120.0, -107.0, 77.0)
"""Centroid of the brain in the BraTS field (x, y, z; LPS, mm), from the studies at hand; varies by a few mm."""
_MNI_BRAIN = (0.0, 20.0, 8.0)  # the same in MNI space
_VALUES = {1: NCR, 2: ED, 3: ET}
_LEAST_MM3 = 500.0


@dataclass(frozen=True)
class Shape:
    """labels: uint8 (z, y, x), indices into CLASSES or CAVITY. spacing: mm, z, y, x.

    offset: from the centroid of the brain to the middle of the box, mm (z, y, x; axes S, P, L).
    """

    labels: np.ndarray
    spacing: np.ndarray
    offset: np.ndarray


def load_shapes(folder: Path, without: Collection[str] = ()) -> tuple[list[Shape], list[Shape]]:
    """Tumours before any treatment and after a resection, from the archives in `folder`.

    Args:
        without: patients whose shapes shall not be used, because they test or validate.

    Raises:
        FileNotFoundError: an archive is missing.
    """
    before, after = archived(folder / MASKS), archived(folder / TREATED)
    # the field starts half a BraTS voxel before (0, -239, 0)
    first = 0.5 * np.array(MASK_SPACING) - 0.5 + (0.0, -239.0, 0.0)
    untreated = [
        _cut(labels.transpose(2, 1, 0), {**_VALUES, 4: ET}, MASK_SPACING, first - BRAIN)
        for labels, patient in zip(before["labels"], before["patient"])
        if str(patient) not in without
    ]
    directions = np.diag(after["affine"])[:3] * (-1, -1, 1)  # stored for axes R, A, S
    flips = tuple(slice(None, None, 1 if d > 0 else -1) for d in directions)
    start = after["affine"][:3, 3] * (-1, -1, 1)
    first = np.where(directions > 0, start, start + directions * (np.array(after["labels"].shape[1:]) - 1))
    treated = [
        _cut(labels[flips].transpose(2, 1, 0), {**_VALUES, 4: CAVITY}, np.abs(directions), first - _MNI_BRAIN)
        for labels, case in zip(after["labels"], after["case"])
        if patient_of(str(case)) not in without
    ]
    return [shape for shape in untreated if shape], [shape for shape in treated if shape]


def patients(folder: Path) -> set[str]:
    """Whose tumours the archives in `folder` hold."""
    untreated, treated = archived(folder / MASKS, "patient")["patient"], archived(folder / TREATED, "case")["case"]
    return {*map(str, untreated), *(patient_of(str(case)) for case in treated)}


def place(
    shape: Shape, size: tuple[int, ...], spacing: float, at: np.ndarray, rng: np.random.Generator, mirrored: bool
) -> np.ndarray:
    """The shape on another grid, its box's middle `at` mm (z, y, x) from the grid's first voxel. uint8 `size`.

    Turned by up to 20 degrees about each axis, scaled by 0.75 to 1.3, bent by some mm; what sticks out is lost.
    """
    scale = rng.uniform(0.75, 1.3) * rng.uniform(0.9, 1.1, 3)
    turn = np.reshape(sitk.Euler3DTransform((0.0, 0.0, 0.0), *np.deg2rad(rng.uniform(-20, 20, 3))).GetMatrix(), (3, 3))
    if mirrored:
        turn = turn @ np.diag((1.0, 1.0, -1.0))
    half = np.array(shape.labels.shape) * shape.spacing / 2
    reach = np.linalg.norm(half * scale) + 6.0
    low = np.clip(np.floor((at - reach) / spacing), 0, size).astype(int)
    high = np.clip(np.ceil((at + reach) / spacing) + 1, 0, size).astype(int)
    result = np.full(size, NONE, dtype=np.uint8)
    if np.any(high <= low):
        return result
    axes = [torch.arange(a, b) * spacing - c for a, b, c in zip(low, high, at)]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).float()
    bend = torch.from_numpy(rng.standard_normal((1, 3, 5, 5, 5), dtype=np.float32)) * float(rng.uniform(0.0, 4.0))
    points += F.interpolate(bend, size=points.shape[:3], mode="trilinear", align_corners=True)[0].permute(1, 2, 3, 0)
    matrix = (np.linalg.inv(turn * scale) / half[:, None]).T  # and to -1..1 over the box
    grid = (points @ torch.from_numpy(matrix.astype(np.float32))).flip(-1)[None]
    kinds = np.unique(shape.labels[shape.labels != NONE])
    indicators = torch.from_numpy(np.stack([shape.labels == kind for kind in kinds]).astype(np.float32))[None]
    scores = F.grid_sample(indicators, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0].numpy()
    inner = np.where(scores.sum(axis=0) > 0.5, kinds[scores.argmax(axis=0)], NONE)
    result[tuple(slice(a, b) for a, b in zip(low, high))] = inner
    return result


def _cut(labels: np.ndarray, values: Mapping[int, int], spacing: Sequence[float], first: np.ndarray) -> Shape | None:
    """The box around a tumour, (z, y, x); spacing and the first voxel's place are x, y, z. None if it is too small."""
    sides, first = np.array(spacing)[::-1], first[::-1]
    if np.count_nonzero(labels) * np.prod(sides) < _LEAST_MM3:
        return None
    where = bounding_box(labels != 0)
    middle = np.array([(side.start + side.stop - 1) / 2 for side in where])
    table = np.full(256, NONE, dtype=np.uint8)
    table[list(values)] = list(values.values())
    return Shape(table[labels[where]], sides, first + middle * sides)
