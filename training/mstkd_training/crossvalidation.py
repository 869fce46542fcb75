"""Every patient tested once, by weights that have not learnt from them: calibration, and the comparison of recipes.

Measured on the working grid, which takes minutes; `eval.py --fold` measures the same weights as users get them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from MSTKDSegmenterLib.engine import package as packages

from . import counts, evaluate
from .calibration import Calibration, curves, fit, none, rows
from .config import Config
from .continuity import as_trained
from .counts import Counts
from .files import write_text
from .networks import trained_student
from .tables import table

FILE = "crossvalidation.json"


def crossvalidate(config: Config) -> dict[str, Any]:
    """Write crossvalidation.json into the run's folder, from the trained folds; returns it.

    A study's calibration is fitted on the studies of the other folds, so that what is reported holds for new patients;
    what a package of all patients stores is fitted on all of them.

    Raises:
        ValueError: the configuration has no folds, or less than two.
        FileNotFoundError: a fold is not trained, or the data are not prepared.
    """
    if len(config.data.folds) < 2:
        raise ValueError(f"data.folds has {len(config.data.folds)} folds: a cross-validation needs two or more")
    parts = [_counted(config.of_fold(number)) for number in range(len(config.data.folds))]
    fitted = [fit(counts.joined([part for part in parts if part is not own])) for own in parts]
    found = [row for part, calibration in zip(parts, fitted, strict=True) for row in rows(part, calibration)]
    own = {patient: one for part, one in zip(parts, fitted, strict=True) for patient in part.patients}
    everyone = counts.joined(parts)
    record = {
        "calibration": {"all": asdict(fit(everyone)), "folds": [asdict(one) for one in fitted]},
        "reliability": curves(everyone, own),
        "rows": found,
        "rows_without_calibration": [row for part in parts for row in rows(part, none())],
    }
    write_text(json.dumps(record, indent=1) + "\n", config.folder / FILE)
    return record


def read(folder: Path) -> dict[str, Any]:
    """The record of a run.

    Raises:
        FileNotFoundError: there is none yet.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: run `python training/crossvalidate.py` with the configuration of {folder.name!r}"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def calibration_of(config: Config) -> Calibration:
    """What the package of a run stores: fitted without those who test a fold; no calibration where there is none yet.

    A run that is not of a cross-validation has none either.
    """
    folder = config.whole.folder
    if not (folder / FILE).exists():
        return none()
    fitted = read(folder)["calibration"]
    return Calibration(**(fitted["all"] if config.fold is None else fitted["folds"][config.fold]))


def evaluated_folds(config: Config) -> dict[str, Any] | None:
    """The records of `eval.py` of all folds together; None unless all folds have one, of the packages they have now.

    The reliability of a single fold is there too; that of several is crossvalidate's, where they calibrate each other.

    Raises:
        ValueError: one was made with metrics of another version.
    """
    records = []
    for number in range(len(config.data.folds)):
        folder = config.of_fold(number).folder
        path = folder / evaluate.FILE
        if not path.exists():
            print(f"{path} does not exist, so the package says nothing of its quality: run `python training/eval.py`")
            return None
        record = evaluate.read(folder)
        if not belongs(record, packages.load(folder / "package"), path):
            return None
        records.append(record)
    found = [row for record in records for row in record["rows"]]
    return {
        "measured_on": [study for record in records for study in record["measured_on"]],
        "command": " ; ".join(record["command"] for record in records),
        "table": table(found),
        "rows": found,
        "reliability": records[0]["reliability"] if len(records) == 1 else {},
    }


def belongs(evaluation: dict[str, Any], package: packages.ModelPackage, path: Path) -> bool:
    """Whether an evaluation is of these weights, used as the package uses them; if not, that is printed."""
    same = evaluation["sha256"] == package.sha256 and evaluation.get("use", evaluate.use(package)) == evaluate.use(
        package
    )
    if not same:
        print(f"{path} was measured on other weights and is left out: run `python training/eval.py` again")
    return same


def _counted(fold: Config) -> Counts:
    """The counts of a trained fold on the patients who test it; kept, as long as the weights are the same."""
    config = as_trained(fold)
    trained = trained_student(config)
    if trained.reached < config.optim.steps:
        raise ValueError(
            f"{config.folder} has come to step {trained.reached} of {config.optim.steps}: run `python "
            f"training/train.py --fold {config.fold}` with this configuration again, it goes on"
        )
    return counts.of_test_patients(config, trained.network, config.folder / "counts.npz", config.mirror, config.tile)
