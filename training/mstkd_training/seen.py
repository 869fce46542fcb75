"""Whom a run has learnt from, so that no student is tested on those whom its teacher knows."""

from __future__ import annotations

import json
from pathlib import Path

from MSTKDSegmenterLib.engine.package import ModelPackage, load

from . import patches, shapes, splits
from .config import Config
from .identity import all_names, identities

FILE = "provenance.json"


def seen(config: Config) -> list[str]:
    """The patients, each by one name (see identity), whose images, lesions or tumour shapes the weights come from.

    Those of a frozen teacher are among them: what it has learnt from them goes into the student.

    Raises:
        FileNotFoundError: the data are not prepared, or a run that this one builds on does not say whom it has seen.
    """
    data, apart = config.data, splits.kept_apart(config)
    patients = set(splits.training_patients(config))
    if data.patches:
        patients |= patches.patients(data) - apart
    if data.synthetic:
        patients |= shapes.patients(data.source) - all_names(splits.read(config).patients, data)
    return sorted(identities(patients, data) | _inherited(config)["seen"])


def chosen_on(config: Config) -> list[str]:
    """The patients, each by one name, who chose among the run's weights or among those that it builds on."""
    chosen = identities(splits.validation_patients(config), config.data)
    return sorted(chosen | _inherited(config)["chosen_on"])


def check_run(name: str, config: Config) -> None:
    """Refuse to build on a run that has learnt from patients of this run's validation or test, or from omitted ones.

    Patients who have chosen the other's weights may choose the student's, but not test it.

    Raises:
        ValueError: it has; the patients are named.
        FileNotFoundError: the other run does not say whom it has seen, or this run's data are not prepared.
    """
    _check(f"run {name!r}", _recorded(config.folder_of(name)), config)


def check_package(package: ModelPackage, config: Config) -> None:
    """Refuse to start from weights that have learnt from patients whom this run keeps apart; as check_run.

    Raises:
        ValueError: they have, or the package does not say from whom; the patients are named.
        FileNotFoundError: this run's data are not prepared.
    """
    _check(f"the package {package.folder}", _told(package), config)


def _check(who: str, told: dict[str, set[str]], config: Config) -> None:
    parts = splits.read(config)
    # recorded by those who knew other aliases
    told = {key: identities(patients, config.data) for key, patients in told.items()}
    known = {
        "test": identities(parts.test, config.data) & (told["seen"] | told["chosen_on"]),
        "validation": identities(parts.validation, config.data) & told["seen"],
        "omitted": identities(parts.omitted, config.data) & told["seen"],
    }
    met = [f"{part}: {', '.join(sorted(names))}" for part, names in known.items() if names]
    if met:
        raise ValueError(
            f"{who} knows patients whom this run keeps apart ({'; '.join(met)}): the student's scores would be too "
            "good. Train it with this run's splits, or choose others in data.held_out, data.validation and data.omitted"
        )


def _inherited(config: Config) -> dict[str, set[str]]:
    """What the package and the runs that a run builds on say of the patients behind their weights."""
    told = [_told(load(config.init))] if config.init is not None else []
    told += [_recorded(config.folder_of(run)) for run in (config.start, *config.teacher.run) if run is not None]
    return {key: set().union(*(one[key] for one in told)) for key in ("seen", "chosen_on")}


def _told(package: ModelPackage) -> dict[str, set[str]]:
    """What a package says of the patients behind its weights.

    Raises:
        ValueError: it says nothing.
    """
    training = package.card.get("training", {})
    if "seen" not in training:
        raise ValueError(
            f"{package.folder} does not say whom its weights have learnt from: start from a package that "
            "`python training/export.py` of this version has written"
        )
    return {key: set(training[key]) for key in ("seen", "chosen_on")}


def _recorded(folder: Path) -> dict[str, set[str]]:
    """What all starts of a run have noted."""
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist, so nobody knows whom run {folder.name!r} has learnt from: start "
            "`python training/train.py` with its configuration once more (it writes the file; a finished run trains no "
            "further)"
        )
    starts = json.loads(path.read_text(encoding="utf-8"))
    return {key: {name for start in starts for name in start[key]} for key in ("seen", "chosen_on")}
