"""Tumour classes, the regions made of them, and the label conventions of the public data sets.

The network tells four exclusive classes apart. Clinicians and challenges speak of three nested regions: whole tumour
(WT), tumour core (TC) and enhancing tumour (ET). This file is the one place that knows how they relate.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

CLASSES = ("NCR", "ED", "ET", "background")
"""Network output channels: necrotic or non-enhancing core, oedema or infiltrated tissue, enhancing tumour, the rest."""

REGIONS: dict[str, tuple[str, ...]] = {"WT": ("NCR", "ED", "ET"), "TC": ("NCR", "ET"), "ET": ("ET",)}
"""Region -> the classes it is the union of, from the largest region to the smallest."""

LABELS = {"NCR": 1, "ED": 2, "ET": 3}
"""Values of the exclusive label map that is written (BraTS 2023 onwards)."""

CONVENTIONS: dict[str, dict[int, str]] = {
    "brats2021": {0: "background", 1: "NCR", 2: "ED", 4: "ET"},  # BraTS 2017-2021 and FeTS
    "brats2023": {0: "background", 1: "NCR", 2: "ED", 3: "ET"},
    # Post-treatment glioma: 4 is the resection cavity, which belongs to no tumour region.
    "brats2024": {0: "background", 1: "NCR", 2: "ED", 3: "ET", 4: "background"},
}
"""Data set convention -> label value -> class."""


def class_indices(labels: np.ndarray, convention: str) -> np.ndarray:
    """Label map of a data set -> uint8 indices into CLASSES, same shape.

    Raises:
        ValueError: the convention is unknown, or the map holds a value that it does not define.
    """
    if convention not in CONVENTIONS:
        raise ValueError(f"unknown label convention {convention!r}: expected one of {', '.join(CONVENTIONS)}")
    meaning = CONVENTIONS[convention]
    unknown = sorted(set(np.unique(labels).tolist()) - set(meaning))
    if unknown:
        raise ValueError(
            f"label values {unknown} are not part of {convention!r} ({sorted(meaning)}): choose another convention"
        )
    table = np.zeros(max(meaning) + 1, dtype=np.uint8)
    for value, name in meaning.items():
        table[value] = CLASSES.index(name)
    return table[labels.astype(np.int64)]


def regions_of(labels: np.ndarray, convention: str) -> dict[str, np.ndarray]:
    """Label map of a data set -> {"WT": bool, "TC": bool, "ET": bool}, same shape. Raises as class_indices."""
    indices = class_indices(labels, convention)
    return {name: np.isin(indices, [CLASSES.index(c) for c in members]) for name, members in REGIONS.items()}


def region_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """(4, z, y, x) class probabilities -> (3, z, y, x) region probabilities in the order of REGIONS.

    Classes exclude each other, so a region's probability is the sum over its classes; the regions come out nested.
    """
    return np.stack([sum(probabilities[CLASSES.index(c)] for c in members) for members in REGIONS.values()])


def masks(probabilities: Iterable[np.ndarray], thresholds: Mapping[str, float]) -> dict[str, np.ndarray]:
    """Probabilities (z, y, x) of the regions in turn -> bool masks, nested (ET in TC in WT) whatever the thresholds."""
    result: dict[str, np.ndarray] = {}
    outer: np.ndarray | None = None
    for name, probability in zip(REGIONS, probabilities):
        mask = probability > thresholds[name]
        outer = mask if outer is None else mask & outer
        result[name] = outer
    return result


def exclusive_labels(regions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Nested region masks -> uint8 label map with LABELS: ET, then the rest of TC (NCR), then the rest of WT (ED)."""
    labels = np.zeros(regions["WT"].shape, dtype=np.uint8)
    labels[regions["WT"]] = LABELS["ED"]
    labels[regions["TC"]] = LABELS["NCR"]
    labels[regions["ET"]] = LABELS["ET"]
    return labels
