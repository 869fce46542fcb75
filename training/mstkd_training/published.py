"""What the authors published for MST-KDNet and its peers, to stand beside what is measured here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from MSTKDSegmenterLib.engine.regions import REGIONS

BENCHMARK = {"brats2024": "BraTS 2024"}
"""Layout on disk -> the published table of the same data set; every other layout holds glioma before treatment."""
OTHERWISE = "FeTS 2024"
METHOD = "MST-KDNet"


@dataclass(frozen=True)
class Published:
    """One metric of one method and region: Dice in 0..1 or HD95 in mm.

    Attributes:
        subsets: subset name -> value, in the order of SUBSETS.
        average: over the 15 subsets, as printed.
    """

    subsets: dict[str, float]
    average: float


def benchmark(layout: str) -> str:
    """The published table to compare with: of the same data set, or of the most similar one."""
    return BENCHMARK.get(layout, OTHERWISE)


def published(data: str, metric: str) -> dict[str, dict[str, Published]]:
    """Method -> region -> numbers. `data` is "BraTS 2024" or "FeTS 2024", `metric` is "dice" or "hd95"."""
    content = _content()
    regions, scale = content["tables"][data][metric], 0.01 if metric == "dice" else 1.0
    return {
        method: {
            region: Published(
                {
                    subset: round(value * scale, 4)
                    for subset, value in zip(content["subsets"], regions[region][method]["subsets"], strict=True)
                },
                round(regions[region][method]["average"] * scale, 4),
            )
            for region in REGIONS
        }
        for method in regions["WT"]
    }


def source() -> str:
    """Where the numbers come from."""
    return _content()["source"]


@cache
def _content() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("published.yaml").read_text(encoding="utf-8"))
