"""What a run was made with, as its folder says, and whether a configuration still means the same run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import splits
from .config import Config
from .files import write_text

FREE = (
    "device", "runs", "start_share", "mirror", "tile", "checkpoint_every", "log_gradients_every", "validation.every",
    "optim.threads", "optim.workers", "data.source", "data.workers", "data.in_memory",
)  # fmt: skip
"""Keys that may change while a run goes on: where and how fast it runs, and how often it tells about itself."""
LOCAL = (*FREE, "data.cache")
"""Keys that are the reader's own where a run is measured or exported, maybe on another machine."""
WEIGHTS = (
    "size", "network", "formulas", "data.spacing", "data.layout", "data.held_out", "data.folds", "data.validation",
    "data.omitted", "data.test_share", "data.validation_share", "data.split_seed", "data.aliases",
)  # fmt: skip
"""Keys that say what a run's weights are, and whom they may be tested on."""
FILE = "config.json"
ABSENT = "not given"


def read(folder: Path) -> Config:
    """What the run in this folder was trained with.

    Raises:
        FileNotFoundError: there is no run.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(f"no run at {folder}: run `python training/train.py` with its configuration first")
    return Config.model_validate_json(path.read_bytes())


def as_trained(config: Config) -> Config:
    """The configuration that the run was trained with, but places and resources as given here.

    Raises:
        FileNotFoundError: there is no such run; train first.
        ValueError: a given key of WEIGHTS is not the run's.
    """
    stored = read(config.folder)
    differing = {key: pair for key, pair in differences(stored, config).items() if _within(key, WEIGHTS)}
    if differing:
        raise ValueError(
            f"run {config.name!r} was not trained with this configuration ({told(differing)}): give the configuration "
            "it was trained with, or the name of another run"
        )
    values = stored.model_dump(mode="json")
    for key, value in _flat(config.model_dump(mode="json")).items():
        if key in LOCAL:
            section = values
            *parents, last = key.split(".")
            for parent in parents:
                section = section[parent]
            section[last] = value
    return Config.model_validate(values)


def claim(config: Config, fresh: bool) -> None:
    """Write config.json into the run's folder, or leave the one that is there.

    Args:
        fresh: the run starts from nothing.

    Raises:
        ValueError: the one that is there means another run, or a fresh run would meet the best weights of an earlier.
    """
    best, path = config.folder / "best.pt", config.folder / FILE
    if fresh and best.exists():
        raise ValueError(f"{best} is of an earlier run, and this one starts at step 0: remove it, or give another name")
    if not path.exists():
        write_text(config.model_dump_json(indent=2) + "\n", path)
        return
    differing = differing_runs(read(config.folder), config)
    if differing:
        raise ValueError(
            f"{config.folder} is of a run with another configuration ({told(differing)}): give the one that it was "
            "made with, or another name, or remove that folder"
        )


def check_continues(state: Mapping[str, Any], config: Config, splits: str, processes: int, path: Path) -> None:
    """Refuse to go on from a checkpoint that a run of this configuration would not have come to.

    Args:
        splits: as splits_hash.

    Raises:
        ValueError: configuration, splits or the number of processes differ; all differences are named.
    """
    differing = differing_runs(Config.model_validate(state["config"]), config)
    now = {"splits": splits, "processes": processes}
    was = {"splits": state.get("splits", ABSENT), "processes": len(state["random"])}
    differing |= {key: (was[key], now[key]) for key in now if was[key] != now[key]}
    if differing:
        raise ValueError(
            f"{path} does not continue this run ({told(differing)}): give the configuration it was made with, or "
            "another name for a new run"
        )


def differing_runs(stored: Config, given: Config) -> dict[str, tuple[Any, Any]]:
    """Where the two mean different runs: key -> stored and given value."""
    return {key: pair for key, pair in differences(stored, given).items() if not _within(key, FREE)}


def differences(stored: Config, given: Config) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> stored and given value, where they differ.

    What a fold starts from is its `init`; what the other folds start from makes it no other run.
    """
    others = {"init_folds"} if stored.fold is not None and given.fold is not None else None
    one, other = (_flat(config.model_dump(mode="json", exclude=others)) for config in (stored, given))
    pairs = {key: (one.get(key, ABSENT), other.get(key, ABSENT)) for key in sorted(one.keys() | other.keys())}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def told(differing: Mapping[str, tuple[Any, Any]]) -> str:
    """For messages: what is stored, then what was given."""
    return "; ".join(f"{key}: {stored} -> {given}" for key, (stored, given) in differing.items())


def splits_hash(config: Config) -> str:
    """Of the patients by part, as prepared.

    Raises:
        FileNotFoundError, ValueError: as splits.read.
    """
    parts = splits.read(config).model_dump(include={"test", "validation", "training"})
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _within(key: str, keys: tuple[str, ...]) -> bool:
    return any(key == one or key.startswith(f"{one}.") for one in keys)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
