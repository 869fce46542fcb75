"""From counts to what a package stores (temperatures, thresholds, curves), and to what that makes of other studies."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from MSTKDSegmenterLib.engine.calibration import AS_SAID, GROUPS, calibrated_number, group
from MSTKDSegmenterLib.engine.package import ModelPackage
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from scipy.optimize import isotonic_regression

from .counts import BINS, TEMPERATURES, Counts, apart
from .rows import Row

THRESHOLDS = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
"""0.2 to 0.8, all of them on the borders of bins."""
SMALLEST_GAIN = 0.005
"""Mean Dice by which other thresholds must beat one half: a few patients do not tell smaller differences."""
HALF = 0.5
LEAST = 0.02
"""Probability at its temperature from which a voxel counts for reliability; what lies below is the rest of the head.

Before any curve: one that says less of easy voxels must not choose those that it is judged by."""

DIGITS = 5
EDGES = (0, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""Where the ranges of probabilities begin that give a point of a curve each: narrow where most voxels are."""

_CENTRES = (np.arange(BINS) + 0.5) / BINS


Curves = dict[str, list[list[float]]]


@dataclass(frozen=True)
class Calibration:
    """By name of subset what divides the logits, and region -> probability above which a voxel belongs to it.

    curves: region -> group of subsets -> points [said, true], see engine.calibration; regions without are taken at the
    network's word.
    """

    temperatures: dict[str, float]
    thresholds: dict[str, dict[str, float]]
    curves: dict[str, Curves]


@dataclass(frozen=True)
class Reliability:
    """Voxels by calibrated probability: how many, what was said on average and how often it was true, each (n,)."""

    voxels: np.ndarray
    said: np.ndarray
    true: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean |said - true| over the voxels; 0 where there are none."""
        if not self.voxels.size:
            return 0.0
        return float(np.average(np.abs(self.said - self.true), weights=self.voxels))


def none() -> Calibration:
    """Temperatures of 1, thresholds of one half, probabilities as they are said."""
    names = [subset_name(subset) for subset in SUBSETS]
    thresholds = {name: dict.fromkeys(REGIONS, HALF) for name in names}
    return Calibration(dict.fromkeys(names, 1.0), thresholds, {})


def halved(calibration: Calibration) -> Calibration:
    """The same temperatures and curves, thresholds of one half."""
    return replace(calibration, thresholds=none().thresholds)


def with_curves(calibration: Calibration, regions: Collection[str]) -> Calibration:
    """The same without the curves of other regions."""
    return replace(calibration, curves={region: calibration.curves[region] for region in REGIONS if region in regions})


def stored(package: ModelPackage) -> Calibration:
    """What a package does."""
    return Calibration(
        {subset_name(subset): package.temperature(subset) for subset in SUBSETS},
        {subset_name(subset): package.thresholds(subset) for subset in SUBSETS},
        package.card.get("calibration", {}),
    )


def fit(counts: Counts) -> Calibration:
    """The temperature with the least cross-entropy, then the thresholds with the best mean Dice, and the curves.

    The first two count every study alike, the curves every voxel of all subsets. Thresholds do not fall from WT to TC
    to ET: regions are nested, and so are their masks then. Those no better than one half for all by SMALLEST_GAIN per
    region are not taken. Guo et al., On calibration of modern neural networks, ICML 2017, for the temperatures.
    """
    temperatures, thresholds = {}, {}
    for place, subset in enumerate(map(subset_name, SUBSETS)):
        step = int(np.argmin(counts.entropy[:, place].mean(axis=0)))
        temperatures[subset] = TEMPERATURES[step]
        scores = {
            (number, threshold): dice(counts.voxels[:, place, step, number], threshold).mean()
            for number in range(len(REGIONS))
            for threshold in THRESHOLDS
        }
        nested = combinations_with_replacement(THRESHOLDS, len(REGIONS))
        totals = {chosen: sum(scores[pair] for pair in enumerate(chosen)) for chosen in nested}
        best, half = max(totals, key=totals.get), (HALF,) * len(REGIONS)
        taken = best if totals[best] > totals[half] + SMALLEST_GAIN * len(REGIONS) else half
        thresholds[subset] = dict(zip(REGIONS, taken))
    curves = {
        region: {
            one: curve(sum(counts.voxels[:, place, step, number].sum(axis=0) for place, step in _at(temperatures, one)))
            for one in GROUPS
        }
        for number, region in enumerate(REGIONS)
    }
    return Calibration(temperatures, thresholds, curves)


def curve(voxels: np.ndarray) -> list[list[float]]:
    """(2, BINS) voxels -> points [said, true]: the rising curve nearest to the shares that were true between EDGES.

    Isotonic regression: Zadrozny and Elkan, Transforming classifier scores into accurate multiclass probability
    estimates, KDD 2002. It begins at 0, where nearly all voxels of a head are.
    """
    first = [_first(edge) for edge in EDGES]
    total, true, said = (
        np.add.reduceat(values, first) for values in (voxels.sum(axis=0), voxels[1], voxels.sum(axis=0) * _CENTRES)
    )
    there = total > 0
    fitted = isotonic_regression(true[there] / total[there], weights=total[there])
    blocks = fitted.blocks[:-1]
    means = np.add.reduceat(said[there], blocks) / np.add.reduceat(total[there], blocks)
    points = zip(means.tolist(), fitted.x[blocks].tolist(), strict=True)
    return [[0.0, 0.0], *([round(number, DIGITS) for number in point] for point in points)]


def rows(counts: Counts, calibration: Calibration) -> list[Row]:
    """What the calibration makes of studies: one row per study and subset, with Dice and volumes of each region."""
    result = []
    for study, (name, patient) in enumerate(zip(counts.studies, counts.patients)):
        for place, subset in enumerate(map(subset_name, SUBSETS)):
            step = TEMPERATURES.index(calibration.temperatures[subset])
            row: Row = {"study": name, "patient": patient, "subset": subset, "refused": None}
            for number, region in enumerate(REGIONS):
                voxels = counts.voxels[study, place, step, number]
                threshold = calibration.thresholds[subset][region]
                above = voxels[:, _first(threshold) :].sum()
                row[f"{region}_dice"] = float(dice(voxels[None], threshold)[0])
                row[f"{region}_true_ml"] = float(voxels[1].sum() * counts.millilitres)
                row[f"{region}_found_ml"] = float(above * counts.millilitres)
            result.append(row)
    return result


def dice(voxels: np.ndarray, threshold: float) -> np.ndarray:
    """Dice of each study at a threshold on a border of bins, (studies, 2, BINS) -> (studies,); 1 if both are empty."""
    found = voxels[:, :, _first(threshold) :].sum(axis=-1)
    total = found.sum(axis=1) + voxels[:, 1].sum(axis=-1)
    return np.where(total > 0, 2 * found[:, 1] / np.maximum(total, 1), 1.0)


def reliability(
    counts: Counts, calibrations: dict[str, Calibration], region: str, least: float = 0.0, parts: int = 20
) -> Reliability:
    """Of all subsets and studies together.

    Args:
        calibrations: patient -> what was fitted without this patient.
        least: smallest probability that counts, with temperatures but before curves; most voxels of a head are near 0.
        parts: of 0 to 1, each a point of the curve; those without voxels are left out.
    """
    number = list(REGIONS).index(region)
    voxels, said, true = np.zeros((3, parts))
    for study, patient in enumerate(counts.patients):
        own = calibrations[patient]
        for one in GROUPS:
            curve = own.curves[region][one] if region in own.curves else AS_SAID
            honest = np.array([calibrated_number(centre, curve) for centre in _CENTRES])
            found = sum(counts.voxels[study, place, step, number] for place, step in _at(own.temperatures, one))
            part, counted = np.minimum((honest * parts).astype(int), parts - 1), least <= _CENTRES
            for total, values in ((voxels, found.sum(axis=0)), (said, found.sum(axis=0) * honest), (true, found[1])):
                np.add.at(total, part[counted], values[counted])
    kept = voxels > 0
    return Reliability(voxels[kept], said[kept] / voxels[kept], true[kept] / voxels[kept])


def honesty(counts: Counts, calibrations: dict[str, Calibration]) -> dict[str, Any]:
    """How far the probabilities of voxels from LEAST on can be believed, as plain values for a JSON file.

    Args:
        calibrations: as for reliability.

    Returns:
        calibrated, tempered, as_said: region -> reliability; with the calibrations, with their temperatures alone (the
        same voxels), and as the network says (those to which it gives LEAST by itself). patients: patient -> region ->
        of the calibrated probabilities of this patient alone the error, and the means of said and true.
    """
    kinds = {
        "calibrated": calibrations,
        "tempered": {patient: with_curves(one, ()) for patient, one in calibrations.items()},
        "as_said": dict.fromkeys(calibrations, none()),
    }
    return {
        **{
            kind: {region: _curve_of(reliability(counts, some, region, LEAST)) for region in REGIONS}
            for kind, some in kinds.items()
        },
        "patients": {
            one.patients[0]: {
                region: _means_of(reliability(one, calibrations, region, LEAST)) for region in REGIONS
            }
            for one in apart(counts)
        },
    }  # fmt: skip


def error_of_all(counts: Counts, calibrations: dict[str, Calibration], region: str) -> float:
    """The error of all voxels from LEAST on, of whichever patient."""
    return reliability(counts, calibrations, region, LEAST).error


def error_of_patients(counts: Counts, calibrations: dict[str, Calibration], region: str) -> float:
    """Mean of the errors of each patient alone."""
    return float(np.mean([error_of_all(one, calibrations, region) for one in apart(counts)]))


def _curve_of(one: Reliability) -> dict[str, Any]:
    lists = {key: getattr(one, key).round(DIGITS).tolist() for key in ("voxels", "said", "true")}
    return {"error": round(one.error, DIGITS), **lists}


def _means_of(one: Reliability) -> dict[str, float]:
    total = max(one.voxels.sum(), 1)
    means = {key: (one.voxels * getattr(one, key)).sum() / total for key in ("said", "true")}
    return {"error": round(one.error, DIGITS), **{key: round(float(mean), DIGITS) for key, mean in means.items()}}


def _at(temperatures: dict[str, float], one: str) -> list[tuple[int, int]]:
    """For each subset of a group its place and that of its temperature."""
    return [
        (place, TEMPERATURES.index(temperatures[subset_name(subset)]))
        for place, subset in enumerate(SUBSETS)
        if group(subset) == one
    ]


def _first(threshold: float) -> int:
    """The first bin that is above a threshold on a border."""
    return round(threshold * BINS)
