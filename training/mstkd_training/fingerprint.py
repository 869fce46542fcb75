"""What a data set is, in one small file: how many cases, how large and bright, how much tumour, and which files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SEQUENCES

from .cases import Case
from .config import DataConfig
from .examination import PERCENTILES, Facts
from .files import write_text

Range = dict[str, Any]


def fingerprint(
    cases: Sequence[Case], facts: Mapping[str, Facts], left_out: Mapping[str, Sequence[str]], data: DataConfig
) -> dict[str, Any]:
    """Counts, ranges over the cases, and a hash of the files' names and contents.

    Args:
        facts: by case.
        left_out: cases that are skipped, with the reasons.

    Returns:
        Plain values. "names" are the cases', which cache.samples goes by. Sizes and spacings (x, y, z; mm) are the same
        for the sequences of a case; intensities are percentiles in the brain, of each the range over the cases; volumes
        are in ml, on the native grid, "absent" counts the cases without the region.
    """
    known = [facts[case.name] for case in cases]
    return {
        "layout": data.layout,
        "convention": data.convention,
        "cases": len(cases),
        "names": sorted(case.name for case in cases),
        "patients": len({case.patient for case in cases}),
        "left_out": {name: list(reasons) for name, reasons in sorted(left_out.items())},
        "files_sha256": _hash(cases, facts),
        "orientation": dict(sorted(Counter(one.orientation for one in known).items())),
        "size": _range([one.size for one in known]),
        "spacing_mm": _range([one.spacing for one in known]),
        "brain_ml": {sequence: _range([one.brain_ml[sequence] for one in known]) for sequence in SEQUENCES},
        "intensity": {
            sequence: {
                f"{percentile:g}%": _range([one.intensity[sequence][number] for one in known])
                for number, percentile in enumerate(PERCENTILES)
            }
            for sequence in SEQUENCES
        },
        "regions_ml": {region: _volumes([one.regions_ml[region] for one in known]) for region in REGIONS},
    }


def write(content: Mapping[str, Any], data: DataConfig) -> None:
    write_text(json.dumps(content, indent=2) + "\n", data.cache / "fingerprint.json")


def _range(values: Sequence[Any]) -> Range:
    """Median, smallest and largest, of each component if there are several."""
    array = np.array(values, dtype=float)
    of = {"median": np.median(array, axis=0), "min": array.min(axis=0), "max": array.max(axis=0)}
    return {name: np.round(value, 3).tolist() for name, value in of.items()}


def _volumes(values: Sequence[float]) -> Range:
    """The range over the cases that have the region, and how many lack it."""
    present = [value for value in values if value > 0]
    return {**(_range(present) if present else {}), "absent": len(values) - len(present)}


def _hash(cases: Sequence[Case], facts: Mapping[str, Facts]) -> str:
    lines = [f"{case.name}/{name} {found}" for case in cases for name, found in facts[case.name].sha256.items()]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
