"""What a subset of sequences is good for, and whether a result can be believed.

Expectations come only from the quality table measured for the model (model.json); nothing here is a guess about a
network that was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .regions import REGIONS
from .sequences import SEQUENCES, in_channel_order, subset_name

if TYPE_CHECKING:
    from .geometry import Grid  # loads SimpleITK, and the panel needs only the expectations

QualityTable = Mapping[str, Mapping[str, float]]
"""Subset name -> region -> mean Dice on studies kept out of training when measured."""

GOOD, FAIR = 0.75, 0.5
"""Mean Dice, rounded as it is shown, from which a region counts as good, and below which as not reliable."""

NOT_RELIABLE = "not reliable"
"""The grade of a region that a subset of sequences cannot support."""

FULL_NAME = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}

SMALLEST_GAIN = 0.02
"""Mean Dice by which a further sequence must raise the mean over the regions to be called helpful: tables measured on
a few studies do not tell smaller differences from chance."""

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


@dataclass(frozen=True)
class Helpful:
    """The absent sequence that would help most, and what it would add to the mean Dice, over all and by region."""

    sequence: str
    gain: float
    by_region: Mapping[str, float]


@dataclass(frozen=True)
class Outlook:
    """What a subset of sequences is good for, before anything is computed.

    Attributes:
        regions: what to expect, by region; empty if this was not measured for the model.
        unsupported: the regions whose grade is "not reliable".
        helpful: the absent sequence that would help most, or None.
        sentence: one line about what a further sequence would bring.
    """

    regions: Mapping[str, Expectation]
    unsupported: tuple[str, ...]
    helpful: Helpful | None
    sentence: str


def outlook(table: QualityTable, subset: Iterable[str]) -> Outlook:
    """What to expect from a subset of sequences (an empty one too) by the table measured for the model.

    Raises:
        KeyError: a name that is not one of ``SEQUENCES``.
    """
    given = in_channel_order(subset)
    regions = expectations(table, given)
    unsupported = tuple(region for region, expected in regions.items() if expected.grade == NOT_RELIABLE)
    helpful = _most_helpful(table, given)
    return Outlook(regions, unsupported, helpful, _sentence(given, bool(regions), helpful))


def expectations(table: QualityTable, subset: Iterable[str]) -> dict[str, Expectation]:
    """Region -> expectation for a subset of sequences; empty if the model came without a measured table."""
    row = table.get(subset_name(subset), {})
    return {region: Expectation(row[region], _grade(row[region])) for region in REGIONS if region in row}


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
        found.append(_sentence(given, False, None))
    for region, expectation in expected.items():
        if expectation.grade == NOT_RELIABLE:
            found.append(
                f"{region} ({FULL_NAME[region]}) is not reliable from {subset_name(given)}: "
                f"mean Dice {expectation.dice:.2f} on the studies that it was measured on."
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
    shown = round(dice, 2)
    if shown >= GOOD:
        return "good"
    return "fair" if shown >= FAIR else NOT_RELIABLE


def _most_helpful(table: QualityTable, given: tuple[str, ...]) -> Helpful | None:
    now = expectations(table, given)
    if not now:
        return None
    candidates = []
    for sequence in SEQUENCES:
        then = {} if sequence in given else expectations(table, {*given, sequence})
        if then:
            gains = {region: then[region].dice - now[region].dice for region in now}
            candidates.append(Helpful(sequence, float(np.mean(list(gains.values()))), gains))
    best = max(candidates, key=lambda candidate: candidate.gain, default=None)
    return best if best is not None and best.gain >= SMALLEST_GAIN else None


def _sentence(given: tuple[str, ...], measured: bool, helpful: Helpful | None) -> str:
    if not given:
        return "No sequence is chosen yet."
    if not measured:
        return f"The model has no measured quality for {subset_name(given)}: judge every region by eye."
    if len(given) == len(SEQUENCES):
        return "All four sequences are there."
    if helpful is None:
        return "No further sequence is expected to help much."
    region, gain = max(helpful.by_region.items(), key=lambda item: item[1])
    return f"Adding {helpful.sequence} would help most: mean Dice +{helpful.gain:.2f} ({region} +{gain:.2f})."


def _touches_border(mask: np.ndarray) -> bool:
    return any(mask.take(index, axis=axis).any() for axis in range(3) for index in (0, -1))
