"""How sure the numbers are: bootstrap intervals, and the comparison of two runs on the same cases.

The independent unit is the patient: several studies of one patient are drawn together, and the 15 subsets of a study
are never taken for 15 observations.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from scipy.stats import wilcoxon

SAMPLES = 10_000
CONFIDENCE = 0.95
SAME_TRUTH = ("WT_true_ml", "TC_true_ml", "ET_true_ml")

Row = Mapping[str, Any]
"""Scores of one study with one subset, see rows.Row."""
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean with its percentile bootstrap interval, and the number of patients behind it."""

    mean: float
    low: float
    high: float
    patients: int


@dataclass(frozen=True)
class Difference:
    """Second run minus first run in one metric, and the Wilcoxon signed-rank p value of the patients' differences.

    p_holm: the p value corrected for the other differences of its family, see holm; None before `corrected`.
    """

    first: float
    second: float
    difference: Estimate
    p_value: float
    p_holm: float | None = None


def estimate(values: Sequence[float], patients: Sequence[str], seed: int = 0) -> Estimate:
    """Mean of one value per row, and its interval when patients are drawn with replacement (always the same draws).

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("no values to estimate a mean from: the metric left every case out")
    numbers, owners = np.asarray(values, dtype=float), np.unique(np.asarray(patients), return_inverse=True)[1]
    sums, counts = np.bincount(owners, numbers), np.bincount(owners)
    draws = np.random.default_rng(seed).integers(len(sums), size=(SAMPLES, len(sums)))
    means = sums[draws].sum(axis=1) / counts[draws].sum(axis=1)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Estimate(float(numbers.mean()), float(low), float(high), len(sums))


def estimate_rows(rows: Sequence[Row], metric: str) -> Estimate | None:
    """The mean of a metric over rows, without those it leaves out (None); None if that is all of them."""
    kept = [row for row in rows if row[metric] is not None]
    return estimate([row[metric] for row in kept], [row["patient"] for row in kept]) if kept else None


def paired(first: Sequence[Row], second: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The rows of two runs, study by study and subset by subset.

    Raises:
        ValueError: the runs were measured on different studies, subsets or ground truths.
    """
    one, other = _by_key(first), _by_key(second)
    lonely = sorted(one.keys() ^ other.keys())
    if lonely:
        study, subset = lonely[0]
        raise ValueError(
            f"{len(lonely)} rows are in one of the runs only, the first is study {study} with {subset}: both runs have "
            "to be measured on the same studies and subsets, evaluate them with the same data section"
        )
    for key, row in one.items():
        for name in SAME_TRUTH:
            if row[name] != other[key][name]:
                raise ValueError(
                    f"study {key[0]}: {name} is {row[name]} in the first run and {other[key][name]} in the second: "
                    "they were measured against different ground truths, evaluate both again"
                )
    return [(row, other[key]) for key, row in one.items()]


def compare(pairs: Sequence[tuple[Row, Row]], metric: str) -> Difference | None:
    """Second minus first over the pairs in which both runs have the metric; None if there is no such pair."""
    kept = [(one, other) for one, other in pairs if one[metric] is not None and other[metric] is not None]
    if not kept:
        return None
    first, second = (np.array([pair[side][metric] for pair in kept], dtype=float) for side in (0, 1))
    patients = np.array([one["patient"] for one, _ in kept])
    change = second - first
    per_patient = [change[patients == patient].mean() for patient in np.unique(patients)]
    p_value = float(wilcoxon(per_patient).pvalue) if np.any(per_patient) else 1.0
    return Difference(float(first.mean()), float(second.mean()), estimate(change, patients.tolist()), p_value)


def holm(p_values: Sequence[float]) -> list[float]:
    """p values that hold for all m together: in ascending order max over i <= k of min(1, (m - i + 1) p_i).

    S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
    """
    result, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(np.argsort(p_values, kind="stable")):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        result[index] = largest
    return result


def corrected(family: Mapping[Key, Difference | None]) -> dict[Key, Difference | None]:
    """The differences with the Holm correction over all of them that there are."""
    there = {key: one for key, one in family.items() if one is not None}
    p_values = dict(zip(there, holm([one.p_value for one in there.values()]), strict=True))
    return {key: one and replace(one, p_holm=p_values[key]) for key, one in family.items()}


def _by_key(rows: Sequence[Row]) -> dict[tuple[str, str], Row]:
    result = {(row["study"], row["subset"]): row for row in rows}
    if len(result) != len(rows):
        raise ValueError(f"{len(rows) - len(result)} rows repeat a study and subset: one row for each is expected")
    return result
