"""The package of a cross-validated run: what the folds have measured, in model.json and in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import tiny_run
from mstkd_training import counts, evaluate
from mstkd_training.config import Config
from mstkd_training.crossvalidation import calibration_of, crossvalidate, evaluated_folds, read
from mstkd_training.export import before, export, renew
from mstkd_training.model_card import document
from mstkd_training.networks import new_student
from mstkd_training.provenance import provenance
from mstkd_training.rows import FORMAT
from mstkd_training.tables import table
from mstkd_training.trainer import Trainer
from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.device import choose_device
from MSTKDSegmenterLib.engine.inference import predict
from MSTKDSegmenterLib.engine.package import ModelPackage, load
from MSTKDSegmenterLib.engine.progress import Job
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, presence, subset_name
from tiny_run import PATIENTS

NAMES = [subset_name(subset) for subset in SUBSETS]
FOLDS = [["a", "b"], ["v", "t"]]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """A run whose folds and itself are trained for a step, and cross-validated."""
    values = tiny_run.settings(tmp_path_factory.mktemp("card"))
    values["data"] |= {"held_out": [], "validation": [], "test_share": 0, "validation_share": 0}
    values["data"] |= {"folds": FOLDS, "splits": "cv"}
    values["optim"] |= {"steps": 1}
    values |= {"teacher": {"kind": "none"}, "mirror": True}
    config = tiny_run.configuration(values)
    for run in (config.of_fold(0), config.of_fold(1), config):
        tiny_run.divide(run)
        Trainer(run).fit()
    crossvalidate(config)
    return config


def rows_of(patient: str, dice: float) -> list[dict]:
    rows = []
    for name in NAMES:
        row = {"study": patient, "patient": patient, "subset": name, "refused": None}
        for region in REGIONS:
            row |= {f"{region}_dice": dice, f"{region}_true_ml": 10.0, f"{region}_found_ml": 15.0}
            row[f"{region}_lesions_false"] = 2 * dice
        rows.append(row)
    return rows


def leave(run: Config, package: ModelPackage, rows: list[dict], command: str, **more: object) -> None:
    """Write what eval.py leaves in a run's folder."""
    record = {"format": FORMAT, "sha256": package.sha256, "measured_on": [row["study"] for row in rows[:: len(NAMES)]]}
    record |= {"command": command, "table": table(rows), "rows": rows, **more}
    (run.folder / "evaluation.json").write_text(json.dumps(record))


def measured(config: Config) -> None:
    """What eval.py leaves in each fold, with a Dice of 0.6 in the first and 0.8 in the second."""
    for number, patients in enumerate(FOLDS):
        fold = config.of_fold(number)
        package = export(fold, fold.folder / "package")
        rows = [row for patient in patients for row in rows_of(patient, 0.6 + 0.2 * number)]
        leave(fold, package, rows, f"eval {number}")


def test_the_run_of_all_patients_tests_nobody_and_says_how_it_was_measured(config: Config) -> None:
    package = export(config, config.folder / "package")
    assert package.data == "Studies of 4 patients of BraTS 2019-2021."  # nothing has been yet
    measured(config)
    package = export(config, config.folder / "package")
    assert package.data == (
        "Studies of 4 patients of BraTS 2019-2021. Measured in 2 folds, each patient by weights that have not learnt "
        "from them."
    )


def test_folds_of_another_recipe_or_use_say_nothing(config: Config, capsys: pytest.CaptureFixture) -> None:
    measured(config)
    longer = config.model_copy(update={"optim": config.optim.model_copy(update={"steps": 7})})
    assert evaluated_folds(longer) is None
    assert "is of another recipe (optim.steps: 1 -> 7)" in capsys.readouterr().out
    assert evaluated_folds(config.model_copy(update={"mirror": False})) is None
    assert "(mirror: True -> False)" in capsys.readouterr().out


def test_folds_measured_before_they_were_calibrated_say_nothing(config: Config, capsys: pytest.CaptureFixture) -> None:
    path = config.folder / "crossvalidation.json"
    path.rename(kept := path.with_suffix(".kept"))
    try:
        measured(config)
    finally:
        kept.rename(path)
    assert evaluated_folds(config) is None
    assert "is of earlier calibration: run `python training/eval.py` again" in capsys.readouterr().out


def test_folds_trained_again_since_they_were_measured_say_nothing(
    config: Config, capsys: pytest.CaptureFixture
) -> None:
    measured(config)
    fold = config.of_fold(1).folder / "package"
    packages.write(fold, new_student(config), load(fold).card)
    record = json.loads((fold.parent / "evaluation.json").read_text())
    (fold.parent / "evaluation.json").write_text(json.dumps({**record, "sha256": load(fold).sha256}))
    assert evaluated_folds(config) is None
    assert "is of earlier weights: run `python training/eval.py` again" in capsys.readouterr().out


def test_a_cross_validation_of_other_folds_is_refused(config: Config, tmp_path: Path) -> None:
    folds = (("a",), ("b",), ("v", "t"))
    other = config.model_copy(update={"data": config.data.model_copy(update={"folds": folds})})
    with pytest.raises(ValueError, match=r"crossvalidation.json is of other folds: run `python training/crossvalidate"):
        renew(other, export(config, tmp_path / "old"), tmp_path / "new")


def test_folds_trained_in_bfloat16_measure_a_recipe_in_float32(config: Config) -> None:
    measured(config)
    other = config.model_copy(update={"optim": config.optim.model_copy(update={"bf16": not config.optim.bf16})})
    assert evaluated_folds(other)["command"] == "eval 0 ; eval 1"


def test_a_package_whose_run_is_not_kept_gets_what_was_measured_since(config: Config, tmp_path: Path) -> None:
    for number in range(len(FOLDS)):
        (config.of_fold(number).folder / "evaluation.json").unlink(missing_ok=True)
    before_it_was_measured = export(config, tmp_path / "old")
    measured(config)
    (moved := config.folder / "checkpoint.pt").rename(tmp_path / "checkpoint.pt")
    try:
        renewed = renew(config, before_it_was_measured, tmp_path / "new")
    finally:
        (tmp_path / "checkpoint.pt").rename(moved)
    as_exported = export(config, tmp_path / "again")
    assert before_it_was_measured.quality.table == {}
    assert (renewed.sha256, renewed.card) == (as_exported.sha256, as_exported.card)
    assert (renewed.folder / "README.md").read_text() == (as_exported.folder / "README.md").read_text()


def test_only_a_package_of_the_same_recipe_and_patients_is_renewed(config: Config, tmp_path: Path) -> None:
    package = export(config, tmp_path / "old")
    longer = config.model_copy(update={"optim": config.optim.model_copy(update={"steps": 7})})
    with pytest.raises(ValueError, match=r"was not exported from this configuration \(optim.steps: 1 -> 7\)"):
        renew(longer, package, tmp_path / "new")
    half = config.model_copy(update={"start": "tiny", "start_share": 0.5})
    with pytest.raises(ValueError, match=r"start_share: 0.0 -> 0.5"):
        renew(half, package, tmp_path / "new")
    training = {**package.card["training"], "seen": ["a", "b", "t"]}
    others = replace(package, card={**package.card, "training": training})
    with pytest.raises(ValueError, match=r"\(seen: 3 patients -> others, see data.cache\)"):
        renew(config, others, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_fold_that_went_on_from_other_weights_is_named(config: Config, tmp_path: Path) -> None:
    other = config.model_copy(update={"name": "other", "optim": config.optim.model_copy(update={"steps": 2})})
    Trainer(other.of_fold(1)).fit()
    starts = {"init": export(config, tmp_path / "all").folder}
    folders = export(config.of_fold(0), tmp_path / "0").folder, export(other.of_fold(1), tmp_path / "1").folder
    older = json.loads((folders[0] / "model.json").read_text())
    del older["training"]["samples_per_step"]  # packages of before it was noted make no other start
    (folders[0] / "model.json").write_text(json.dumps(older))
    run = Config.model_validate({**config.model_dump(), **starts, "name": "further_on", "init_folds": folders})
    for one in (run.of_fold(0), run.of_fold(1), run):
        Trainer(one).fit()
    crossvalidate(run)
    measured(run)
    assert export(run, tmp_path / "further_on").data.endswith(
        "by weights that have not learnt from them. Fold 1 went on from mstkd-compact-other (2 steps of one sample)."
    )


def test_a_card_tells_how_many_samples_a_step_had(config: Config) -> None:
    package = export(config, config.folder / "package")
    assert package.card["training"]["samples_per_step"] == 1
    training = {**package.card["training"], "samples_per_step": 8}
    text = document(replace(package, card={**package.card, "training": training}), [], {})
    assert "1 steps of 8 samples; the image" in text


def test_a_card_tells_whether_the_mirrored_image_is_looked_at(config: Config) -> None:
    package = export(config, config.folder / "package")
    told = "1 steps of one sample; the image and its mirror image are looked at, and averaged; the whole configuration"
    assert told in document(package, [], {})
    plain = document(replace(package, card={**package.card, "mirror": False}), [], {})
    assert "1 steps of one sample; the whole configuration" in plain


def test_a_card_tells_the_whole_chain_of_steps(config: Config, tmp_path: Path) -> None:
    package = export(config, tmp_path / "first")
    further = config.model_copy(update={"name": "further", "start": "tiny"})
    tiny_run.divide(further)
    Trainer(further).fit()
    after = export(further, tmp_path / "second")
    commit = provenance(config.data.cache)["commit"]
    first = {"name": "tiny", "step": 1, "samples_per_step": 1, "seed": config.seed, "commit": commit}
    assert after.card["training"]["before"] == [first]
    # both have the same patients, so they are told once
    seen = package.data.split(". ")[0].rstrip(".")
    assert after.data == f"{seen}. Went on from tiny."
    told = (after.folder / "README.md").read_text()
    assert "1 steps of one sample, after those of tiny (1 steps of one sample); the image" in told
    half = export(further.model_copy(update={"start_share": 0.5}), tmp_path / "half")
    told = (half.folder / "README.md").read_text()
    assert "after those of tiny (1 steps of one sample); 50% of the weights are those before" in told
    states = [one.network().state_dict() for one in (package, after, half)]
    for one, other, mean in zip(*(state.values() for state in states), strict=True):
        np.testing.assert_allclose(mean.float(), (one.float() + other.float()) / 2, atol=2e-3)
    assert any(not np.array_equal(states[0][name], states[1][name]) for name in states[0])
    third = config.model_copy(update={"name": "third", "init": after.folder})
    assert before(third) == [first, {**first, "name": after.name}]
    assert package.card["training"]["before"] == []


def test_packages_carry_the_calibration_of_their_run(config: Config) -> None:
    for run in (config, config.of_fold(1)):
        package, calibration = export(run, run.folder / "package"), calibration_of(read(config.folder), run.fold)
        for subset in SUBSETS:
            assert package.thresholds(subset) == calibration.thresholds[subset_name(subset)]
            assert package.temperature(subset) == calibration.temperatures[subset_name(subset)]
        assert package.card["calibration"] == calibration.curves
        assert package.mirror


def test_the_quality_of_the_whole_run_is_that_of_its_folds(config: Config) -> None:
    measured(config)
    package = export(config, config.folder / "package")
    assert package.quality.table["FLAIR+T2"] == pytest.approx(dict.fromkeys(REGIONS, 0.7))
    assert sorted(package.quality.measured_on) == ["a", "b", "t", "v"]
    assert package.quality.command == "eval 0 ; eval 1"
    assert (package.folder / "reliability.png").read_bytes().startswith(b"\x89PNG")
    text = (package.folder / "README.md").read_text()
    assert "| FLAIR+T2 | 0.700 [0.60, 0.80] |" in text
    assert "* WT: a 0.60 (10.0 ml), b 0.60 (10.0 ml), " in text
    assert "; 0.60 in 30 of 60 (a, b)\n" in text
    assert "in a study: WT 1.4, TC 1.4, ET 1.4." in text
    assert "All studies have some, 10.0 ml at least: nothing is known of tumours without." in text
    assert "other diseases, artefacts, resection cavities" in text
    # 15 ml found, 10 ml true: with a Dice of 0.6 they share 7.5 ml, with 0.8 they share 10 ml
    assert "| FLAIR+T2 | 6.2 | 1.2 | 10.0 |" in text


@pytest.mark.parametrize("changed", [{"sha256": "other"}, {"format": 2}])
def test_folds_measured_with_other_weights_or_by_an_earlier_version_say_nothing(
    config: Config, capsys: pytest.CaptureFixture, changed: dict[str, object]
) -> None:
    measured(config)
    path = config.of_fold(1).folder / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    assert evaluated_folds(config) is None
    assert f"{path} is of other weights or an earlier version" in capsys.readouterr().out
    assert export(config, config.folder / "package").quality.table == {}
    # the fold itself is exported, so that it can be measured again
    assert export(config.of_fold(1), config.of_fold(1).folder / "again").quality.table == {}


def test_a_card_without_measurements_says_so(config: Config) -> None:
    text = document(export(config, config.folder / "package"), [], {})
    assert "Not measured." in text
    assert "Trained with random subsets of the sequences, without a teacher. 1 steps of one sample" in text


@pytest.mark.parametrize(
    ("teacher", "told"),
    [
        ({"kind": "ema", "run": None}, "teacher: ema; terms: segmentation,"),
        ({"kind": "frozen", "run": "first"}, "teacher: frozen, the student of first; terms: segmentation,"),
        ({"kind": "frozen", "run": ["first"]}, "teacher: frozen, the student of first; terms: segmentation,"),
        (
            {"kind": "frozen", "run": ["a", "b"]},
            "teacher: frozen, the students of a and b together; terms: segmentation,",
        ),
    ],
)
def test_a_card_says_who_taught(config: Config, teacher: dict, told: str) -> None:
    package = export(config, config.folder / "package")
    training = package.card["training"]
    training["configuration"]["teacher"] |= teacher
    assert told in document(replace(package, card={**package.card, "training": training}), [], {})


def test_the_curves_of_a_run_without_folds_are_of_its_package_as_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = tiny_run.configuration(tiny_run.settings(tmp_path), teacher={"kind": "none"})
    Trainer(run).fit()
    package = export(run, run.folder / "package")
    # as a package of a calibrated run would be
    half = {"with T1ce": [[0.0, 0.0], [1.0, 0.5]], "without T1ce": [[0.0, 0.0], [1.0, 1.0]]}
    use = {"temperatures": dict.fromkeys(NAMES, 2.0), "calibration": {"WT": half}}
    package = replace(package, card={**package.card, **use})
    curves = evaluate.reliability(run, package)
    network, voxels, said, true = package.network(), 0, 0.0, 0
    sample = tiny_run.sample(PATIENTS.index("t"), "t")
    for subset in SUBSETS:
        image = sample.image.astype(np.float32) * np.reshape(presence(subset), (-1, 1, 1, 1))
        answer = predict(network, image, presence(subset), choose_device("cpu"), Job(), temperature=2.0)
        found = answer.probabilities[:3].sum(axis=0) * (0.5 if "T1ce" in subset else 1)
        voxels += np.count_nonzero(found >= 0.02)
        said += found[found >= 0.02].sum()
        true += np.count_nonzero((sample.labels != 3) & (found >= 0.02))
    curve = {key: np.array(curves["calibrated"]["WT"][key]) for key in ("voxels", "said", "true")}
    assert curve["voxels"].sum() == voxels
    assert (curve["voxels"] * curve["said"]).sum() == pytest.approx(said, rel=0.01)
    assert (curve["voxels"] * curve["true"]).sum() == pytest.approx(true, rel=1e-4)

    monkeypatch.setattr(counts, "count", lambda *_: pytest.fail("the counts are there"))
    assert evaluate.reliability(run, package) == curves
    leave(run, package, rows_of("t", 0.6), "eval", reliability=curves, calibration=package.card["calibration"])
    folder = export(run, run.folder / "package").folder
    assert "## Calibration" not in (folder / "README.md").read_text()
    assert "the evaluation is of other curves of probabilities" in capsys.readouterr().out
    leave(run, package, rows_of("t", 0.6), "eval", reliability=curves, calibration={})
    folder = export(run, run.folder / "package").folder
    assert "(the studies above). Counted are voxels to which the network" in (folder / "README.md").read_text()
    assert (folder / "reliability.png").exists()


def test_a_recipe_measured_in_a_single_fold_says_on_whom_and_draws_its_curves(tmp_path: Path) -> None:
    values = tiny_run.settings(tmp_path)
    values["data"] |= {"held_out": [], "validation": [], "test_share": 0, "validation_share": 0}
    values["data"] |= {"folds": [["t"]], "splits": "single"}
    values |= {"teacher": {"kind": "none"}}
    run = tiny_run.configuration(values)
    for one in (run.of_fold(0), run):
        tiny_run.divide(one)
        Trainer(one).fit()
    fold = run.of_fold(0)
    package = export(fold, fold.folder / "package")
    leave(fold, package, rows_of("t", 0.6), "eval 0", reliability=evaluate.reliability(fold, package), calibration={})
    package = export(run, run.folder / "package")
    assert package.data.endswith("Measured on t, by weights of the same recipe without them.")
    assert package.quality.table["FLAIR+T2"] == pytest.approx(dict.fromkeys(REGIONS, 0.6))
    text = (package.folder / "README.md").read_text()
    assert "(the studies above). Counted are voxels to which the network, with its temperature, gives 0.02 " in text
    assert (package.folder / "reliability.png").exists()
