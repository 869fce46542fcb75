"""From counts to what a package stores for each subset: a temperature, thresholds; and to what they do to others."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from MSTKDSegmenterLib.engine.package import ModelPackage
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name

from .counts import BINS, TEMPERATURES, Counts
from .rows import Row

THRESHOLDS = tuple(round(0.2 + 0.05 * step, 2) for step in range(13))
"""0.2 to 0.8, all of them on the borders of bins."""
SMALLEST_GAIN = 0.005
"""Mean Dice by which other thresholds must beat one half: a few patients do not tell smaller differences."""
HALF = 0.5
LEAST = 0.02
"""Probability from which a voxel counts for the curves of reliability; what lies below is the rest of the head."""

_CENTRES = (np.arange(BINS) + 0.5) / BINS


@dataclass(frozen=True)
class Calibration:
    """By name of subset: what divides the logits; and region -> probability above which a voxel belongs to it."""

    temperatures: dict[str, float]
    thresholds: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Reliability:
    """Voxels by predicted probability: how many, what was said on average and how often it was true, each (n,)."""

    voxels: np.ndarray
    said: np.ndarray
    true: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error: mean |said - true| over the voxels."""
        return float(np.average(np.abs(self.said - self.true), weights=self.voxels))


def none() -> Calibration:
    """Temperatures of 1, thresholds of one half."""
    names = [subset_name(subset) for subset in SUBSETS]
    return Calibration(dict.fromkeys(names, 1.0), {name: dict.fromkeys(REGIONS, HALF) for name in names})


def halved(calibration: Calibration) -> Calibration:
    """The same temperatures, thresholds of one half."""
    return Calibration(calibration.temperatures, none().thresholds)


def stored(package: ModelPackage) -> Calibration:
    """What a package does."""
    return Calibration(
        {subset_name(subset): package.temperature(subset) for subset in SUBSETS},
        {subset_name(subset): package.thresholds(subset) for subset in SUBSETS},
    )


def fit(counts: Counts) -> Calibration:
    """The temperature with the least cross-entropy, then the thresholds with the best mean Dice.

    Both count every study alike. Thresholds do not fall from WT to TC to ET: regions are nested, and so are their masks
    then. Those no better than one half for all by SMALLEST_GAIN per region are not taken. Guo et al., On calibration of
    modern neural networks, ICML 2017, for the temperatures.
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
    return Calibration(temperatures, thresholds)


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
        least: smallest probability that counts; most voxels of a head are far from any tumour, and near 0.
        parts: of 0 to 1, each a point of the curve; those without voxels are left out.
    """
    number = list(REGIONS).index(region)
    total = np.zeros((2, BINS))
    for study, patient in enumerate(counts.patients):
        for place, subset in enumerate(map(subset_name, SUBSETS)):
            step = TEMPERATURES.index(calibrations[patient].temperatures[subset])
            total += counts.voxels[study, place, step, number]
    total[:, : _first(least)] = 0
    voxels = total.sum(axis=0).reshape(parts, -1)
    said = (total.sum(axis=0) * _CENTRES).reshape(parts, -1).sum(axis=1)
    true = total[1].reshape(parts, -1).sum(axis=1)
    kept = voxels.sum(axis=1) > 0
    all_of = voxels.sum(axis=1)[kept]
    return Reliability(all_of, said[kept] / all_of, true[kept] / all_of)


def curves(counts: Counts, calibrations: dict[str, Calibration]) -> dict[str, dict[str, Any]]:
    """The reliability of each region from LEAST on, as plain values for a JSON file."""
    found = {region: reliability(counts, calibrations, region, LEAST) for region in REGIONS}
    return {
        region: {
            "error": one.error,
            **{key: getattr(one, key).round(5).tolist() for key in ("voxels", "said", "true")},
        }
        for region, one in found.items()
    }


def _first(threshold: float) -> int:
    """The first bin that is above a threshold on a border."""
    return round(threshold * BINS)
