"""Intensity normalisation against the formula written out."""

from __future__ import annotations

import numpy as np
import pytest
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.normalise import CLIP, normalise


@pytest.fixture
def volume() -> np.ndarray:
    return np.random.default_rng(1).normal(500, 80, (12, 14, 16)).astype(np.float32)


@pytest.fixture
def brain() -> np.ndarray:
    mask = np.zeros((12, 14, 16), dtype=bool)
    mask[2:10, 3:12, 2:14] = True
    return mask


def test_it_is_the_z_score_of_the_clipped_brain_voxels(volume, brain):
    values = volume[brain].astype(np.float64)
    values = np.clip(values, np.percentile(values, 0.05), np.percentile(values, 99.9))
    expected = (values - values.mean()) / np.sqrt(((values - values.mean()) ** 2).mean())
    np.testing.assert_allclose(normalise(volume, brain)[brain], expected, atol=1e-4)


def test_it_is_zero_outside_the_brain_and_float32(volume, brain):
    result = normalise(volume, brain)
    assert result.dtype == np.float32
    assert not result[~brain].any()


@pytest.mark.parametrize(("scale", "offset"), [(1e-4, 0.0), (7.0, -3000.0), (1.0, 30000.0)])
def test_the_scanners_units_do_not_matter(volume, brain, scale, offset):
    np.testing.assert_allclose(normalise(volume * scale + offset, brain), normalise(volume, brain), atol=2e-3)


def test_integers_are_taken_as_they_come_from_a_file(volume, brain):
    whole = volume.round().astype(np.int16)
    np.testing.assert_array_equal(normalise(whole, brain), normalise(whole.astype(np.float64), brain))


def test_one_spike_does_not_change_the_scale():
    volume = np.random.default_rng(1).normal(500, 80, (16, 16, 16))
    spiked = volume.copy()
    spiked[5, 5, 5] = 1e6
    everywhere = np.ones(volume.shape, dtype=bool)
    difference = np.abs(normalise(spiked, everywhere) - normalise(volume, everywhere))
    difference[5, 5, 5] = 0
    assert difference.max() < 0.15  # unclipped, all others would collapse onto one value


def test_values_outside_the_brain_do_not_matter(volume, brain):
    other = volume.copy()
    other[~brain] = -1e4
    np.testing.assert_array_equal(normalise(other, brain), normalise(volume, brain))


def test_the_result_stays_within_the_clip(brain):
    skewed = np.ones(brain.shape)
    skewed[brain] = np.random.default_rng(2).exponential(1, brain.sum()) ** 3
    assert normalise(skewed, brain).max() == pytest.approx(CLIP)


def test_an_empty_brain_is_refused(volume, brain):
    with pytest.raises(UnusableInput, match="brain mask is empty"):
        normalise(volume, np.zeros_like(brain))


@pytest.mark.parametrize("value", [0.0, 1234.5, 3e5])
def test_a_constant_brain_is_refused(brain, value):
    with pytest.raises(UnusableInput, match="same intensity"):
        normalise(np.full(brain.shape, value), brain)


def test_nan_in_the_brain_is_refused(volume, brain):
    volume[5, 5, 5] = np.nan
    with pytest.raises(UnusableInput, match="NaN"):
        normalise(volume, brain)


def test_a_mask_of_another_shape_is_a_programming_error(volume, brain):
    with pytest.raises(ValueError, match="shape"):
        normalise(volume, brain[1:])
