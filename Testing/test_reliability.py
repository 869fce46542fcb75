"""What a subset is good for, volumes, and what is said about results that should not be believed."""

from __future__ import annotations

import numpy as np
import pytest
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.package import default_folder, quality_table
from MSTKDSegmenterLib.engine.reliability import expectations, findings, outlook, unlike_measured, volumes
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((10, 10, 10), (1.0, 2.0, 5.0), (0.0, 0.0, 0.0), IDENTITY)
TABLE = {
    "T2": {"WT": 0.8, "TC": 0.6, "ET": 0.2},
    "FLAIR+T2": {"WT": 0.85, "TC": 0.6, "ET": 0.2},
    "T1ce+T2": {"WT": 0.8, "TC": 0.8, "ET": 0.7},
    "T1+T2": {"WT": 0.7, "TC": 0.6, "ET": 0.2},
}


def box(side: int, start: int = 2) -> dict[str, np.ndarray]:
    mask = np.zeros((10, 10, 10), dtype=bool)
    mask[start : start + side, start : start + side, start : start + side] = True
    return {"WT": mask, "TC": mask & False, "ET": mask & False}


def test_grades_follow_the_measured_dice() -> None:
    grades = {region: expected.grade for region, expected in expectations(TABLE, ["T2"]).items()}
    assert grades == {"WT": "good", "TC": "fair", "ET": "not reliable"}


def test_a_grade_fits_the_number_beside_it_which_has_two_digits() -> None:
    table = {"T2": {"WT": 0.7451, "TC": 0.4951, "ET": 0.4949}}
    shown = {
        region: (f"{expected.dice:.2f}", expected.grade) for region, expected in expectations(table, ["T2"]).items()
    }
    assert shown == {"WT": ("0.75", "good"), "TC": ("0.50", "fair"), "ET": ("0.49", "not reliable")}


def test_a_subset_without_measurement_has_no_expectation_and_that_is_said() -> None:
    assert expectations(TABLE, ["T1"]) == {}
    assert any("no measured quality for T1" in line for line in findings(box(3), GRID, ["T1"], TABLE, 10.0))


def test_the_most_helpful_sequence_is_the_one_with_the_largest_mean_gain() -> None:
    helpful = outlook(TABLE, ["T2"]).helpful
    assert helpful is not None
    assert helpful.sequence == "T1ce"
    assert helpful.gain == pytest.approx((0.8 + 0.8 + 0.7) / 3 - (0.8 + 0.6 + 0.2) / 3)
    assert helpful.by_region == {
        region: pytest.approx(gain) for region, gain in {"WT": 0, "TC": 0.2, "ET": 0.5}.items()
    }


def test_the_outlook_names_what_a_subset_cannot_support_and_what_would_help_in_one_line() -> None:
    ahead = outlook(TABLE, ["T2"])
    assert {region: expected.grade for region, expected in ahead.regions.items()} == {
        "WT": "good",
        "TC": "fair",
        "ET": "not reliable",
    }
    assert ahead.unsupported == ("ET",)
    assert ahead.sentence == "Adding T1ce would help most: mean Dice +0.23 (ET +0.50)."


@pytest.mark.parametrize(
    ("table", "subset", "sentence"),
    [
        (TABLE, [], "No sequence is chosen yet."),
        (TABLE, ["T1"], "The model has no measured quality for T1: judge every region by eye."),
        ({}, ["T1"], "The model has no measured quality for T1: judge every region by eye."),
        ({**TABLE, "FLAIR+T1+T1ce+T2": TABLE["T2"]}, ["T2", "T1ce", "T1", "FLAIR"], "All four sequences are there."),
        # by one region, +0.02, and by the mean less than what a few studies can tell from chance
        (
            {"T2": TABLE["T2"], "T1+T2": {**TABLE["T2"], "ET": 0.22}},
            ["T2"],
            "No further sequence is expected to help much.",
        ),
        ({"T2": TABLE["T2"], "T1+T2": TABLE["T1+T2"]}, ["T2"], "No further sequence is expected to help much."),
    ],
)
def test_where_nothing_helps_the_outlook_says_why(table: dict, subset: list[str], sentence: str) -> None:
    ahead = outlook(table, subset)
    assert ahead.helpful is None
    assert ahead.sentence == sentence


def test_the_outlook_of_the_shipped_model_grades_every_region_of_every_subset() -> None:
    table = quality_table(default_folder())
    for subset in SUBSETS:
        ahead = outlook(table, subset)
        assert set(ahead.regions) == {"WT", "TC", "ET"}
        assert set(ahead.unsupported) == {r for r, dice in table[subset_name(subset)].items() if round(dice, 2) < 0.5}
        assert ahead.helpful is None or ahead.helpful.sequence not in subset


def test_volumes_count_voxels_of_ten_cubic_millimetres() -> None:
    assert volumes(box(3), GRID) == {"WT": pytest.approx(27 * 10 / 1000), "TC": 0.0, "ET": 0.0}


@pytest.mark.parametrize(
    ("masks", "brain_ml", "words"),
    [
        (box(0), 10.0, "Empty result"),
        (box(2), 10.0, "may be noise"),
        (box(7), 4.0, "Implausible: whole tumour fills 86 %"),
        (box(3, start=0), 10.0, "border of the image"),
        (box(3, start=7), 10.0, "border of the image"),
    ],
)
def test_results_that_deserve_a_second_look_are_named(masks: dict, brain_ml: float, words: str) -> None:
    assert any(words in line for line in findings(masks, GRID, ["T2"], TABLE, brain_ml))


def test_enhancement_without_contrast_agent_is_flagged_and_with_it_is_not() -> None:
    masks = box(4)
    masks["ET"] = masks["WT"]
    assert any("without T1ce" in line for line in findings(masks, GRID, ["T2"], TABLE, 10.0))
    assert not any("without T1ce" in line for line in findings(masks, GRID, ["T1ce", "T2"], TABLE, 10.0))


def test_an_ordinary_result_with_a_good_subset_has_nothing_to_say() -> None:
    good = {"T2": {"WT": 0.9, "TC": 0.9, "ET": 0.9}}
    assert findings(box(5), GRID, ["T2"], good, 10.0) == []


def test_what_differs_from_the_studies_that_quality_was_measured_on_is_said() -> None:
    assert unlike_measured([True, True], 1.0, registered=False) == []
    (line,) = unlike_measured([True, False], 5.5, registered=True)
    assert all(words in line for words in ("the skull is on", "5.5 mm apart", "had to be registered", "Expect less"))
