"""From a study as it came to what the network takes: one grid, one brain, one intensity scale; and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from .alignment import align, look_inside, naming
from .geometry import HALF, Grid, resample, working_grid
from .normalise import normalise
from .progress import Job
from .reference import choose_reference
from .register import INSIDE_MM
from .sequences import SEQUENCES
from .similarity import Agreement
from .study import Study

MARGIN_MM = 6.0
"""What the working grid has around the brain. Networks are not shown it (inference.py); crops for training may be."""

_NOTED_COVERAGE = 0.95  # of the brain; a stack that misses more of it is mentioned

_USUAL_BRAIN_ML = (900.0, 2100.0)
"""Of an adult's brain with ventricles and fluid. The stripped and native studies at hand have 1340 to 1680 ml."""

_LEAST_SHARE = 1e-3
"""What values are divided by at least; where so little was measured, nothing counts."""

_LEAST_INSIDE = 1.3
"""Sharpness (see similarity.py) inside the brain from which images count as aligned: 84 pairs of 14 BraTS studies had
1.45 to 13.7; mirrored, of two patients, or 9 to 19 mm apart under one mask 0.87 to 1.05. 5 mm cannot be told so."""
_FEWEST_INSIDE = 10_000
"""Voxels in which that can be judged."""

_CUT_CM2 = 55.0
"""Of brain where the image ends: the lowest slice of a complete scan shows some cerebellum, but no more.

TCGA-FG-6692 has 21 to 38 cm2 there, up to 52 with its air set to zero; through the middle of the brain it is 150.
"""


@dataclass
class Harmonised:
    """A study on the working grid.

    channels: float32 (4, z, y, x) in channel order, see ``normalise``; an absent sequence is all zeros.
    present: which channels hold a sequence. brain: bool (z, y, x). grid: where these arrays lie.
    reference, reference_grid: the sequence that results go back to, and its native grid.
    transforms: per present sequence, from physical points of the reference to those of the sequence (LPS, mm).
    findings: what a reader should check. record: the same and more, as plain values for report.json.
    """

    channels: np.ndarray
    present: tuple[bool, bool, bool, bool]
    brain: np.ndarray
    grid: Grid
    reference: str
    reference_grid: Grid
    transforms: dict[str, sitk.Transform]
    findings: list[str]
    record: dict[str, Any]


def harmonise(study: Study, spacing: float, multiple: int, job: Job | None = None) -> Harmonised:
    """Align, resample and normalise the sequences of a study.

    The working grid follows the axes of the reference, so headers that are flipped, permuted, shifted or rotated as a
    whole give the same arrays. Every sequence is interpolated once, from its native grid.

    Args:
        study: checked, at least one sequence.
        spacing: side of the cubic working voxels, mm.
        multiple: the sides of the working grid are multiples of this.
        job: told about progress, asked for cancellation.

    Raises:
        UnusableInput: no brain is found, or the sequences are not of one head.
        Cancelled: on request.
    """
    job = job or Job()
    images = {name: study.images[name].image for name in study.subset}
    reference = choose_reference(images)
    alignment = align(images, reference.sequence, job.part(0.0, 0.7), study.same_patient)
    job.report("harmonise", 0.7, "bringing the sequences onto the working grid")
    grid = working_grid(alignment.brain, spacing, MARGIN_MM, multiple)
    brain = _inside(alignment.brain, grid)
    channels = np.zeros((len(SEQUENCES), *grid.shape), dtype=np.float32)
    measured: dict[str, np.ndarray] = {}

    def fill(name: str) -> None:
        job.check()
        transform = alignment.transforms[name]
        measured[name] = brain & _inside(alignment.extents[name], grid, transform)
        # around a stripped brain nothing is measured, and networks have learnt what its border looks like
        padded = None if alignment.record["skull_stripped"][name] else alignment.extents[name]
        values = _values(images[name], padded, grid, transform)
        with naming(name):
            channels[SEQUENCES.index(name)] = normalise(sitk.GetArrayViewFromImage(values), measured[name])

    for name in images:
        fill(name)
    for name in _apart_inside(channels, measured, reference.sequence, alignment.record["skull_stripped"], grid):
        if look_inside(alignment, name, images, reference.sequence, job.part(0.7, 1.0)):
            fill(name)
    coverage = {name: np.count_nonzero(shown) / max(np.count_nonzero(brain), 1) for name, shown in measured.items()}
    stripped = alignment.record["skull_stripped"][reference.sequence]
    job.report("harmonise", 1.0, f"{' x '.join(map(str, grid.size))} voxels of {spacing:g} mm")
    return Harmonised(
        channels=channels,
        present=tuple(name in images for name in SEQUENCES),
        brain=brain,
        grid=grid,
        reference=reference.sequence,
        reference_grid=Grid.of(images[reference.sequence]),
        transforms=alignment.transforms,
        findings=[
            *alignment.findings,
            *_brain_findings(alignment.brain, None if stripped else alignment.extents[reference.sequence]),
            *_coverage_findings(coverage),
        ],
        record={
            "reference": reference.sequence,
            "reference_reason": reference.reason,
            **alignment.record,
            "brain_ml": round(_millilitres(alignment.brain), 1),
            "reference_to_sequence_lps": {name: _matrix(alignment.transforms[name]) for name in images},
            "share_of_brain_covered": {name: round(share, 3) for name, share in coverage.items()},
        },
    )


def to_reference(volume: np.ndarray, harmonised: Harmonised) -> Iterator[np.ndarray]:
    """Probabilities on the working grid -> the reference's native grid, one channel at a time: native grids are large.

    Args:
        volume: float32 (C, z, y, x) on ``harmonised.grid``.

    Yields:
        For each channel float32 (z, y, x) on ``harmonised.reference_grid``, interpolated linearly in physical space; 0
        outside the working grid.
    """
    for channel in volume:
        image = harmonised.grid.image(channel.astype(np.float32, copy=False))
        yield sitk.GetArrayFromImage(resample(image, harmonised.reference_grid))


def _apart_inside(
    channels: np.ndarray, measured: Mapping[str, np.ndarray], reference: str, stripped: Mapping[str, bool], grid: Grid
) -> list[str]:
    """The skull-stripped sequences that agree little with the stripped reference but for their outline."""
    found = []
    for name in measured:
        if name == reference or not (stripped[name] and stripped[reference]):
            continue
        both = grid.image(measured[name] & measured[reference])
        region = sitk.BinaryErode(both, (round(INSIDE_MM / grid.spacing[0]),) * 3)
        if np.count_nonzero(sitk.GetArrayViewFromImage(region)) < _FEWEST_INSIDE:
            continue
        one, other = (grid.image(channels[SEQUENCES.index(key)]) for key in (reference, name))
        if Agreement(one, region, other).sharpness(sitk.Transform(3, sitk.sitkIdentity)) < _LEAST_INSIDE:
            found.append(name)
    return found


def _values(image: sitk.Image, measured: sitk.Image | None, grid: Grid, transform: sitk.Transform) -> sitk.Image:
    """An image on the working grid; where it is padded, from what was measured alone, or a dark rim would remain."""
    if measured is None or sitk.GetArrayViewFromImage(measured).all():
        return resample(image, grid, transform=transform, antialias=True)
    weight = sitk.Cast(measured > 0, sitk.sitkFloat32)
    values, share = (resample(one, grid, transform=transform, antialias=True) for one in (image * weight, weight))
    return values / sitk.Maximum(share, _LEAST_SHARE)


def _inside(mask: sitk.Image, grid: Grid, transform: sitk.Transform | None = None) -> np.ndarray:
    """A mask on another grid, bool (z, y, x)."""
    moved = resample(sitk.Cast(mask, sitk.sitkFloat32), grid, transform=transform)
    return sitk.GetArrayFromImage(moved) > HALF


def _matrix(transform: sitk.Transform) -> list[list[float]]:
    """A rigid transform as a 4x4 matrix on homogeneous points (LPS, mm), rows first."""
    shift = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    columns = [np.array(transform.TransformPoint(axis)) - shift for axis in np.eye(3).tolist()]
    matrix = np.vstack([np.column_stack([*columns, shift]), (0, 0, 0, 1)])
    return np.round(matrix, 6).tolist()


def _millilitres(mask: sitk.Image) -> float:
    return np.count_nonzero(sitk.GetArrayViewFromImage(mask)) * float(np.prod(mask.GetSpacing())) / 1000


def _brain_findings(brain: sitk.Image, extent: sitk.Image | None) -> list[str]:
    """What is odd about the brain region: its size, or that the image, or what was measured of it, ends within it."""
    array, spacing = sitk.GetArrayViewFromImage(brain) > 0, np.array(brain.GetSpacing()[::-1])
    volume_ml = _millilitres(brain)
    low, high = _USUAL_BRAIN_ML
    found = []
    if not low <= volume_ml <= high:
        found.append(
            f"The brain region has {volume_ml:.0f} ml, adults have {low:.0f} to {high:.0f} ml: the images show a part "
            "of the brain only, or it was not found right. Everything rests on it, so look at it."
        )
    cut = _cut_cm2(array, np.ones_like(array) if extent is None else sitk.GetArrayViewFromImage(extent) > 0, spacing)
    if cut > _CUT_CM2:
        found.append(
            f"The image ends within the brain, with {cut:.0f} cm2 of it at its border: what lies beyond is not "
            "segmented, volumes are lower bounds."
        )
    return found


def _cut_cm2(brain: np.ndarray, measured: np.ndarray, spacing: np.ndarray) -> float:
    """Area of the plane in which the brain leaves what was measured, whatever its direction; of several, the largest.

    A plane shows its area times one component of its normal along each axis; bool (z, y, x), mm.
    """
    brain, measured = np.pad(brain & measured, 1), np.pad(measured, 1)
    shows = []
    for axis in range(3):
        face = float(np.prod(np.delete(spacing, axis))) / 100
        sides = [np.count_nonzero(brain & ~np.roll(measured, step, axis)) for step in (1, -1)]
        shows.append(face * max(sides))
    return float(np.linalg.norm(shows))


def _coverage_findings(coverage: dict[str, float]) -> list[str]:
    return [
        f"{name} shows only {share:.0%} of the brain; elsewhere the result rests on the other sequences."
        for name, share in coverage.items()
        if share < _NOTED_COVERAGE
    ]
