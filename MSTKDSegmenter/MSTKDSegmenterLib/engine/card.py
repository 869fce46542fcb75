"""What model.json must say, and the check that it does. See package.py."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from . import normalise
from .calibration import GROUPS
from .errors import PackageError
from .regions import CLASSES, REGIONS
from .sequences import SEQUENCES, SUBSETS, subset_name

FORMAT = 1
DESCRIPTION = "model.json"
WEIGHTS = "weights.safetensors"

CONVENTIONS: dict[str, dict[str, Any]] = {
    "tumour": {
        "sequences": list(SEQUENCES),
        "classes": list(CLASSES),
        "regions": {name: list(members) for name, members in REGIONS.items()},
        "normalisation": {
            "name": "z-score in brain",
            "clip": normalise.CLIP,
            "percentiles": list(normalise.PERCENTILES),
        },
    },
    "brain": {
        "sequences": ["any"],
        "classes": ["brain"],
        "regions": {"brain": ["brain"]},
        "normalisation": {"name": "relative to bright voxels", "clip": 3.0},
    },
}
"""Kind of package -> what ``engine`` does with such a model. A package that was made for anything else is refused."""

TEXTS = ("name", "version", "licence", "data", "intended_use")
KEYS = ("format", "kind", *TEXTS, "citation", "network", "spacing_mm", "thresholds", "weights", "quality")

COLDEST, HOTTEST = 0.1, 10.0
"""What logits may be divided by."""
LEAST_TILE, LARGEST_TILE = 16, 1024
"""Voxels of a tile's side."""

AGAIN = "Copy the whole package folder again or choose another model."
UPDATE = "Choose another model, or a version of MSTKDSegmenter that this one was made for."


def refuse(where: Path, what: str) -> NoReturn:
    """Raise the PackageError that says where and what."""
    raise PackageError(f"Model package, {where}: {what}")


def check(card: Mapping[str, Any], file: Path) -> None:
    """Return if every key of model.json is there, well-formed and something that the engine can do.

    Raises:
        PackageError: otherwise; ``file`` is what the message names.
    """

    def need(condition: bool, key: str, expected: str, remedy: str = AGAIN) -> None:
        if not condition:
            refuse(file, f"{key} is {_shortened(card.get(key))}, expected {expected}. {remedy}")

    need(_number(card.get("format"), FORMAT, FORMAT), "format", f"{FORMAT}, the one this version reads", UPDATE)
    kind = card.get("kind")
    need(isinstance(kind, str) and kind in CONVENTIONS, "kind", f"one of {', '.join(CONVENTIONS)}", UPDATE)
    missing = [key for key in (*KEYS, *CONVENTIONS[kind]) if key not in card]
    if missing:
        refuse(file, f"lacks {', '.join(missing)}: half-written, or of another program. {AGAIN}")
    for key, value in CONVENTIONS[kind].items():
        need(card[key] == value, key, f"{value} in this order", UPDATE)
    for key in TEXTS:
        need(isinstance(card[key], str) and card[key].strip() != "", key, "a text that is not empty")
    need(_texts(card["citation"]), "citation", "a list of texts")
    need(_number(card["spacing_mm"], 0.1, 10.0), "spacing_mm", "a number of mm between 0.1 and 10")
    network, inputs, outputs = card["network"], len(card["sequences"]), len(card["classes"])
    need(
        isinstance(network, dict) and (network.get("sequences"), network.get("classes")) == (inputs, outputs),
        "network",
        f"the arguments of a network with {inputs} sequences and {outputs} classes",
    )
    need(_weights(card["weights"]), "weights", f"file {WEIGHTS}, sha256, bytes, and dtype float16 or float32")
    regions = list(card["regions"])
    rows = [subset_name(subset) for subset in SUBSETS] if kind == "tumour" else []
    need(
        _thresholds(card["thresholds"], regions, rows),
        "thresholds",
        f"a number from 0 to 1 for {', '.join(regions)}, and such rows for single subsets where wanted",
    )
    need(
        _temperatures(card.get("temperatures", {}), rows),
        "temperatures",
        f"numbers from {COLDEST} to {HOTTEST} for single subsets",
    )
    need(
        _calibration(card.get("calibration", {}), regions),
        "calibration",
        f"for {', '.join(regions)}, where wanted, curves {' and '.join(GROUPS)}: two or more points [said, true], both "
        "from 0 to 1 and rising",
    )
    need(isinstance(card.get("mirror", False), bool), "mirror", "true or false")
    need(isinstance(card.get("box", False), bool), "box", "true or false")
    need(_tile(card.get("tile")), "tile", f"three whole numbers of voxels from {LEAST_TILE} to {LARGEST_TILE}, or null")
    need(
        _quality(card["quality"], regions, rows),
        "quality",
        f"measured_on, command and a table with {', '.join(regions)} from 0 to 1 for "
        + (f"each of the {len(rows)} subsets, or an empty one if not measured" if rows else "every row"),
    )


def _weights(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.get("file") == WEIGHTS
        and value.get("dtype") in ("float16", "float32")
        and isinstance(value.get("sha256"), str)
        and isinstance(value.get("bytes"), int)
    )


def _thresholds(value: object, regions: list[str], subsets: list[str]) -> bool:
    if not isinstance(value, dict):
        return False
    everywhere = {key: number for key, number in value.items() if key not in subsets}
    own = [value[subset] for subset in subsets if subset in value]
    own_is_well_formed = (isinstance(row, dict) and _row({**everywhere, **row}, regions) for row in own)
    return _row(everywhere, regions) and all(own_is_well_formed)


def _temperatures(value: object, subsets: list[str]) -> bool:
    return isinstance(value, dict) and all(
        subset in subsets and _number(number, COLDEST, HOTTEST) for subset, number in value.items()
    )


def _calibration(value: object, regions: list[str]) -> bool:
    return isinstance(value, dict) and all(
        region in regions
        and isinstance(curves, dict)
        and set(curves) == set(GROUPS)
        and all(map(_curve, curves.values()))
        for region, curves in value.items()
    )


def _curve(points: object) -> bool:
    """Whether these are two or more pairs of numbers from 0 to 1; the first rise, the second do not fall."""
    if not isinstance(points, list) or len(points) < 2:
        return False
    pairs = (
        isinstance(point, list) and len(point) == 2 and all(_number(n, 0.0, 1.0) for n in point) for point in points
    )
    return all(pairs) and all(one[0] < next_[0] and one[1] <= next_[1] for one, next_ in zip(points, points[1:]))


def _tile(value: object) -> bool:
    return value is None or (
        isinstance(value, list)
        and len(value) == 3
        and all(isinstance(side, int) and _number(side, LEAST_TILE, LARGEST_TILE) for side in value)
    )


def _quality(value: object, regions: list[str], subsets: list[str]) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("table"), dict):
        return False
    return (
        _texts(value.get("measured_on"))
        and isinstance(value.get("command"), str)
        and all(_row(row, regions) for row in value["table"].values())
        and (not subsets or not value["table"] or set(value["table"]) == set(subsets))
    )


def _row(value: object, regions: list[str]) -> bool:
    """Whether ``value`` gives each region, and nothing else, a number from 0 to 1."""
    return isinstance(value, dict) and set(value) == set(regions) and all(_number(n, 0.0, 1.0) for n in value.values())


def _number(value: object, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:200] + " ..."
