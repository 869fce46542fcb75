"""Every patient tested once, by weights that have not learnt from them: calibration, and the comparison of recipes.

Measured on the working grid, which takes minutes; `eval.py --fold` measures the same weights as users get them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.network import MSTKDNet
from MSTKDSegmenterLib.engine.regions import REGIONS

from . import continuity, counts, evaluate, splits
from .calibration import (
    SMALLEST_GAIN,
    Calibration,
    error_of_all,
    error_of_patients,
    fit,
    halved,
    honesty,
    none,
    rows,
    stored,
    with_curves,
)
from .config import Config
from .continuity import as_trained, told
from .counts import Counts
from .files import write_text
from .networks import Trained, trained_student
from .rows import Row
from .tables import table

FILE = "crossvalidation.json"
FORMAT = 4
"""2: with curves in its calibrations. 3: reliability with temperatures alone, too. 4: of the brain's box alone."""
SMALLEST_CORRECTION = 0.01
"""What curves must take away to be used, of the mean error of single patients and of the error of all together."""


def crossvalidate(config: Config) -> dict[str, Any]:
    """Write crossvalidation.json into the run's folder, from the trained folds; returns it.

    A study's calibration is fitted on the studies of the other folds, so that what is reported holds for new patients;
    what a package of all patients stores is fitted on all of them. Thresholds other than one half are taken only if
    they gain SMALLEST_GAIN on studies that they were not fitted on, a region's curves only if they take away, alike,
    SMALLEST_CORRECTION of the mean error of single patients and of the error of all of them together. The patients of a
    single fold calibrate each other.

    Raises:
        ValueError: the configuration has no folds, or a single one with less than two patients.
        FileNotFoundError: a fold is not trained, or the data are not prepared.
    """
    folds = [config.of_fold(number) for number in range(len(config.data.folds))]
    trained = [_trained(fold) for fold in folds]
    of_folds = [_counted(fold, one) for fold, one in zip(folds, trained, strict=True)]
    parts = of_folds if len(folds) > 1 else [one for of_fold in of_folds for one in counts.apart(of_fold)]
    if len(parts) < 2:
        raise ValueError(
            f"data.folds has {len(folds)} folds: a cross-validation needs two or more, or one of several patients"
        )
    everyone = counts.joined(parts)
    fitted = [fit(counts.joined([part for part in parts if part is not own])) for own in parts]
    of_all, found = fit(everyone), _rows(parts, fitted)
    plain = [halved(one) for one in fitted]
    if _mean(found) <= _mean(_rows(parts, plain)) + SMALLEST_GAIN:
        of_all, fitted, found = halved(of_all), plain, _rows(parts, plain)
    own = {patient: one for part, one in zip(parts, fitted, strict=True) for patient in part.patients}
    helped = [region for region in REGIONS if _curve_helps(everyone, own, region)]
    of_all, fitted = with_curves(of_all, helped), [with_curves(one, helped) for one in fitted]
    own = {patient: with_curves(one, helped) for patient, one in own.items()}
    record = {
        "format": FORMAT,
        "folds": [list(fold) for fold in config.data.folds],
        "weights": [counts.digest(one.network) for one in trained],
        "mirror": config.mirror,
        "tile": config.tile and list(config.tile),
        "calibration": {
            "all": asdict(of_all),
            "folds": [asdict(one) for one in (fitted if len(folds) > 1 else [halved(of_all)])],
        },
        "reliability": honesty(everyone, own),
        "rows": found,
        "rows_without_calibration": [row for part in parts for row in rows(part, none())],
    }
    write_text(json.dumps(record, indent=1) + "\n", config.folder / FILE)
    return record


def learnt(config: Config) -> list[Row]:
    """Not calibrated, on the whole studies that the trained folds have learnt from: what they know by heart.

    Raises:
        ValueError, FileNotFoundError: as crossvalidate.
    """
    found = []
    for number in range(len(config.data.folds)):
        fold = config.of_fold(number)
        found += rows(_counted(fold, _trained(fold), known=True), none())
    return found


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


def record_of(config: Config) -> dict[str, Any] | None:
    """The record of the run that a run is, or is a fold of; None if there is none yet.

    Raises:
        ValueError: it is of an earlier format, a fold has other weights or patients by now, or the configuration uses
            them otherwise.
    """
    whole = config.whole
    if not (whole.folder / FILE).exists():
        return None
    record = read(whole.folder)
    now = {"format": FORMAT, "mirror": config.mirror, "tile": config.tile and list(config.tile)}
    now["weights"] = list(record["weights"])
    now["folds"] = [list(fold) for fold in config.data.folds]
    for number in range(len(config.data.folds) if record.get("folds") == now["folds"] else 0):
        if (whole.of_fold(number).folder / "checkpoint.pt").exists():
            now["weights"][number] = counts.digest(_trained(whole.of_fold(number)).network)
    differing = [key for key, value in now.items() if record.get(key) != value]
    if differing:
        raise ValueError(
            f"{whole.folder / FILE} is of other {', '.join(differing)}: run `python training/crossvalidate.py` again"
        )
    return record


def calibration_of(record: dict[str, Any] | None, fold: int | None) -> Calibration:
    """What the package of a cross-validated run stores: fitted without those who test the fold, or on all.

    Of a single fold those who test it are all there are. Its thresholds stay at one half, so that its Dice is not that
    of thresholds chosen on it; its temperatures and curves are fitted on its own patients, those of the record's rows
    are not.
    """
    if record is None:
        return none()
    fitted = record["calibration"]
    return Calibration(**(fitted["all"] if fold is None else fitted["folds"][fold]))


def evaluated_folds(config: Config) -> dict[str, Any] | None:
    """The records of `eval.py` of all folds together; None unless all folds have one, of the weights they have now.

    And unless they are calibrated as the cross-validation says now, and trained (in bfloat16 or not) and used as the
    run of all patients is.

    The reliability of a single fold is there too; that of several is crossvalidate's, where they calibrate each other.

    Raises:
        ValueError: the cross-validation is of an earlier format, or of other weights, patients or use.
    """
    records, folds = [], [config.of_fold(number) for number in range(len(config.data.folds))]
    for fold in folds:
        path = fold.folder / evaluate.FILE
        if not path.exists():
            print(f"{path} does not exist, so the package says nothing of its quality: run `python training/eval.py`")
            return None
        record = evaluate.stored_in(path)
        package = packages.load(fold.folder / "package")
        differing = _otherwise(fold, package)
        if differing:
            print(f"{path} is of another recipe ({told(differing)}), so the package says nothing of its quality")
            return None
        if not belongs(record, package, path):
            return None
        records.append(record)
    calibrated = record_of(config)
    for fold in folds:
        outdated = _outdated(fold, calibration_of(calibrated, fold.fold))
        if outdated:
            print(f"{fold.folder / evaluate.FILE} is of earlier {outdated}: run `python training/eval.py` again")
            return None
    found = [row for record in records for row in record["rows"]]
    return {
        "measured_on": [study for record in records for study in record["measured_on"]],
        "command": " ; ".join(record["command"] for record in records),
        "table": table(found),
        "rows": found,
        "reliability": evaluate.reliability_in(records[0], package) if len(records) == 1 else {},
    }


def belongs(evaluation: dict[str, Any], package: packages.ModelPackage, path: Path) -> bool:
    """Whether an evaluation is of these weights and this version, see evaluate.is_of; if not, that is printed."""
    same = evaluate.is_of(evaluation, package)
    if not same:
        print(f"{path} is of other weights or an earlier version and is left out: run `python training/eval.py` again")
    return same


def _otherwise(fold: Config, package: packages.ModelPackage) -> dict[str, tuple[Any, Any]]:
    """Where a fold's run and package differ from what the configuration asks for."""
    differing = continuity.differences(continuity.read(fold.folder), fold)
    differing = {key: pair for key, pair in differing.items() if key not in (*continuity.LOCAL, "optim.bf16")}
    share = package.card["training"]["start_share"]
    used = {"mirror": (package.mirror, fold.mirror), "tile": (package.tile, fold.tile)}
    used["start_share"] = (share, fold.start_share)
    return differing | {key: pair for key, pair in used.items() if pair[0] != pair[1]}


def _outdated(fold: Config, calibration: Calibration) -> str:
    """What of a fold's package is no longer what its run and the cross-validation have; empty if all is."""
    package = packages.load(fold.folder / "package")
    if stored(package) != calibration:
        return "calibration"
    trained = (fold.folder / "checkpoint.pt").exists()
    return "weights" if trained and not _same(package.network(), _trained(fold).network) else ""


def _same(package: MSTKDNet, run: MSTKDNet) -> bool:
    """Whether a package holds a run's weights, in half precision as packages do."""
    pairs = zip(package.state_dict().values(), run.state_dict().values(), strict=True)
    return all(torch.equal(one.half(), other.half()) for one, other in pairs)


def _rows(parts: Sequence[Counts], calibrations: Sequence[Calibration]) -> list[Row]:
    return [row for part, one in zip(parts, calibrations, strict=True) for row in rows(part, one)]


def _mean(found: Sequence[Row]) -> float:
    return float(np.mean([row[f"{region}_dice"] for row in found for region in REGIONS]))


def _curve_helps(everyone: Counts, own: dict[str, Calibration], region: str) -> bool:
    plain = {patient: with_curves(one, ()) for patient, one in own.items()}
    return all(
        error(everyone, plain, region) - error(everyone, own, region) > SMALLEST_CORRECTION
        for error in (error_of_patients, error_of_all)
    )


def _trained(fold: Config) -> Trained:
    return trained_student(as_trained(fold))


def _counted(fold: Config, trained: Trained, known: bool = False) -> Counts:
    """The counts of a trained fold on those who test it, or whom it has learnt from; kept for the same weights."""
    config = as_trained(fold)
    if trained.reached < config.optim.steps:
        raise ValueError(
            f"{config.folder} has come to step {trained.reached} of {config.optim.steps}: run `python "
            f"training/train.py --fold {config.fold}` with this configuration again, it goes on"
        )
    patients = (splits.training_patients if known else splits.test_patients)(config)
    path = config.folder / ("learnt.npz" if known else "counts.npz")
    return counts.of_patients(config, patients, trained.network, path, config.mirror, config.tile)
