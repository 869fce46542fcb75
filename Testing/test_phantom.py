"""The simulated study is what the demonstration and other tests take it for."""

from __future__ import annotations

import numpy as np
import phantom
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid
from scipy import ndimage

SPACING = 4.0


@pytest.fixture(scope="module")
def study() -> phantom.PhantomStudy:
    return phantom.make_study(seed=3, spacing=SPACING)


@pytest.fixture(scope="module")
def arrays(study: phantom.PhantomStudy) -> dict[str, np.ndarray]:
    return {sequence: sitk.GetArrayFromImage(image) for sequence, image in study.images.items()}


@pytest.fixture(scope="module")
def labels(study: phantom.PhantomStudy) -> np.ndarray:
    return sitk.GetArrayFromImage(study.truth)


def test_all_four_sequences_and_the_truth_lie_on_one_grid_with_the_field_of_view_of_brats(study) -> None:
    grids = [Grid.of(image) for image in (*study.images.values(), study.truth)]
    assert list(study.images) == ["FLAIR", "T1", "T1ce", "T2"]
    assert all(grid.matches(grids[0]) for grid in grids)
    extent = np.ptp(grids[0].corners(), axis=0)
    assert extent == pytest.approx((240, 240, 155), abs=SPACING)


def test_the_same_seed_gives_the_same_voxels_and_another_seed_another_patient(study, arrays) -> None:
    again = phantom.make_study(seed=3, spacing=SPACING)
    other = phantom.make_study(seed=4, spacing=SPACING)
    for sequence, array in arrays.items():
        assert np.array_equal(array, sitk.GetArrayFromImage(again.images[sequence]))
        assert not np.array_equal(array, sitk.GetArrayFromImage(other.images[sequence]))
    assert not np.array_equal(sitk.GetArrayFromImage(study.truth), sitk.GetArrayFromImage(other.truth))


@pytest.mark.parametrize("seed", range(3))
def test_brain_and_tumour_have_the_sizes_of_a_patient(seed: int) -> None:
    study = phantom.make_study(seed, SPACING)
    ml = SPACING**3 / 1000
    labels = sitk.GetArrayFromImage(study.truth)
    brain = sitk.GetArrayFromImage(study.images["T1"]) > 0
    assert 1100 < ml * brain.sum() < 1800
    assert 25 < ml * (labels > 0).sum() < 250
    assert all(ml * (labels == value).sum() > 1.0 for value in phantom.LABELS.values())
    assert not (labels > 0)[~brain].any()


def test_every_sequence_is_zero_outside_the_brain_and_only_there(arrays) -> None:
    brain = arrays["T1"] > 0
    for array in arrays.values():
        assert np.array_equal(array > 0, brain)


def test_the_sequences_tell_the_parts_of_the_tumour_apart_in_the_clinical_order(arrays, labels) -> None:
    brightness = {
        sequence: {name: array[labels == value].mean() for name, value in phantom.LABELS.items()}
        | {"healthy": array[(labels == 0) & (array > 0)].mean()}
        for sequence, array in arrays.items()
    }
    assert brightness["FLAIR"]["ED"] > 1.3 * brightness["FLAIR"]["healthy"]
    assert brightness["T2"]["ED"] > brightness["T2"]["healthy"]
    assert brightness["T1"]["NCR"] < brightness["T1"]["healthy"]
    assert brightness["T1ce"]["ET"] > 1.3 * brightness["T1ce"]["healthy"]
    assert brightness["T1ce"]["ET"] > 1.3 * max(brightness["T1ce"][name] for name in ("NCR", "ED"))


def test_t1_and_t2_have_the_opposite_contrast(arrays, labels) -> None:
    healthy = (arrays["T1"] > 0) & (labels == 0)
    assert np.corrcoef(arrays["T1"][healthy], arrays["T2"][healthy])[0, 1] < -0.3


def test_oedema_follows_white_matter_and_stays_out_of_fluid() -> None:
    space = phantom._Space(SPACING, np.random.default_rng(5))
    centre, radius = phantom._site(space)
    white, grey, fluid, brain = phantom._anatomy(space, centre, radius)
    _, labels = phantom._tumour(space, centre, radius, white, grey, fluid, brain)
    core = np.isin(labels, (phantom.LABELS["NCR"], phantom.LABELS["ET"]))
    near = ndimage.distance_transform_edt(~core, sampling=SPACING) < 25
    oedema = labels == phantom.LABELS["ED"]
    in_white, in_grey = (oedema[near & ~core & (tissue > 0.6)].mean() for tissue in (white, grey))
    assert in_white > 1.5 * in_grey
    assert not (labels > 0)[fluid > 0.5].any()


def test_written_files_hold_the_study_and_are_named_like_brats(study, tmp_path) -> None:
    paths = study.write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"phantom_{name}.nii.gz" for name in ("flair", "seg", "t1", "t1ce", "t2")
    ]
    for sequence, path in paths.items():
        image = sitk.ReadImage(str(path))
        assert Grid.of(image).matches(Grid.of(study.images[sequence]))
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(study.images[sequence]))
