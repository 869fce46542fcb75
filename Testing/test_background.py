"""What of an image shows something, and what of it was measured at all."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from head_phantom import GRID, head
from MSTKDSegmenterLib.engine.background import background_value, measured, shown
from MSTKDSegmenterLib.engine.geometry import Grid


def array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image) > 0


@pytest.mark.parametrize("interpolator", [sitk.sitkLinear, sitk.sitkBSpline, sitk.sitkLanczosWindowedSinc])
def test_what_interpolation_leaves_around_a_stripped_brain_is_not_shown(interpolator):
    half_a_voxel = sitk.TranslationTransform(3, (1.5, 1.5, 1.5))
    brain = head("T1ce")
    image = sitk.Resample(brain, brain, half_a_voxel, interpolator, 0.0)
    inside = array(sitk.BinaryFillhole(shown(image, background_value(image))))
    solid = sitk.Cast(brain != 0, sitk.sitkFloat32)
    core = array(sitk.Resample(solid, brain, half_a_voxel, sitk.sitkLinear, 0.0) > 0.5)
    # the larger waves of the ringing; it leaves traces farther away
    reach = array(sitk.BinaryDilate(GRID.image(core), (4, 4, 4)))
    assert inside[core].all()
    assert not inside[~reach].any()
    assert interpolator == sitk.sitkLinear or (sitk.GetArrayFromImage(image) != 0)[~reach].any()


def test_the_background_may_be_any_value():
    image = head("T2")
    inside = array(shown(image, 0.0))
    np.testing.assert_array_equal(array(shown(image - 1000, -1000.0)), inside)
    np.testing.assert_array_equal(array(shown(sitk.Cast(image + 5, sitk.sitkUInt16), 5.0)), inside)


def test_an_image_of_nothing_but_background_shows_nothing():
    assert not array(shown(GRID.empty_image(sitk.sitkFloat32), 0.0)).any()


def in_noise(shape: tuple[int, int, int]) -> np.ndarray:
    """A bright pillar in noisy air, (z, y, x)."""
    values = np.random.default_rng(0).rayleigh(20, shape).astype(np.float32).round() + 1
    _, y, x = (np.indices(shape).T - np.array(shape) / 2).T
    values[y**2 + x**2 < 18**2] += 500
    return values


def test_noisy_air_is_no_background_and_empty_slices_at_the_ends_of_a_stack_do_not_make_it_one():
    thin = Grid((64, 64, 6), (3.0, 3.0, 25.0), (0.0, 0.0, 0.0), GRID.direction)
    values = in_noise(thin.shape)
    for empty in ((), (0,), (0, -1)):
        values[list(empty)] = 0
        assert background_value(thin.image(values)) is None
    values[:, :10] = values[:, -10:] = 0
    assert background_value(thin.image(values)) == 0


class TestMeasured:
    """A head of noise that fills its field of view."""

    @pytest.fixture
    def values(self) -> np.ndarray:
        return np.random.default_rng(0).uniform(50, 100, GRID.shape).astype(np.float32)

    def test_all_of_an_image_without_padding_is_measured(self, values):
        assert array(measured(GRID.image(values))).all()

    def test_padding_is_not_measured_whatever_its_direction(self, values):
        z, y, x = np.indices(GRID.shape)
        padding = (0.4 * z + y + 0.3 * x < 30) | (z > 40) | (x < 6) | (x > 45)
        extent = array(measured(GRID.image(np.where(padding, 0, values))))
        # opened with a box of three voxels, a wedge loses its edge
        assert not extent[sitk.GetArrayFromImage(sitk.BinaryErode(GRID.image(padding), (2, 2, 2))) > 0].any()
        assert not extent[41:].any()
        assert extent[~padding].all()
        assert np.count_nonzero(extent & padding) < 0.03 * padding.size

    def test_empty_slices_at_the_end_of_a_stack_in_noisy_air_are_padding(self):
        values = in_noise(GRID.shape)
        values[:3] = 0
        extent = array(measured(GRID.image(values)))
        assert not extent[:3].any()
        assert extent[3:].all()

    def test_zeros_in_thin_paths_and_in_holes_are_measured(self, values):
        values[:12] = values[-4:] = values[:, :4] = values[:, -4:] = 0  # padding
        zeros = np.zeros(GRID.shape, dtype=bool)
        zeros[12:30, 30:32, 25:27] = True  # a path from the padding inwards
        zeros[30:40, 20:40, 20:40] = True  # a wide hole at its end
        extent = array(measured(GRID.image(np.where(zeros, 0, values))))
        assert not extent[:12].any()
        assert extent[12:-4, 4:-4].all()
