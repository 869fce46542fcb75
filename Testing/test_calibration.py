"""Counts of what a network said, and the temperatures, thresholds and curves that follow from them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import tiny_run
from mstkd_training import calibration, counts, crossvalidation
from mstkd_training.cache import Sample
from mstkd_training.calibration import Calibration
from mstkd_training.counts import BINS, TEMPERATURES, Counts, binned
from mstkd_training.crossvalidation import calibration_of, crossvalidate, learnt, record_of
from mstkd_training.ladder import by_heart, comparable, ladder, unlike
from mstkd_training.networks import new_student, trained_student
from mstkd_training.trainer import Trainer
from mstkd_training.validation import predict
from MSTKDSegmenterLib.engine.calibration import GROUPS
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name

NAMES = [subset_name(subset) for subset in SUBSETS]


def counted(said: np.ndarray, true: np.ndarray, temperature: float = 1.0, patients: int = 1) -> Counts:
    """The same for all subsets and regions; what other temperatures say is 0.5 for everything."""
    shape = (patients, len(SUBSETS), len(TEMPERATURES), len(REGIONS), 2, BINS)
    voxels = np.zeros(shape, np.int32)
    voxels[:] = binned(torch.full((len(said),), 0.5), torch.from_numpy(true))
    step = TEMPERATURES.index(temperature)
    voxels[:, :, step] = binned(torch.from_numpy(said), torch.from_numpy(true))
    entropy = np.ones(shape[:3])
    entropy[:, :, step] = 0.5
    names = tuple(f"p{number}" for number in range(patients))
    return Counts(names, names, voxels, entropy, 0.008)


def test_every_voxel_is_counted_once_in_the_bin_of_its_probability() -> None:
    found = binned(torch.tensor([0.0, 0.0049, 0.005, 1.0, 1.0]), torch.tensor([False, False, True, True, False]))
    assert found.shape == (2, BINS)
    assert (found[0, 0], found[1, 1], found[0, -1], found[1, -1], found.sum()) == (2, 1, 1, 1, 5)


def test_dice_from_counts_is_that_of_the_masks() -> None:
    rng = np.random.default_rng(0)
    said, true = rng.random(5000), rng.random(5000) < 0.3
    voxels = binned(torch.from_numpy(said), torch.from_numpy(true))
    for threshold in (0.2, 0.5, 0.65):
        mask = said >= threshold
        expected = 2 * (mask & true).sum() / (mask.sum() + true.sum())
        assert calibration.dice(voxels[None], threshold)[0] == pytest.approx(expected)


def test_a_region_that_is_neither_there_nor_found_has_a_dice_of_one() -> None:
    voxels = binned(torch.full((10,), 0.1), torch.zeros(10, dtype=torch.bool))
    assert calibration.dice(voxels[None], 0.5)[0] == 1.0


def test_the_temperature_is_the_one_with_the_least_cross_entropy() -> None:
    fitted = calibration.fit(counted(np.array([0.5]), np.array([True]), temperature=1.7))
    assert fitted.temperatures == dict.fromkeys(NAMES, 1.7)


def test_cross_entropy_is_that_of_the_classes_at_each_temperature(tmp_path: Path) -> None:
    config = tiny_run.configuration(tiny_run.settings(tmp_path))
    study, network = tiny_run.sample(0, "a"), new_student(config).eval()
    found = counts.count(network, [("a", study)], 2.0, torch.device("cpu"))
    inside = 20**3 / study.labels.size  # of the brain's box, 20 voxels are padded to 24; air outside of it is certain
    for place in (0, len(SUBSETS) - 1):
        logits, truth = (
            array[..., :20, :20, :20] for array in predict(network, study, SUBSETS[place], torch.device("cpu"))
        )
        for step in (0, len(TEMPERATURES) - 1):
            expected = torch.nn.functional.cross_entropy(logits / TEMPERATURES[step], truth).item() * inside
            assert found.entropy[0, place, step] == pytest.approx(expected, rel=1e-4)


def test_thresholds_do_not_fall_from_the_whole_tumour_to_its_parts() -> None:
    # alone, WT would be best at 0.8 and ET at 0.2
    high = binned(torch.tensor([0.75] * 50 + [0.9] * 50), torch.tensor([False] * 50 + [True] * 50))
    low = binned(torch.tensor([0.1] * 50 + [0.25] * 50), torch.tensor([False] * 50 + [True] * 50))
    found = counted(np.array([0.5]), np.array([True]))
    found.voxels[:] = low
    found.voxels[:, :, :, 0] = high
    for own in calibration.fit(found).thresholds.values():
        assert own["WT"] <= own["TC"] <= own["ET"]
    found.voxels[:, :, :, 0], found.voxels[:, :, :, 2] = low, high
    found.voxels[:, :, :, 1] = low
    assert calibration.fit(found).thresholds["T1"] == {"WT": 0.2, "TC": 0.2, "ET": 0.8}


def test_a_threshold_moves_only_where_it_gains_enough() -> None:
    # everything true is said with 0.35, so 0.5 finds nothing of it
    said, true = np.array([0.35] * 50 + [0.1] * 50), np.array([True] * 50 + [False] * 50)
    assert calibration.fit(counted(said, true)).thresholds["T1"]["WT"] < 0.36
    # 0.45 gains two voxels in a thousand
    said, true = np.array([0.9] * 998 + [0.47] * 2), np.array([True] * 1000)
    assert calibration.fit(counted(said, true)).thresholds["T1"]["WT"] == 0.5


def test_rows_give_dice_and_millilitres() -> None:
    said, true = np.array([0.9, 0.9, 0.9, 0.1, 0.1]), np.array([True, True, False, True, False])
    row = calibration.rows(counted(said, true), calibration.none())[0]
    assert (row["study"], row["subset"]) == ("p0", NAMES[0])
    assert row["ET_dice"] == pytest.approx(2 * 2 / (3 + 3))
    assert (row["ET_found_ml"], row["ET_true_ml"]) == pytest.approx((0.024, 0.024))


def test_the_reliability_curve_is_on_the_diagonal_for_honest_probabilities_and_off_it_for_others() -> None:
    rng = np.random.default_rng(2)
    said = rng.random(200_000)
    own = {"p0": calibration.none()}
    honest = calibration.reliability(counted(said, rng.random(200_000) < said), own, "WT")
    assert honest.error < 0.01
    assert honest.voxels.sum() == 200_000 * len(SUBSETS)
    boasting = calibration.reliability(counted(said, rng.random(200_000) < said / 2), own, "WT")
    assert boasting.error == pytest.approx(0.25, abs=0.01)


def test_the_curve_leads_from_what_is_said_to_what_is_true() -> None:
    rng = np.random.default_rng(3)
    said = rng.random(400_000)
    voxels = binned(torch.from_numpy(said), torch.from_numpy(rng.random(400_000) < said**2))
    points = np.array(calibration.curve(voxels))
    assert points[0].tolist() == [0, 0]
    assert len(calibration.EDGES) - 3 < len(points) <= len(calibration.EDGES) + 1  # chance may join the lowest
    assert (np.diff(points[:, 0]) > 0).all()
    assert (np.diff(points[:, 1]) >= 0).all()
    # the share of a range of truth is the mean of the squares in it, which is more than the square of their mean
    np.testing.assert_allclose(points[1:, 1], points[1:, 0] ** 2, atol=0.01)


def test_where_more_was_true_of_what_was_said_with_less_the_curve_takes_both_together() -> None:
    said = np.array([0.15] * 100 + [0.25] * 300 + [0.55] * 100)
    true = np.array([True] * 40 + [False] * 60 + [True] * 60 + [False] * 240 + [True] * 50 + [False] * 50)
    points = calibration.curve(binned(torch.from_numpy(said), torch.from_numpy(true)))
    # 0.15 was true in 40 %, 0.25 in 20 %: together 100 of 400; the middles of their bins are 0.1525, 0.2525, 0.5525
    assert points == [[0, 0], [0.2275, 0.25], [0.5525, 0.5]]


def test_calibrated_probabilities_are_honest_about_patients_who_are_like_those_of_the_fit() -> None:
    rng = np.random.default_rng(4)
    said = rng.random(100_000)
    first, second = (counted(said, rng.random(100_000) < said / 2) for _ in range(2))
    fitted = calibration.fit(first)
    assert calibration.reliability(second, {"p0": calibration.none()}, "TC").error == pytest.approx(0.25, abs=0.01)
    found = calibration.honesty(second, {"p0": fitted})
    for region in REGIONS:
        assert found["calibrated"][region]["error"] < 0.01
        assert max(found["calibrated"][region]["said"]) == pytest.approx(0.5, abs=0.05)
        assert found["as_said"][region]["error"] == pytest.approx(0.25, abs=0.01)
        alone = found["patients"]["p0"][region]
        assert alone["error"] == found["calibrated"][region]["error"]
        assert (alone["said"], alone["true"]) == pytest.approx((0.26, 0.26), abs=0.01)  # of 0.01 to 0.5


def test_the_errors_of_two_patients_may_be_large_while_they_cancel_out_together() -> None:
    said = np.full(1000, 0.5025)
    both = counts.joined([counted(said, np.arange(1000) < share) for share in (800, 200)])
    both = Counts(both.studies, ("p0", "p1"), both.voxels, both.entropy, both.millilitres)
    found = calibration.honesty(both, dict.fromkeys(both.patients, calibration.none()))
    assert found["calibrated"]["WT"]["error"] == pytest.approx(0, abs=0.01)
    assert [one["WT"]["error"] for one in found["patients"].values()] == pytest.approx([0.3, 0.3], abs=0.01)
    assert [one["WT"]["true"] for one in found["patients"].values()] == [0.8, 0.2]


def test_a_curve_does_not_choose_the_voxels_that_it_is_judged_by() -> None:
    rng = np.random.default_rng(6)
    said = rng.random(100_000)
    of = counted(said, rng.random(100_000) < said)
    hides = {region: {key: [[0.0, 0.0], [1.0, 0.0199]] for key in GROUPS} for region in REGIONS}
    hiding = dataclasses.replace(calibration.none(), curves=hides)
    assert calibration.error_of_patients(of, {"p0": calibration.none()}, "WT") < 0.02
    # of 0.02 to 1 half was true, next to nothing is said
    assert calibration.error_of_patients(of, {"p0": hiding}, "WT") == pytest.approx(0.5, abs=0.01)


def test_nothing_said_is_nothing_wrong() -> None:
    found = calibration.reliability(counted(np.zeros(10), np.ones(10, bool)), {"p0": calibration.none()}, "WT", 0.02)
    assert (found.voxels.size, found.error) == (0, 0.0)


def test_counts_come_back_for_the_same_weights_and_data_only(tmp_path: Path) -> None:
    written = counted(np.array([0.2]), np.array([True]))
    counts.save(written, tmp_path / "counts.npz", "these")
    assert counts.load(tmp_path / "counts.npz", "others") is None
    back = counts.load(tmp_path / "counts.npz", "these")
    assert (back.studies, back.patients) == (written.studies, written.patients)
    assert np.array_equal(back.voxels, written.voxels)


def flipped(study: Sample) -> Sample:
    image, brain, labels = (array[..., ::-1].copy() for array in (study.image, study.brain, study.labels))
    return Sample(study.patient, image, brain, labels, study.origin)


def test_the_mirrored_image_is_answered_mirrored(tmp_path: Path) -> None:
    config = tiny_run.configuration(tiny_run.settings(tmp_path))
    study = tiny_run.sample(0, "a", side=28)  # the brain's box, 24 voxels, goes to the network without padding
    network = new_student(config).eval()
    one = counts.count(network, [("a", study)], 2.0, torch.device("cpu"), mirror=True)
    other = counts.count(network, [("a", flipped(study))], 2.0, torch.device("cpu"), mirror=True)
    # an average over both looks does not know which of them came first; sums of floats may cross the border of a bin
    assert np.abs(one.voxels - other.voxels).sum() <= 0.001 * one.voxels.sum()
    alone = counts.count(network, [("a", study)], 2.0, torch.device("cpu"))
    assert np.abs(one.voxels - alone.voxels).sum() > 0.01 * one.voxels.sum()


@pytest.fixture(scope="module")
def folds(tmp_path_factory: pytest.TempPathFactory):
    """A run of two trained folds, and what its cross-validation has written."""
    values = tiny_run.settings(tmp_path_factory.mktemp("folds"))
    values["data"] |= {"held_out": [], "validation": [], "test_share": 0, "validation_share": 0}
    values["data"] |= {"folds": [["a", "b"], ["v", "t"]], "splits": "cv"}
    values["optim"] |= {"steps": 2}
    config = tiny_run.configuration(values)
    for number in range(2):
        tiny_run.divide(config.of_fold(number))
        Trainer(config.of_fold(number)).fit()
    return config, crossvalidate(config)


def test_every_patient_is_tested_once_by_the_fold_that_has_not_seen_them(folds) -> None:
    config, record = folds
    assert sorted((row["study"], row["subset"]) for row in record["rows"]) == sorted(
        (patient, name) for patient in tiny_run.PATIENTS for name in NAMES
    )
    for number in range(2):
        seen = json.loads((config.of_fold(number).folder / "provenance.json").read_text())[0]["seen"]
        assert not set(seen) & set(config.data.folds[number])


def test_a_fold_is_calibrated_without_its_own_patients(folds) -> None:
    config, record = folds
    parts = [counts.load(path, _belongs_to(path)) for path in sorted(config.folder.glob("fold*/counts.npz"))]
    fitted = [calibration.fit(part) for part in reversed(parts)]
    own = {patient: one for part, one in zip(parts, fitted, strict=True) for patient in part.patients}
    helped = [region for region in REGIONS if curves_help(parts, own, region)]
    fitted = [calibration.with_curves(one, helped) for one in fitted]
    halved = [calibration.halved(one) for one in fitted]
    gained = mean_dice(parts, fitted) > mean_dice(parts, halved) + calibration.SMALLEST_GAIN
    assert [calibration_of(record, fold) for fold in range(2)] == (fitted if gained else halved)
    of_all = calibration.with_curves(calibration.fit(counts.joined(parts)), helped)
    assert calibration_of(record, None) == (of_all if gained else calibration.halved(of_all))


def test_what_folds_know_by_heart_is_measured_on_those_whom_they_have_learnt_from(folds) -> None:
    config, record = folds
    found = learnt(config)
    assert [row["study"] for row in found[:: len(NAMES)]] == ["t", "v", "a", "b"]
    network = trained_student(config.of_fold(1)).network
    sample = tiny_run.sample(tiny_run.PATIENTS.index("a"), "a")
    own = calibration.rows(counts.count(network, [("a", sample)], 2.0, torch.device("cpu")), calibration.none())
    assert [row for row in found if row["study"] == "a"] == own
    shown = by_heart(record["rows_without_calibration"], [{**row, "WT_dice": 0.875} for row in found])
    assert "| learnt from | 0.875 [0.875, 0.875] |" in shown
    mean = np.mean([row["WT_dice"] for row in record["rows_without_calibration"]])
    assert f"| new | {mean:.3f} [" in shown


def test_a_run_without_a_cross_validation_has_no_calibration(folds) -> None:
    config, _ = folds
    assert record_of(config.model_copy(update={"name": "other"})) is None
    assert calibration_of(None, None) == calibration.none()


def test_a_cross_validation_of_other_weights_or_of_another_use_is_refused(folds) -> None:
    config, record = folds
    assert record_of(config.of_fold(1)) == record
    with pytest.raises(ValueError, match=r"crossvalidation\.json is of other mirror: run"):
        record_of(config.model_copy(update={"mirror": True}))
    path = config.folder / "crossvalidation.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps({key: value for key, value in record.items() if key != "format"}))
        with pytest.raises(ValueError, match=r"is of other format: run .*crossvalidate\.py"):
            record_of(config)
        path.write_text(json.dumps({**record, "weights": [record["weights"][0], "those of before"]}))
        with pytest.raises(ValueError, match=r"is of other weights: run .*crossvalidate\.py"):
            record_of(config)
    finally:
        path.write_text(before)


def test_the_patients_of_a_single_fold_calibrate_each_other(folds, monkeypatch: pytest.MonkeyPatch) -> None:
    config, record = folds
    path = config.of_fold(0).folder / "counts.npz"
    both = counts.load(path, _belongs_to(path))
    assert [part.patients for part in counts.apart(both)] == [("a",), ("b",)]
    # the fold of another run, but for the number of folds just like this one
    trained = crossvalidation._trained(config.of_fold(0))
    monkeypatch.setattr(crossvalidation, "_counted", lambda fold, trained: both)
    monkeypatch.setattr(crossvalidation, "_trained", lambda fold: trained)
    single = config.model_copy(update={"data": config.data.model_copy(update={"folds": (("a", "b"),)})})
    before = (config.folder / "crossvalidation.json").read_text()
    try:
        alone = crossvalidate(single)
    finally:
        (config.folder / "crossvalidation.json").write_text(before)
    assert alone["weights"] == record["weights"][:1]
    of_all = alone["calibration"]["all"]
    assert [one["temperatures"] for one in alone["calibration"]["folds"]] == [of_all["temperatures"]]
    assert {*np.ravel([[*one.values()] for one in alone["calibration"]["folds"][0]["thresholds"].values()])} == {0.5}
    one, other = counts.apart(both)
    fitted = {"a": calibration.fit(other), "b": calibration.fit(one)}
    helped = list(of_all["curves"])
    assert helped == [region for region in REGIONS if curves_help([both], fitted, region)]
    taken = {patient: calibration.with_curves(one, helped) for patient, one in fitted.items()}
    assert alone["reliability"] == calibration.honesty(both, taken)
    assert alone["calibration"]["folds"][0]["curves"] == of_all["curves"]
    assert of_all["curves"] == calibration.with_curves(calibration.fit(both), helped).curves


def test_a_cross_validation_needs_folds(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.folds has 0 folds: a cross-validation needs two or more"):
        crossvalidate(tiny_run.configuration(tiny_run.settings(tmp_path)))


def test_the_ladder_shows_means_and_differences_to_the_first_recipe(folds) -> None:
    _, record = folds
    better = [{**row, "WT_dice": row["WT_dice"] + 0.1} for row in record["rows"]]
    text = ladder({"first": record["rows"], "second": better})
    mean = np.mean([row["WT_dice"] for row in better])
    assert f"| second | {mean:.3f} [" in text
    assert "| second | +0.100 [+0.100, +0.100], p 0.38 | +0.000 [+0.000, +0.000], p 1 |" in text


def test_recipes_are_compared_as_they_are_on_the_studies_that_all_have(folds) -> None:
    _, record = folds
    first = record["rows"][0]["study"]
    one = {key: [row for row in record[key] if row["study"] == first] for key in ("rows", "rows_without_calibration")}
    assert comparable({"all": record, "more": record}, "more") == {
        "all": record["rows"],
        "more": record["rows"],
        "more, not calibrated": record["rows_without_calibration"],
    }
    assert comparable({"all": record, "one": one}, "one") == {
        "all, not calibrated": one["rows_without_calibration"],
        "one, not calibrated": one["rows_without_calibration"],
    }
    other = {**record, "rows": [{**row, "study": "another"} for row in record["rows"]]}
    with pytest.raises(ValueError, match="no study was measured by all of all, other: choose runs whose folds share"):
        comparable({"all": record, "other": other}, "other")


def test_recipes_that_were_measured_in_different_ways_are_told_apart(folds) -> None:
    _, record = folds
    assert unlike({"all": record, "more": record}, "more") == []
    before = {**record, "format": record["format"] - 1, "mirror": True}
    assert unlike({"before": before, "all": record}, "all") == [
        f"format is {before['format']} of before, {record['format']} of all",
        "mirror is True of before, False of all",
    ]


def test_curves_that_do_not_help_patients_whom_they_were_not_fitted_on_are_left_out(
    folds, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = folds
    rng = np.random.default_rng(5)
    said = rng.random(20_000)
    boasting, modest = counted(said, rng.random(20_000) < said / 2), counted(said, rng.random(20_000) < said**0.2)
    alike = counted(said, rng.random(20_000) < said / 2)

    def regions_with_curves(*parts: Counts) -> list[str]:
        named = []
        for number, part in enumerate(parts):
            names = tuple(f"p{number}{study}" for study in range(len(part.studies)))
            named.append(Counts(names, names, part.voxels, part.entropy, 0.008))
        monkeypatch.setattr(crossvalidation, "_counted", lambda fold, trained: named[fold.fold])
        return list(crossvalidate(config)["calibration"]["all"]["curves"])

    before = (config.folder / "crossvalidation.json").read_text()
    try:
        assert regions_with_curves(boasting, alike) == list(REGIONS)
        assert regions_with_curves(boasting, modest) == []
        alike.voxels[:, :, :, 1] = modest.voxels[:, :, :, 1]
        assert regions_with_curves(boasting, alike) == ["WT", "ET"]
        # on average they take away (3 x 0.1 - 0.15) / 4 = 0.04, of the first one they add 0.15
        one = counted(said, rng.random(20_000) < 0.8 * said)
        three = counted(said, rng.random(20_000) < 0.3 * said, patients=3)
        assert calibration_gain(one, three) == pytest.approx(-0.15, abs=0.01)
        assert calibration_gain(three, one) == pytest.approx(0.1, abs=0.01)
        assert regions_with_curves(one, three) == list(REGIONS)
        # the first one has most of the voxels: over all of them together the curves add to the error
        one.voxels[:] *= 20
        assert regions_with_curves(one, three) == []
        # the other way round: over all together they take away from it, of three patients in four they add to it
        big = counted(said, rng.random(20_000) < 0.3 * said)
        many = counted(said, rng.random(20_000) < 0.8 * said, patients=3)
        big.voxels[:] *= 20
        assert calibration_gain(big, many) > 0.01
        assert calibration_gain(many, big) < -0.01
        assert regions_with_curves(big, many) == []
    finally:
        (config.folder / "crossvalidation.json").write_text(before)


def curves_help(folds: list[Counts], fitted: dict[str, Calibration], region: str) -> bool:
    everyone = counts.joined(folds)
    alone = np.mean([_gain(one, fitted, region) for one in counts.apart(everyone)])
    return alone > 0.01 and _gain(everyone, fitted, region) > 0.01


def calibration_gain(of: Counts, others: Counts) -> float:
    return _gain(of, dict.fromkeys(of.patients, calibration.fit(others)), "WT")


def _gain(of: Counts, fitted: dict[str, Calibration], region: str) -> float:
    """By how much the curves lower the error."""
    plain = {patient: calibration.with_curves(one, ()) for patient, one in fitted.items()}
    before, after = (calibration.reliability(of, some, region, 0.02).error for some in (plain, fitted))
    return before - after


def _belongs_to(path: Path) -> str:
    with np.load(path) as arrays:
        return str(arrays["belongs_to"])


def mean_dice(parts: list[Counts], fitted: list[Calibration]) -> float:
    rows = [row for part, one in zip(parts, fitted, strict=True) for row in calibration.rows(part, one)]
    return float(np.mean([row[f"{region}_dice"] for row in rows for region in REGIONS]))
