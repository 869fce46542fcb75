"""Classes, regions and label conventions, checked against definitions written out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from MSTKDSegmenterLib.engine.regions import (
    CLASSES,
    class_indices,
    exclusive_labels,
    masks,
    region_probabilities,
    regions_of,
)

HALF = {"WT": 0.5, "TC": 0.5, "ET": 0.5}


def test_each_convention_gives_the_same_classes() -> None:
    wanted = [3, 0, 1, 2]
    assert class_indices(np.array([0, 1, 2, 4]), "brats2021").tolist() == wanted
    assert class_indices(np.array([0, 1, 2, 3]), "brats2023").tolist() == wanted
    assert class_indices(np.array([0, 1, 2, 3, 4]), "brats2024").tolist() == [*wanted, 3]


def test_a_value_outside_the_convention_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"\[3\] are not part of 'brats2021'"):
        class_indices(np.array([0, 3]), "brats2021")
    with pytest.raises(ValueError, match="unknown label convention 'isles'"):
        class_indices(np.array([0]), "isles")


def test_regions_of_the_2021_labels_are_the_published_unions() -> None:
    labels = np.array([0, 1, 2, 4])
    regions = regions_of(labels, "brats2021")
    assert regions["WT"].tolist() == [False, True, True, True]
    assert regions["TC"].tolist() == [False, True, False, True]
    assert regions["ET"].tolist() == [False, False, False, True]


def test_region_probabilities_are_sums_and_nested() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 2, 3, 4))
    p = np.exp(logits) / np.exp(logits).sum(axis=0)
    whole, core, enhancing = region_probabilities(p)
    np.testing.assert_allclose(whole, 1 - p[CLASSES.index("background")])
    np.testing.assert_allclose(core, p[0] + p[2])
    assert (whole >= core).all()
    assert (core >= enhancing).all()


def test_masks_stay_nested_when_the_thresholds_are_not() -> None:
    p = np.array([0.45, 0.44, 0.43]).reshape(3, 1, 1, 1)
    result = masks(p, {"WT": 0.5, "TC": 0.1, "ET": 0.1})
    assert not result["WT"].any()
    assert not result["TC"].any()
    assert not result["ET"].any()


def test_exclusive_labels_and_regions_are_a_round_trip() -> None:
    labels = np.random.default_rng(1).integers(0, 4, size=(4, 5, 6))
    np.testing.assert_array_equal(exclusive_labels(regions_of(labels, "brats2023")), labels)


def test_masks_are_strictly_above_the_threshold() -> None:
    p = np.array([0.5, 0.5000001]).reshape(1, 1, 1, 2).repeat(3, axis=0)
    assert masks(p, HALF)["ET"].ravel().tolist() == [False, True]
