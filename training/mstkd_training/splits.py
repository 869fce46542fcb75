"""Which patients are trained with, which choose the weights and which only test them: fixed once, as a file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from monai.data import partition_dataset
from pydantic import BaseModel, ConfigDict

from .config import Config
from .files import write_text
from .identity import all_names, identity


class Splits(BaseModel):
    """Patients by part, each sorted; no patient is in two. The omitted neither train, validate nor test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int
    test: tuple[str, ...]
    validation: tuple[str, ...]
    training: tuple[str, ...]
    omitted: tuple[str, ...] = ()

    @property
    def patients(self) -> tuple[str, ...]:
        return tuple(sorted((*self.test, *self.validation, *self.training, *self.omitted)))


def make(patients: Iterable[str], config: Config) -> Splits:
    """The splits that a configuration wants of these patients.

    `data.held_out` and `data.validation` are taken as they are; they may be all where only synthetic studies train.
    Without `held_out`, shares of the patients are drawn by `data.split_seed`; with it, validation stays empty unless it
    is given too. Of the others `data.omitted` are left out. Several names of one patient, see identity.names, stay
    together.

    Raises:
        ValueError: a name that is not a patient, one in both lists, or nobody left to train with.
    """
    data = config.data
    everyone = sorted(set(patients))
    _check_names(config, everyone)
    test, validation, left_out = (
        sorted(all_names(given, data) & set(everyone)) for given in (data.held_out, data.validation, data.omitted)
    )
    if not test:
        people = _people([patient for patient in everyone if patient not in validation], config)
        shares = [data.test_share, 0.0 if validation else data.validation_share]
        drawn = partition_dataset(people, [*shares, 1 - sum(shares)], shuffle=True, seed=data.split_seed)
        test, chosen = (sorted(name for person in part for name in person) for part in drawn[:2])
        validation = validation or chosen
    omitted = [patient for patient in left_out if patient not in {*test, *validation}]
    training = [patient for patient in everyone if patient not in {*test, *validation, *omitted}]
    if not training and data.synthetic < 1:
        raise ValueError(
            f"nobody is left to train with: {len(everyone)} patients, {len(test)} to test and {len(validation)} to "
            f"validate, {len(omitted)} omitted; lower data.test_share and data.validation_share, or shorten "
            "data.held_out, data.validation and data.omitted"
        )
    return Splits(
        seed=data.split_seed,
        test=tuple(test),
        validation=tuple(validation),
        training=tuple(training),
        omitted=tuple(omitted),
    )


def path(config: Config) -> Path:
    return config.data.cache / f"{config.data.splits}.json"


def write(splits: Splits, config: Config) -> None:
    # none omitted: as it was written before there were such, so that earlier versions can read it
    write_text(splits.model_dump_json(indent=2, exclude_defaults=True) + "\n", path(config))


def read(config: Config) -> Splits:
    """The splits that prepare.py has written.

    Raises:
        FileNotFoundError: there are none yet.
        ValueError: they are not what the configuration asks for.
    """
    if not path(config).exists():
        raise FileNotFoundError(
            f"no splits at {path(config)}: run `python training/prepare.py` with this configuration first"
        )
    splits = Splits.model_validate_json(path(config).read_bytes())
    agree(splits.patients, config)
    return splits


def agree(patients: Iterable[str], config: Config) -> Splits:
    """The splits that the configuration wants of these patients; the file must say the same, if there is one.

    Raises:
        ValueError: as `make`, or the file disagrees.
    """
    wanted = make(patients, config)
    if not path(config).exists():
        return wanted
    found = Splits.model_validate_json(path(config).read_bytes())
    differences = [
        f"{part}: {_difference(getattr(found, part), getattr(wanted, part))}"
        for part in ("test", "validation", "training", "omitted")
        if getattr(found, part) != getattr(wanted, part)
    ]
    if differences:
        raise ValueError(
            f"{path(config)} is of other splits than this configuration asks for ({'; '.join(differences)}). Go back "
            "to the settings it was made with, or give another data.cache; or delete the file and prepare again, and "
            "then compare no new run with an old one, which may have trained with what is now tested"
        )
    return wanted


def test_patients(config: Config) -> tuple[str, ...]:
    return read(config).test


def validation_patients(config: Config) -> tuple[str, ...]:
    return read(config).validation


def training_patients(config: Config) -> tuple[str, ...]:
    return read(config).training


def kept_apart(config: Config) -> set[str]:
    """Every name of the patients that test, validate or are omitted: nothing of theirs is to be trained with."""
    parts = read(config)
    return all_names((*parts.test, *parts.validation, *parts.omitted), config.data)


def _people(patients: list[str], config: Config) -> list[tuple[str, ...]]:
    """The names of each person, in the order of the first ones."""
    people: dict[str, list[str]] = {}
    for patient in patients:
        people.setdefault(identity(patient, config.data), []).append(patient)
    return [tuple(same) for same in people.values()]


def _check_names(config: Config, everyone: list[str]) -> None:
    data = config.data
    for key, names in (("held_out", data.held_out), ("validation", data.validation), ("omitted", data.omitted)):
        unknown = sorted(set(names) - set(everyone))
        if unknown:
            raise ValueError(
                f"data.{key} names {', '.join(unknown)}, who is not among the {len(everyone)} patients: "
                f"{_some(everyone)}. Patients are meant, without the number of the time point"
            )
    both = sorted(all_names(data.held_out, data) & set(data.validation))
    if both:
        raise ValueError(
            f"{', '.join(both)} is in data.held_out and in data.validation, maybe under another name: choose one"
        )


def _difference(found: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    more, less = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    return " and ".join(
        f"{what} {_some(names)}" for what, names in (("it lacks", more), ("it has besides", less)) if names
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
