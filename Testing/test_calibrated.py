"""Probabilities that are written: calibrated by the package's curves, while the masks stay where they were."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.calibration import AS_SAID, WITH, WITHOUT, calibrated, calibrated_number, group
from MSTKDSegmenterLib.engine.package import ModelPackage, default_folder, load
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.segment import segment
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from MSTKDSegmenterLib.engine.study import study_from_images
from phantom import make_study

CURVE = [[0.1, 0.0], [0.5, 0.2], [0.9, 0.8]]
CURVES = {"WT": CURVE, "ET": [[0.0, 0.1], [1.0, 0.4]]}
OTHER = [[0.0, 0.0], [1.0, 0.01]]


def test_between_the_points_lie_straight_lines_and_beyond_them_it_is_level() -> None:
    said = np.array([0, 0.1, 0.3, 0.5, 0.6, 0.9, 1], np.float32).reshape(1, 1, -1)
    expected = [0, 0, 0.1, 0.2, 0.35, 0.8, 0.8]
    found = calibrated(said, CURVE)
    assert (found.dtype, found.shape) == (np.float32, said.shape)
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)
    assert [calibrated_number(float(value), CURVE) for value in said.ravel()] == pytest.approx(expected, abs=1e-6)


def test_a_network_that_nobody_has_measured_is_taken_at_its_word() -> None:
    said = np.random.default_rng(0).random((3, 4, 5), dtype=np.float32)
    found = calibrated(said, AS_SAID)
    np.testing.assert_array_equal(found, said)
    assert not np.shares_memory(found, said)


def test_no_region_is_more_probable_than_the_one_around_it() -> None:
    whole, core = np.float32([0.2, 0.6]).reshape(2, 1, 1), np.float32([0.2, 0.1]).reshape(2, 1, 1)
    outer = calibrated(whole, CURVE)
    inner = calibrated(core, [[0, 0], [1, 0.9]], outer)
    np.testing.assert_allclose(outer.ravel(), [0.05, 0.35], atol=1e-6)
    np.testing.assert_allclose(inner.ravel(), [0.05, 0.09], atol=1e-6)


def test_subsets_with_t1ce_have_a_curve_of_their_own() -> None:
    assert {subset_name(subset) for subset in SUBSETS if group(subset) == WITH} == {
        subset_name(subset) for subset in SUBSETS if "T1ce" in subset
    }
    assert group(("FLAIR", "T1", "T2")) == WITHOUT


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return load(default_folder())


def kept(package: ModelPackage) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], dict]:
    """Probabilities and masks of a simulated study by region, and the report."""
    found: dict[str, np.ndarray] = {}
    images = make_study(seed=0, spacing=3.0).images
    result = segment(
        study_from_images({name: images[name] for name in ("FLAIR", "T1ce")}), package, "cpu",
        keep=lambda region, image: found.update({region: sitk.GetArrayFromImage(image)}),
    )  # fmt: skip
    return found, result.masks, result.report


def test_the_curves_change_the_probabilities_and_neither_masks_nor_volumes(package: ModelPackage) -> None:
    said, masks, plain = kept(replace(package, card={**package.card, "calibration": {}}))
    curves = {region: {WITH: curve, WITHOUT: OTHER} for region, curve in CURVES.items()}
    found, same, report = kept(replace(package, card={**package.card, "calibration": curves}))
    outer = np.ones_like(said["WT"])
    for region in REGIONS:
        np.testing.assert_array_equal(masks[region], same[region])
        np.testing.assert_array_equal(masks[region], said[region] > 0.5)
        outer = np.minimum(np.interp(said[region], *np.transpose(CURVES.get(region, AS_SAID))), outer)
        np.testing.assert_allclose(found[region], outer, atol=1e-6)
    assert masks["WT"].any()
    assert report["volumes_ml"] == plain["volumes_ml"]
    # of what nobody has measured nothing is said
    assert plain["model"]["thresholds_calibrated"] == {}
    assert report["model"]["thresholds_calibrated"] == {"WT": 0.2, "ET": 0.25}


def test_what_ships_says_of_the_border_of_its_segments_how_probable_that_is(package: ModelPackage) -> None:
    found, masks, report = kept(package)
    assert {"TC", "ET"} <= set(report["model"]["thresholds_calibrated"])
    for region, border in report["model"]["thresholds_calibrated"].items():
        assert 0 < border < 0.5
        assert found[region][masks[region]].min() >= border - 1e-4
    assert (found["WT"] >= found["TC"]).all()
    assert (found["TC"] >= found["ET"]).all()
