"""Grids and resampling against formulas in physical space."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from head_phantom import relabelled, rotation, with_header
from MSTKDSegmenterLib.engine.geometry import ANTIALIAS_SIGMA, Grid, canonical, resample, working_grid

OBLIQUE = rotation(17, (1, 2, 3))
RELABELLINGS = [
    (order, flips) for order in permutations(range(3)) for flips in product((False, True), repeat=3)
]  # all 48 ways to store a volume


def grid(size=(9, 8, 7), spacing=(1.0, 1.5, 2.0), origin=(-3.0, 4.0, 5.0), axes=OBLIQUE) -> Grid:
    return Grid(size, spacing, origin, tuple(axes.ravel()))


def ramp(points: np.ndarray) -> np.ndarray:
    return points @ (3.0, -2.0, 1.5) + 7.0


def points_of(of: Grid) -> np.ndarray:
    """(z, y, x, 3) physical points, by SimpleITK itself."""
    image = of.empty_image(sitk.sitkUInt8)
    points = [image.TransformIndexToPhysicalPoint((x, y, z)) for z, y, x in np.ndindex(of.shape)]
    return np.array(points).reshape(*of.shape, 3)


def box(reference: Grid, first=(2, 2, 2), last=(5, 4, 4)) -> sitk.Image:
    mask = np.zeros(reference.shape, dtype=np.uint8)
    mask[tuple(slice(a, b + 1) for a, b in zip(first[::-1], last[::-1]))] = 1
    return reference.image(mask)


def test_points_of_a_grid_are_those_of_simpleitk():
    of = grid()
    indices = np.moveaxis(np.indices(of.shape)[::-1], 0, -1)
    np.testing.assert_allclose(of.physical(indices), points_of(of), atol=1e-9)


def test_a_grid_survives_the_way_through_an_image():
    assert Grid.of(grid().empty_image(sitk.sitkFloat32)) == grid()
    assert Grid.of(grid().image(np.zeros(grid().shape, dtype=bool))) == grid()


def test_an_array_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(7, 8, 9\)"):
        grid().image(np.zeros((9, 8, 7)))


def test_grids_match_up_to_rounding_of_headers_only():
    assert grid().matches(grid(origin=(-3.0, 4.0, 5.0001)))
    assert not grid().matches(grid(origin=(-3.0, 4.0, 5.1)))
    assert not grid().matches(grid(axes=np.eye(3)))
    assert not grid().matches(grid(size=(9, 8, 6)))


@pytest.mark.parametrize(("order", "flips"), RELABELLINGS)
def test_a_stored_order_of_axes_does_not_matter(order, flips):
    image = grid().image(np.random.default_rng(0).normal(size=grid().shape))
    same = canonical(relabelled(image, order, flips))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(same), sitk.GetArrayFromImage(image))
    assert Grid.of(same).matches(grid())


def test_canonical_axes_are_nearest_to_lps_and_right_handed():
    sagittal = with_header(grid(axes=np.eye(3)).empty_image(sitk.sitkUInt8), rotation(80, (0, 1, 0)), (0, 0, 0))
    axes = Grid.of(canonical(sagittal)).axes
    assert np.linalg.det(axes) == pytest.approx(1)
    assert (np.diag(axes) > np.cos(np.radians(10.1))).all()


def test_the_working_grid_surrounds_the_brain():
    reference = grid()
    mask = box(reference)
    found = working_grid(mask, spacing=1.25, margin=3.0, multiple=4)
    assert found.spacing == (1.25,) * 3
    assert all(n % 4 == 0 for n in found.size)
    brain = points_of(reference)[sitk.GetArrayFromImage(mask) > 0]
    inside = (brain - found.origin) @ found.axes
    extent = (np.array(found.size) - 1) * 1.25
    # half a voxel of the reference belongs to the brain's extent, half a one may be spent on aligning the grids
    assert (inside >= 3.0 - 1.25 / 2 - 1e-6).all()
    assert (inside <= extent - 3.0 + 1.25 / 2 + 1e-6).all()
    # and it is no larger than the multiple demands
    needed = (np.ptp(inside, axis=0) + reference.spacing + 2 * 3.0) / 1.25
    assert (np.array(found.size) < needed + 4 + 1e-6).all()


def test_the_working_grid_samples_at_voxel_centres_of_a_finer_reference():
    reference = grid(size=(30, 31, 33), spacing=(1.0, 1.0, 1.0))
    found = working_grid(box(reference, (4, 5, 6), (20, 22, 21)), spacing=2.0, margin=6.0, multiple=8)
    index = (np.array(found.origin) - reference.origin) @ reference.axes
    np.testing.assert_allclose(index, index.round(), atol=1e-9)


@pytest.mark.parametrize(("order", "flips"), RELABELLINGS[::5])
def test_the_working_grid_does_not_depend_on_how_the_reference_is_stored(order, flips):
    mask = box(grid())
    assert working_grid(relabelled(mask, order, flips), 2.0, 6.0, 8).matches(working_grid(mask, 2.0, 6.0, 8))


def test_the_working_grid_turns_with_the_header():
    turn, shift = rotation(10, (3, 1, -2)), np.array((40.0, -7.0, 300.0))
    straight = working_grid(box(grid()), 2.0, 6.0, 8)
    turned = working_grid(with_header(box(grid()), turn, shift), 2.0, 6.0, 8)
    assert turned.size == straight.size
    np.testing.assert_allclose(turned.corners(), straight.corners() @ turn.T + shift, atol=1e-9)


def test_an_empty_mask_has_no_working_grid():
    with pytest.raises(ValueError, match="empty"):
        working_grid(grid().empty_image(sitk.sitkUInt8), 2.0, 6.0, 8)


@pytest.mark.parametrize("antialias", [False, True])
def test_resampling_keeps_a_linear_ramp_where_it_is_in_space(antialias):
    source = grid(size=(41, 31, 22), spacing=(0.8, 1.0, 3.0), origin=(-10, -10, -30), axes=rotation(-20, (1, 0, 1)))
    target = Grid((6, 5, 4), (2.0,) * 3, tuple(source.physical((17, 13, 9))), tuple(OBLIQUE.ravel()))
    result = resample(source.image(ramp(points_of(source))), target, antialias=antialias)
    assert Grid.of(result) == target
    np.testing.assert_allclose(sitk.GetArrayFromImage(result), ramp(points_of(target)), rtol=1e-4)


def test_a_transform_goes_from_the_target_to_the_image():
    source = grid(size=(20, 20, 20), axes=np.eye(3))
    target = grid(size=(5, 5, 5))
    shift = np.array((2.0, 3.0, 10.0))
    result = resample(source.image(ramp(points_of(source))), target, transform=sitk.TranslationTransform(3, shift))
    expected = ramp(points_of(target) + shift)
    inside = ((points_of(target) + shift - source.origin) / source.spacing >= 0).all(axis=-1)
    assert inside.sum() > 60
    np.testing.assert_allclose(sitk.GetArrayFromImage(result)[inside], expected[inside], rtol=1e-6)


def test_outside_the_image_lies_the_default():
    far = grid(origin=(1000.0, 0.0, 0.0))
    assert (sitk.GetArrayFromImage(resample(grid().empty_image(sitk.sitkFloat32), far, default=-1.0)) == -1).all()


def test_antialiasing_blurs_a_fine_axis_to_the_width_of_the_target_and_leaves_a_thick_one_alone():
    source = Grid((41, 41, 9), (1.0, 1.0, 6.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    point = np.zeros(source.shape, dtype=np.float32)
    point[4, 20, 20] = 1
    # shifted by 0, 1 and 2 mm the 3 mm samples together show the whole response
    lines = np.zeros(41)
    for start in range(3):
        target = Grid((13, 1, 1), (3.0,) * 3, (1.0 + start, 20.0, 24.0), source.direction)
        samples = resample(source.image(point), target, antialias=True)
        lines[1 + start : 40 + start : 3] = sitk.GetArrayFromImage(samples)
    position = np.arange(41) - 20
    assert (lines * position**2).sum() / lines.sum() == pytest.approx(ANTIALIAS_SIGMA**2 * (9 - 1), rel=0.02)
    across = Grid((1, 1, 9), (3.0,) * 3, (20.0, 20.0, 12.0), source.direction)
    profile = sitk.GetArrayFromImage(resample(source.image(point), across, antialias=True)).ravel()
    np.testing.assert_allclose(profile / profile[4], [0, 0, 0, 0.5, 1, 0.5, 0, 0, 0], atol=1e-6)


def test_antialiasing_removes_what_the_target_cannot_show():
    source = Grid((40, 40, 40), (1.0,) * 3, (0.0,) * 3, (1, 0, 0, 0, 1, 0, 0, 0, 1))
    stripes = np.broadcast_to(100.0 * (np.arange(40) % 2), source.shape).astype(np.float32)
    target = Grid((8, 8, 8), (4.0,) * 3, (5.0,) * 3, source.direction)
    assert sitk.GetArrayFromImage(resample(source.image(stripes), target)).min() == 100
    smooth = resample(source.image(stripes), target, antialias=True)
    np.testing.assert_allclose(sitk.GetArrayFromImage(smooth), 50, atol=1)


def test_a_part_of_a_grid_gets_the_same_values_as_the_whole():
    source = grid(size=(60, 50, 20), spacing=(0.5, 0.5, 2.0))
    image = source.image(np.random.default_rng(3).normal(size=source.shape).astype(np.float32))
    whole = Grid((16, 12, 18), (2.0,) * 3, source.origin, source.direction)
    part = Grid((4, 3, 5), (2.0,) * 3, tuple(whole.physical((5, 4, 6))), source.direction)
    expected = sitk.GetArrayFromImage(resample(image, whole, antialias=True))[6:11, 4:7, 5:9]
    np.testing.assert_allclose(sitk.GetArrayFromImage(resample(image, part, antialias=True)), expected, atol=1e-5)
