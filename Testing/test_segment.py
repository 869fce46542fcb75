"""The whole path with the shipped student: every subset, headers of every kind, real studies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from head_phantom import relabelled, rotation, with_header
from MSTKDSegmenterLib.engine import segment as module
from MSTKDSegmenterLib.engine.errors import Cancelled
from MSTKDSegmenterLib.engine.inference import Prediction, predict
from MSTKDSegmenterLib.engine.package import ModelPackage, default_folder, load
from MSTKDSegmenterLib.engine.progress import Event
from MSTKDSegmenterLib.engine.regions import regions_of
from MSTKDSegmenterLib.engine.segment import Result, segment
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from MSTKDSegmenterLib.engine.study import study_from_folder, study_from_images
from phantom import PhantomStudy, make_study

PAIR = ("FLAIR", "T2")


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return load(default_folder())


@pytest.fixture(scope="module")
def study() -> PhantomStudy:
    return make_study(seed=0, spacing=3.0)


@pytest.fixture(scope="module")
def straight(study: PhantomStudy, package: ModelPackage) -> Result:
    return run({name: study.images[name] for name in PAIR}, package)


def run(images: Mapping[str, sitk.Image], package: ModelPackage) -> Result:
    return segment(study_from_images(dict(images)), package, device="cpu")


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / max(np.count_nonzero(first) + np.count_nonzero(second), 1)


def test_a_simulated_tumour_is_found_from_two_sequences(straight: Result, study: PhantomStudy) -> None:
    truth = regions_of(sitk.GetArrayFromImage(study.truth), "brats2023")
    assert dice(straight.masks["WT"], truth["WT"]) > 0.7
    assert straight.reference_grid.size == study.truth.GetSize()


def test_the_same_study_gives_the_same_result_twice(
    straight: Result, study: PhantomStudy, package: ModelPackage
) -> None:
    again = run({name: study.images[name] for name in PAIR}, package)
    np.testing.assert_array_equal(again.labels, straight.labels)


def test_the_network_sees_the_box_around_the_brain_and_the_report_says_so(straight: Result) -> None:
    box, grid = straight.report["box"], straight.report["harmonising"]["working_grid"]["size"][::-1]
    assert all(side <= whole for side, whole in zip(box, grid)) and box != grid
    assert straight.report["tile"] == box


def test_a_package_that_was_measured_with_the_air_around_the_head_says_so(
    straight: Result, study: PhantomStudy, package: ModelPackage
) -> None:
    earlier = replace(package, card={key: value for key, value in package.card.items() if key != "box"})
    found = run({"FLAIR": study.images["FLAIR"]}, earlier).report["findings"]
    assert [text for text in found if "measured by an earlier version" in text]
    assert not [text for text in straight.report["findings"] if "measured by an earlier version" in text]


def test_the_package_decides_on_temperature_mirroring_and_tiles(
    study: PhantomStudy, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def predicting(*arguments: object, **options: object) -> Prediction:
        asked.append(options)
        return predict(*arguments)

    monkeypatch.setattr(module, "predict", predicting)
    card = {**package.card, "temperatures": {"FLAIR+T2": 1.4}, "mirror": True, "tile": [64, 72, 64]}
    run({name: study.images[name] for name in PAIR}, replace(package, card=card))
    assert asked == [{"tile": (64, 72, 64), "mirror": True, "temperature": 1.4}]


@pytest.mark.parametrize("subset", SUBSETS, ids=subset_name)
def test_every_subset_gives_nested_regions_and_says_what_to_expect(
    subset: tuple[str, ...], study: PhantomStudy, package: ModelPackage
) -> None:
    result = run({name: study.images[name] for name in subset}, package)
    assert result.report["subset"] == subset_name(subset)
    assert set(result.report["expected"]) == {"WT", "TC", "ET"}
    weak = [region for region, expected in result.report["expected"].items() if round(expected["dice"], 2) < 0.5]
    assert result.report["unsupported"] == weak
    assert not np.any(result.masks["TC"] & ~result.masks["WT"])
    assert not np.any(result.masks["ET"] & ~result.masks["TC"])
    if not result.masks["WT"].any():
        assert any("Empty result" in line for line in result.report["findings"])


def shifted(image: sitk.Image) -> sitk.Image:
    return with_header(image, np.eye(3), (31.0, -17.5, 120.25))


def rotated(image: sitk.Image) -> sitk.Image:
    return with_header(image, rotation(25.0, (1.0, 2.0, -1.0)), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("change", [shifted, rotated])
def test_a_header_that_moves_the_head_moves_the_tumour_with_it(
    change: Callable[[sitk.Image], sitk.Image], straight: Result, study: PhantomStudy, package: ModelPackage
) -> None:
    images = {name: change(study.images[name]) for name in PAIR}
    result = run(images, package)
    # the same voxels in the moved header; rounding of the rotated header may decide a voxel or two on the threshold
    assert np.count_nonzero(result.labels != straight.labels) <= 5
    for name in PAIR:
        assert result.reference_grid.direction == pytest.approx(images[name].GetDirection())
        assert result.reference_grid.origin == pytest.approx(images[name].GetOrigin())


@pytest.mark.parametrize(
    ("order", "flips"),
    [
        ((0, 1, 2), (True, True, False)),  # LPS voxels stored as RAS
        ((2, 0, 1), (False, False, False)),  # sagittal
        ((0, 2, 1), (False, True, False)),  # coronal
        ((0, 1, 2), (True, False, False)),  # left-handed
    ],
)
def test_voxels_stored_in_another_order_give_the_same_tumour_in_space(
    order: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    straight: Result,
    study: PhantomStudy,
    package: ModelPackage,
) -> None:
    result = run({name: relabelled(study.images[name], order, flips) for name in PAIR}, package)
    back = sitk.Resample(
        result.reference_grid.image(result.labels), study.truth, sitk.Transform(), sitk.sitkNearestNeighbor
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), straight.labels)


def test_progress_runs_from_start_to_end_and_a_cancelled_job_stops(study: PhantomStudy, package: ModelPackage) -> None:
    images = {name: study.images[name] for name in PAIR}
    events: list[Event] = []
    segment(study_from_images(images), package, "cpu", events.append)
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len({event.stage for event in events}) > 4
    with pytest.raises(Cancelled):
        segment(study_from_images(images), package, "cpu", None, lambda: True)


def test_a_real_study_kept_out_of_training_is_right_from_all_four_and_from_flair_alone(
    shared_data: Path, package: ModelPackage
) -> None:
    folder = shared_data / "original" / "BraTS2021_00495"
    truth = regions_of(sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "BraTS2021_00495_seg.nii.gz"))), "brats2021")
    study = study_from_folder(folder)
    full = segment(study, package, "cpu")
    assert dice(full.masks["WT"], truth["WT"]) > 0.85
    assert dice(full.masks["TC"], truth["TC"]) > 0.7
    flair = run({"FLAIR": study.images["FLAIR"].image}, package)
    assert dice(flair.masks["WT"], truth["WT"]) > 0.75


def test_a_real_study_as_acquired_comes_back_on_its_own_grid(shared_data: Path, package: ModelPackage) -> None:
    study = study_from_folder(shared_data / "native" / "TCGA-FG-6692")
    result = segment(study, package, "cpu")
    reference = study.images[result.report["harmonising"]["reference"]].image
    assert result.reference_grid.size == reference.GetSize()
    assert result.reference_grid.origin == reference.GetOrigin()
    # the lesion is in the right frontal lobe: right of the middle of the head (smaller L) and in its front (smaller P)
    where = np.argwhere(result.masks["WT"]).mean(axis=0)[::-1]
    centre = np.array(reference.TransformContinuousIndexToPhysicalPoint(where.tolist()))
    middle = np.array(reference.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in reference.GetSize()]))
    assert centre[0] < middle[0] - 10
    assert centre[1] < middle[1]
    assert 10 < result.report["volumes_ml"]["WT"] < 120
