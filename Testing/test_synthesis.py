"""Synthetic heads: what counts as brain, and images that depend on the seed alone and keep image and truth together."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from mstkd_training.acquisition import acquire, slice_matrices
from mstkd_training.anatomy import NAMES, Anatomy, anatomy_from_labels
from mstkd_training.placement import draw_placement
from mstkd_training.synthesis import draw_contrast, draw_lesions, paint, synthesise

SIZE = (48, 64, 48)


def distance_from(shape: tuple[int, int, int], centre: tuple[float, float, float]) -> np.ndarray:
    axes = np.ogrid[tuple(slice(0, side) for side in shape)]
    return np.sqrt(sum((axis - c) ** 2 for axis, c in zip(axes, centre)))


@pytest.fixture(scope="module")
def head() -> Anatomy:
    """Concentric tissues at 2 mm: white matter to 60 mm, cortex to 66, fluid to 70, bone to 78, skin to 84."""
    distance = 2 * distance_from((96, 96, 96), (47.5, 47.5, 47.5))
    tissue = np.zeros(distance.shape, dtype=np.uint8)
    for radius, name in ((84, "skin"), (78, "bone"), (70, "csf"), (66, "cortex"), (60, "white_matter")):
        tissue[distance < radius] = NAMES.index(name)
    return Anatomy("toy", tissue, (distance < 66).astype(np.float32), 2.0)


@pytest.fixture(scope="module")
def labels() -> sitk.Image:
    """1 mm labels, axes R, A, S: cortex with a ventricle and a sulcus, wide fluid around it, bone; an eye outside."""
    distance = distance_from((72, 72, 72), (36, 36, 36))
    codes = np.zeros(distance.shape, dtype=np.int16)
    codes[distance < 34] = 515
    codes[distance < 31] = 24
    codes[distance < 20] = 3
    codes[34:37, 36:, 34:37][distance[34:37, 36:, 34:37] < 20] = 24  # a narrow sulcus from the middle to the surface
    codes[distance < 6] = 4
    codes[4:8, 4:8, 4:8] = 506
    image = sitk.GetImageFromArray(codes)
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image


def test_brain_is_parenchyma_with_ventricles_and_sulci_but_without_the_wide_space_around(labels):
    anatomy = anatomy_from_labels(labels, "toy", factor=1)
    radius = distance_from(anatomy.brain.shape, tuple(np.argwhere(anatomy.brain > 0.5).mean(axis=0)))
    fluid = anatomy.tissue == NAMES.index("csf")
    sulcus, around = fluid & (radius < 17), fluid & (radius > 22)
    assert sulcus.sum() > 50
    assert anatomy.brain[sulcus].all()
    assert not anatomy.brain[around].any()
    assert anatomy.brain[anatomy.tissue == NAMES.index("ventricle")].all()
    assert not anatomy.brain[np.isin(anatomy.tissue, [NAMES.index("bone"), NAMES.index("eye")])].any()


def test_the_same_head_stored_with_other_axes_is_the_same_anatomy(labels):
    first = anatomy_from_labels(labels, "toy")
    turned = sitk.PermuteAxes(sitk.Flip(labels, (True, False, True)), (2, 0, 1))
    second = anatomy_from_labels(turned, "toy")
    np.testing.assert_array_equal(first.tissue, second.tissue)
    np.testing.assert_array_equal(first.brain, second.brain)


def test_coarser_anatomy_keeps_the_volume_of_the_brain(labels):
    fine, coarse = anatomy_from_labels(labels, "toy", factor=1), anatomy_from_labels(labels, "toy", factor=2)
    assert coarse.spacing == 2.0
    assert coarse.brain.sum() * 8 == pytest.approx(fine.brain.sum())


def test_a_code_that_no_tissue_has_is_refused(labels):
    odd = sitk.GetArrayFromImage(labels)
    odd[30, 30, 30] = 999
    with pytest.raises(ValueError, match="999"):
        anatomy_from_labels(sitk.GetImageFromArray(odd), "odd")


def test_a_label_map_that_is_not_1_mm_is_refused(labels):
    thick = sitk.Image(labels)
    thick.SetSpacing((1, 1, 5))
    with pytest.raises(ValueError, match="expected 1 mm"):
        anatomy_from_labels(thick, "thick")


def test_equal_seeds_give_equal_images_and_other_seeds_others(head):
    first, again, other = (synthesise(head, SIZE, 4.0, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.brain, again.brain)
    assert np.abs(first.image - other.image).max() > 0.1


def test_images_are_finite_and_not_negative_and_the_truth_is_a_share(head):
    for seed in range(5):
        sample = synthesise(head, SIZE, 4.0, seed)
        assert sample.image.shape == sample.brain.shape == SIZE
        assert np.isfinite(sample.image).all()
        assert sample.image.min() >= 0
        assert sample.brain.min() >= 0
        assert sample.brain.max() <= 1


def test_a_stripped_image_shows_nothing_outside_the_brain(head):
    for seed in range(6):
        sample = synthesise(head, SIZE, 4.0, seed, stripped=1.0)
        assert "stripped" in sample.description
        assert not sample.image[sample.brain == 0].any()


def test_image_and_truth_move_together(head):
    """An image that is bright in the brain only is, after any placement, as bright as the truth says."""
    placement = draw_placement(head, SIZE, 4.0, np.random.default_rng(3))
    image, brain = placement.sample([3 * head.brain, head.brain])
    np.testing.assert_allclose(image, 3 * brain, atol=1e-5)
    assert brain.max() > 0.99


def test_placement_changes_the_volume_of_the_brain_by_the_scales_it_promises(head):
    for seed in range(4):
        placement = draw_placement(head, (80, 80, 80), 4.0, np.random.default_rng(seed), jitter_mm=0.0)
        (brain,) = placement.sample([head.brain])
        ratio = brain.sum() * 4.0**3 / (head.brain.sum() * 2.0**3)
        assert (0.82 * 0.95) ** 3 * 0.9 < ratio < (1.18 * 1.05) ** 3 * 1.1


def test_lesions_stay_inside_the_brain(head):
    rng = np.random.default_rng(0)
    lesions = [lesion for _ in range(4) for lesion in draw_lesions(head, rng)]
    assert lesions
    contrast = draw_contrast(rng, "FLAIR")
    with_lesions = paint(head, contrast, lesions, np.random.default_rng(1))
    without = paint(head, contrast, [], np.random.default_rng(1))
    changed = with_lesions != without
    assert changed.any()
    assert not changed[head.brain <= 0.5].any()


@pytest.mark.parametrize(
    ("kind", "brighter", "darker"),
    [("T1", "white_matter", "cortex"), ("T2", "csf", "white_matter"), ("FLAIR", "cortex", "csf")],
)
def test_contrasts_like_a_sequence_are_mostly_in_its_order(kind, brighter, darker):
    rng = np.random.default_rng(0)
    means = [draw_contrast(rng, kind).mean for _ in range(50)]
    ordered = [mean[NAMES.index(brighter)] > mean[NAMES.index(darker)] for mean in means]
    assert np.mean(ordered) > 0.8


def test_thick_slices_keep_a_ramp_between_the_first_and_the_last_slice():
    acquired, restored, covered = slice_matrices(48, 4.0, thickness=5.0, distance=6.5, first=2.0)
    ramp = np.arange(48.0)
    result = restored @ (acquired @ ramp)
    inner = slice(4, 43)  # the profile is cut off at the ends of the image
    np.testing.assert_allclose(result[inner], ramp[inner], atol=0.05)
    assert covered[inner].all()
    np.testing.assert_allclose(acquired.sum(axis=1), 1, rtol=1e-5)


def test_thick_slices_blur_a_thin_sheet_to_the_slice_distance():
    acquired, restored, _ = slice_matrices(48, 1.0, thickness=6.0, distance=6.0, first=0.0)
    sheet = np.zeros(48)
    sheet[24] = 1.0
    result = restored @ (acquired @ sheet)
    assert result.max() < 0.35
    assert (result > 0.25 * result.max()).sum() >= 6


def test_outside_the_field_of_view_the_image_is_zero(head):
    image = paint(head, draw_contrast(np.random.default_rng(0), "T1"), [], np.random.default_rng(0))
    cut = 0
    for seed in range(6):
        acquired, seen = acquire(image, head.spacing, np.random.default_rng(seed))
        assert not acquired[~seen].any()
        cut += not seen.all()
    assert cut > 0
