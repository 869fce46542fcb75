"""Rigid registration recovers motions that are known, and refuses what is not the same head."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from head_phantom import GRID, head, moved, rigid, rotation, with_header
from MSTKDSegmenterLib.engine.errors import Cancelled, UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.progress import Job
from MSTKDSegmenterLib.engine.register import Registration, register
from MSTKDSegmenterLib.engine.similarity import Agreement

MOTION = rigid(14.0, (1.0, -0.5, 0.7), (6.0, -9.0, 12.0))
THICK = Grid((60, 60, 30), (3.0, 3.0, 6.0), (-90.0, -90.0, -80.0), GRID.direction)


@pytest.fixture(scope="module")
def t1ce() -> sitk.Image:
    return head("T1ce")


@pytest.fixture(scope="module")
def thick_flair() -> sitk.Image:
    return moved(head("FLAIR"), MOTION, THICK)


@pytest.fixture(scope="module")
def result(t1ce, thick_flair) -> Registration:
    return register(t1ce, thick_flair, t1ce != 0)


def errors_mm(found: sitk.Transform, truth: sitk.Transform) -> np.ndarray:
    """How far off every 500th brain voxel ends up."""
    brain = np.argwhere(sitk.GetArrayFromImage(head("T1ce")) != 0)[::500, ::-1]
    points = [point.tolist() for point in GRID.physical(brain)]
    return np.array([np.subtract(found.TransformPoint(p), truth.TransformPoint(p)) for p in points])


def test_a_moved_head_with_thick_slices_of_another_contrast_is_found_again(result):
    assert result.registered
    assert np.linalg.norm(errors_mm(result.transform, MOTION), axis=1).max() < 1.0  # a third of a voxel


def test_the_record_says_what_was_found(result):
    record = result.to_dict()
    assert record["rotation_deg"] == pytest.approx(14.0, abs=0.5)
    assert record["similarity_after"] > record["similarity_before"]
    assert 0.9 < record["coverage"] <= 1.0
    assert not result.doubtful
    assert record["mirrored"] is False


def test_a_large_motion_is_found_again(t1ce):
    motion = rigid(35.0, (0.2, 1.0, 0.4), (-25.0, 20.0, 15.0))
    wide = Grid((80, 80, 80), (3.0,) * 3, (-120.0, -120.0, -112.0), GRID.direction)
    found = register(t1ce, moved(head("T2"), motion, wide), t1ce != 0)
    assert np.linalg.norm(errors_mm(found.transform, motion), axis=1).max() < 1.0


def test_turning_the_headers_of_both_images_turns_the_result(t1ce, thick_flair, result):
    turn, shift = rotation(25, (1, 2, -1)), np.array((30.0, -40.0, 500.0))
    turned = register(
        with_header(t1ce, turn, shift), with_header(thick_flair, turn, shift), with_header(t1ce != 0, turn, shift)
    )
    for point in GRID.corners():
        expected = turn @ result.transform.TransformPoint(point.tolist()) + shift
        found = turned.transform.TransformPoint((turn @ point + shift).tolist())
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_the_number_of_cores_does_not_change_a_bit(t1ce, thick_flair, result):
    cores = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(3 if cores != 3 else 1)
        again = register(t1ce, thick_flair, t1ce != 0)
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cores)
    assert again.transform.GetParameters() == result.transform.GetParameters()


def test_a_head_that_has_not_moved_is_left_as_it_is(t1ce):
    found = register(t1ce, head("T2"), t1ce != 0)
    assert not found.registered
    assert "already aligned" in found.judgement
    assert found.transform.TransformPoint((10.0, 20.0, 30.0)) == (10.0, 20.0, 30.0)


def test_a_head_on_its_side_is_refused(t1ce):
    lying = with_header(head("T1"), rotation(90, (0, 0, 1)), (0, 0, 0))
    with pytest.raises(UnusableInput, match="different bodies or patients"):
        register(t1ce, lying, t1ce != 0)


def test_two_patients_are_told_apart(t1ce):
    with pytest.raises(UnusableInput, match="different bodies or patients"):
        register(t1ce, head("FLAIR", patient=2), t1ce != 0)


def test_who_insists_that_they_are_of_one_patient_is_believed_and_told_of_the_doubt(t1ce):
    found = register(t1ce, head("FLAIR", patient=2), t1ce != 0, same_patient=True)
    assert found.doubtful


@pytest.fixture(scope="module")
def mirrored_flair() -> sitk.Image:
    """Its voxels from right to left, its header as before."""
    return GRID.image(np.ascontiguousarray(sitk.GetArrayFromImage(head("FLAIR"))[:, :, ::-1]))


def test_a_mirrored_sequence_is_refused_for_what_it_is_whatever_its_axes(t1ce, mirrored_flair):
    elsewhere = moved(mirrored_flair, MOTION)
    stored = sitk.PermuteAxes(sitk.Flip(elsewhere, (True, False, True)), (2, 0, 1))
    with pytest.raises(UnusableInput, match="one of them turned left for right"):
        register(t1ce, stored, t1ce != 0)


def test_who_insists_on_a_mirrored_sequence_is_told_of_it(t1ce, mirrored_flair):
    assert register(t1ce, mirrored_flair, t1ce != 0, same_patient=True).to_dict()["mirrored"]


def test_a_stack_that_shows_little_of_the_brain_is_refused(t1ce):
    top = sitk.RegionOfInterest(head("T2"), (52, 60, 10), (0, 0, 36))
    with pytest.raises(UnusableInput, match=r"share \d+% of the brain"):
        register(t1ce, top, t1ce != 0)


def test_cancelling_stops_it_within_an_iteration(t1ce, thick_flair):
    asked = []

    def cancelled() -> bool:
        asked.append(True)
        return len(asked) > 3

    with pytest.raises(Cancelled):
        register(t1ce, thick_flair, t1ce != 0, job=Job(cancelled=cancelled))
    assert len(asked) <= 6


def test_similarity_is_two_for_equal_images_and_one_for_unrelated_ones():
    random = np.random.default_rng(0)
    image = GRID.image(random.normal(size=GRID.shape).astype(np.float32))
    other = GRID.image(random.normal(size=GRID.shape).astype(np.float32))
    everywhere = GRID.empty_image(sitk.sitkUInt8) + 1
    still = sitk.Transform(3, sitk.sitkIdentity)
    assert Agreement(image, everywhere, 5 - 3 * image).similarity(still) == pytest.approx(2.0, abs=0.05)
    assert Agreement(image, everywhere, other).similarity(still) == pytest.approx(1.0, abs=0.002)


def test_coverage_is_the_share_of_the_region_in_the_field_of_view():
    image = GRID.empty_image(sitk.sitkFloat32)
    everywhere = GRID.empty_image(sitk.sitkUInt8) + 1
    half = sitk.TranslationTransform(3, (26 * 3.0, 0.0, 0.0))
    assert Agreement(image, everywhere, image).coverage(half) == pytest.approx(0.5)
