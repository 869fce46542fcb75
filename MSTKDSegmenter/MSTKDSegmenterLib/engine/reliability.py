"""What a subset of sequences is good for, and whether a result can be believed.

Expectations come only from the quality table measured for the model (model.json); nothing here is a guess about a
network that was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .geometry import Grid
from .regions import REGIONS
from .sequences import SEQUENCES, subset_name

QualityTable = Mapping[str, Mapping[str, float]]
"""Subset name -> region -> mean Dice on studies that the model was not trained on."""

GOOD, FAIR = 0.75, 0.5
"""Mean Dice from which a region counts as good, and below which as not reliable."""

FULL_NAME = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}

LARGEST_SHARE = 0.5
"""A whole tumour above this share of the brain is not believed: it is far beyond what the public studies hold."""

SMALLEST_ML = 0.1
"""A whole tumour below this volume is more often noise than tumour."""


_THICK_MM = 2.0


@dataclass(frozen=True)
class Expectation:
    """What to expect of one region: mean Dice measured, and its grade "good", "fair" or "not reliable"."""

    dice: float
    grade: str


def expectations(table: QualityTable, subset: Iterable[str]) -> dict[str, Expectation]:
    """Region -> expectation for a subset of sequences; empty if the model came without a measured table."""
    row = table.get(subset_name(subset), {})
    return {region: Expectation(row[region], _grade(row[region])) for region in REGIONS if region in row}


def most_helpful(table: QualityTable, subset: Iterable[str]) -> tuple[str, float] | None:
    """The absent sequence whose addition raises the mean Dice over the regions most, and by how much.

    None if all four are there, if the table does not cover the subset, or if none would help.
    """
    given = set(subset)
    now = _mean(table, given)
    gains = {s: _mean(table, given | {s}) - now for s in SEQUENCES if s not in given}
    gains = {s: gain for s, gain in gains.items() if gain > 0}
    if not gains:
        return None
    best = max(gains, key=lambda s: gains[s])
    return best, gains[best]


def volumes(masks: Mapping[str, np.ndarray], grid: Grid) -> dict[str, float]:
    """Volume of each region in ml: voxels x voxel volume (mm^3) / 1000."""
    voxel = float(np.prod(grid.spacing)) / 1000
    return {region: float(np.count_nonzero(mask)) * voxel for region, mask in masks.items()}


def findings(
    masks: Mapping[str, np.ndarray], grid: Grid, subset: Iterable[str], table: QualityTable, brain_ml: float
) -> list[str]:
    """Plain sentences about everything that should make a reader look twice at this result.

    Args:
        masks: region -> bool (z, y, x) on `grid`.
        brain_ml: volume of the brain that was found, ml.
    """
    given = tuple(subset)
    size = volumes(masks, grid)
    found: list[str] = []
    if not masks["WT"].any():
        found.append(
            "Empty result: no voxel reached the threshold for whole tumour. There is no tumour, or it was missed: "
            "look at the images."
        )
    elif size["WT"] < SMALLEST_ML:
        found.append(f"Whole tumour has only {size['WT']:.2f} ml: this may be noise rather than tumour.")
    if brain_ml > 0 and size["WT"] > LARGEST_SHARE * brain_ml:
        found.append(
            f"Implausible: whole tumour fills {100 * size['WT'] / brain_ml:.0f} % of the brain "
            f"({size['WT']:.0f} of {brain_ml:.0f} ml). Check the sequences' assignment and the brain region."
        )
    if _touches_border(masks["WT"]):
        found.append("The tumour reaches the border of the image: its volume is a lower bound.")
    if masks["ET"].any() and "T1ce" not in given:
        found.append(
            "Enhancing tumour was marked without T1ce: enhancement cannot be seen, only guessed from the rest."
        )
    expected = expectations(table, given)
    if not expected:
        found.append(f"The model has no measured quality for {subset_name(given)}: judge every region by eye.")
    for region, expectation in expected.items():
        if expectation.grade == "not reliable":
            found.append(
                f"{region} ({FULL_NAME[region]}) is not reliable from {subset_name(given)}: "
                f"mean Dice {expectation.dice:.2f} on the studies kept for measuring."
            )
    return found


def unlike_measured(stripped: Iterable[bool], thickest_mm: float, registered: bool) -> list[str]:
    """A finding if the study is of another kind than those that models are measured on: stripped, 1 mm, co-registered.

    Args:
        stripped: of every sequence, whether it is.
        thickest_mm: largest spacing of any sequence.
    """
    kinds = {
        "the skull is on": not all(stripped),
        f"slices are up to {thickest_mm:.1f} mm apart": thickest_mm > _THICK_MM,
        "sequences had to be registered": registered,
    }
    here = [kind for kind, true in kinds.items() if true]
    if not here:
        return []
    return [
        "The expected Dice was measured on skull-stripped, co-registered studies with 1 mm voxels; here "
        f"{' and '.join(here)}. Expect less, and look at the result."
    ]


def _grade(dice: float) -> str:
    if dice >= GOOD:
        return "good"
    return "fair" if dice >= FAIR else "not reliable"


def _mean(table: QualityTable, subset: set[str]) -> float:
    row = table.get(subset_name(subset))
    return float(np.mean([row[region] for region in REGIONS])) if row else float("nan")


def _touches_border(mask: np.ndarray) -> bool:
    return any(mask.take(index, axis=axis).any() for axis in range(3) for index in (0, -1))
