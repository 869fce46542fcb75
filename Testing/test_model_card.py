"""The package of a cross-validated run: what the folds have measured, in model.json and in words."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import tiny_run
from mstkd_training.config import Config
from mstkd_training.crossvalidation import calibration_of, crossvalidate, evaluated_folds
from mstkd_training.export import export
from mstkd_training.model_card import document
from mstkd_training.rows import FORMAT
from mstkd_training.tables import table
from mstkd_training.trainer import Trainer
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name

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


def measured(config: Config) -> None:
    """What eval.py leaves in each fold, with a Dice of 0.6 in the first and 0.8 in the second."""
    for number, patients in enumerate(FOLDS):
        fold = config.of_fold(number)
        package = export(fold, fold.folder / "package")
        rows = []
        for patient in patients:
            for name in NAMES:
                row = {"study": patient, "patient": patient, "subset": name, "refused": None}
                for region in REGIONS:
                    row |= {f"{region}_dice": 0.6 + 0.2 * number, f"{region}_true_ml": 10.0, f"{region}_found_ml": 15.0}
                rows.append(row)
        record = {"format": FORMAT, "sha256": package.sha256, "measured_on": patients, "command": f"eval {number}"}
        record |= {"table": table(rows), "rows": rows}
        (fold.folder / "evaluation.json").write_text(json.dumps(record))


def test_the_run_of_all_patients_tests_nobody_and_says_how_it_was_measured(config: Config) -> None:
    package = export(config, config.folder / "package")
    assert package.data == (
        "Studies of 4 patients of BraTS 2019-2021. Measured in 2 folds, each patient by weights that have not learnt "
        "from them."
    )


def test_packages_carry_the_calibration_of_their_run(config: Config) -> None:
    for run in (config, config.of_fold(1)):
        package, calibration = export(run, run.folder / "package"), calibration_of(run)
        for subset in SUBSETS:
            assert package.thresholds(subset) == calibration.thresholds[subset_name(subset)]
            assert package.temperature(subset) == calibration.temperatures[subset_name(subset)]
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
    assert "* WT: a 0.60, b 0.60, " in text
    # 15 ml found, 10 ml true: with a Dice of 0.6 they share 7.5 ml, with 0.8 they share 10 ml
    assert "| FLAIR+T2 | 6.2 | 1.2 | 10.0 |" in text


def test_folds_measured_with_other_weights_say_nothing(config: Config, capsys: pytest.CaptureFixture) -> None:
    measured(config)
    path = config.of_fold(1).folder / "evaluation.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sha256": "other"}))
    assert evaluated_folds(config) is None
    assert "measured on other weights" in capsys.readouterr().out
    assert export(config, config.folder / "package").quality.table == {}


def test_a_card_without_measurements_says_so(config: Config) -> None:
    text = document(export(config, config.folder / "package"), [], {})
    assert "Not measured." in text
    assert "Trained with random subsets of the sequences, without a teacher. 1 steps" in text
