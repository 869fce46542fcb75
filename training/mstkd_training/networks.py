"""The networks of a run: student, teacher, and where their weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from MSTKDSegmenterLib.engine.network import SIZES, MSTKDNet, NetworkConfig, build
from MSTKDSegmenterLib.engine.package import load
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import checkpoint
from .config import Config
from .continuity import differing_runs, read, told
from .ensemble import Ensemble
from .seen import check_package, check_run


def network_config(config: Config, size: str | None = None) -> NetworkConfig:
    """The student's, or with a size the teacher's, definition: a named size with the configured changes.

    Raises:
        ValueError: an unknown size or change.
    """
    name = size or config.size
    if name not in SIZES:
        raise ValueError(f"network size {name!r}: expected one of {', '.join(SIZES)}")
    values = {**SIZES[name].to_dict(), "independent": config.formulas.segmentation == "official"}
    for key, value in ({} if size else config.network).items():
        if key not in values:
            raise ValueError(f"network.{key}: expected one of {', '.join(values)}")
        merged = isinstance(value, dict) and isinstance(values[key], dict)
        values[key] = {**values[key], **value} if merged else value
    try:
        return NetworkConfig.from_dict(values)
    except TypeError as error:
        raise ValueError(f"network.transformer: {error}") from error


def new_student(config: Config) -> MSTKDNet:
    return build(network_config(config))


def first_student(config: Config) -> MSTKDNet:
    """The student before its first step: new, or with the weights of a package (`init`) or of a run (`start`).

    Raises:
        ValueError: they are of another network, or have learnt from patients whom this run keeps apart.
        PackageError: the package cannot be used.
        FileNotFoundError: the run has no checkpoint or no provenance.json, or the data are not prepared.
    """
    student = new_student(config)
    if config.init is not None:
        package = load(config.init)
        check_package(package, config)
        weights, told_as = package.network(), f"init={config.init}"
    elif config.start is not None:
        weights, told_as = finished_student(config.start, config), f"start={config.start}"
    else:
        return student
    if weights.config != student.config:
        raise ValueError(f"{told_as} holds {weights.config}, this run trains {student.config}: choose another")
    student.load_state_dict(weights.state_dict())
    return student


def new_average(student: MSTKDNet, decay: float) -> AveragedModel:
    """Exponential moving average of the student: what is validated and exported."""
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.requires_grad_(False)
    return average


def new_teacher(config: Config, average: AveragedModel) -> MSTKDNet | Ensemble | None:
    """The teacher that the configuration asks for.

    Raises:
        ValueError, FileNotFoundError: a frozen one cannot be used, see finished_student.
    """
    kind = config.teacher.kind
    if kind == "none":
        return None
    if kind == "ema":
        return average.module
    if kind == "frozen":
        teachers = [_taught_alike(run, config) for run in config.teacher.run]
        return teachers[0] if len(teachers) == 1 else Ensemble(teachers)
    return build(network_config(config, config.teacher.size))


def _taught_alike(run: str, config: Config) -> MSTKDNet:
    """The student of another run, to teach this one's."""
    teacher = finished_student(run, config)
    independent = network_config(config).independent
    if teacher.config.independent != independent:
        raise ValueError(
            f"teacher.run={run} answers with {_answers(teacher.config.independent)}, this student "
            f"with {_answers(independent)}: choose a teacher with the same formulas.segmentation"
        )
    return teacher


@dataclass(frozen=True)
class Trained:
    """A run's averaged student in evaluation mode, and where in the run it is from.

    checkpoint: "best" on validation, or "last" where nothing was validated. step: its own. reached: the run's last one.
    processes: how many trained it. provenance: of the code and packages that wrote it. splits: as
    continuity.splits_hash, if it was noted.
    """

    network: MSTKDNet
    checkpoint: Literal["best", "last"]
    step: int
    reached: int
    processes: int
    provenance: dict[str, Any]
    splits: str | None


def trained_student(config: Config) -> Trained:
    """What a run has come to, its share of the weights that it started from included.

    Between both ends of a fine-tuning: Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022.

    Args:
        config: as the run was trained, see continuity.as_trained.

    Raises:
        FileNotFoundError: the run has no checkpoint yet; train first.
        ValueError: the best weights are of an earlier run of that name.
    """
    best, last = config.folder / "best.pt", config.folder / "checkpoint.pt"
    path = best if best.exists() else last
    state = checkpoint.load(path)
    newest = checkpoint.peek(last) if last.exists() else state
    differing = differing_runs(Config.model_validate(state["config"]), config)
    if state.get("run") != newest.get("run"):  # those of before runs were numbered have none
        differing["run"] = (state.get("run"), newest.get("run"))
    if differing:
        raise ValueError(
            f"{path} is not of the run that {config.folder} describes ({told(differing)}): it was left by an earlier "
            "one. Remove it, or give the name of another run"
        )
    average = AveragedModel(new_student(config))
    average.load_state_dict(state["average"])
    if config.start_share:
        _share(average.module, first_student(config), config.start_share)
    return Trained(
        average.module.eval(),
        "best" if path == best else "last",
        state["step"],
        newest["step"],
        len(state["random"]),
        state["provenance"],
        state.get("splits"),
    )


@torch.no_grad()
def _share(student: MSTKDNet, start: MSTKDNet, share: float) -> None:
    for mine, theirs in zip(student.state_dict().values(), start.state_dict().values(), strict=True):
        mine.lerp_(theirs, share)


def finished_student(name: str, config: Config) -> MSTKDNet:
    """The student of another run, for this one to build on.

    Raises:
        ValueError: that run is not finished, has learnt from patients whom this one keeps apart, or at another spacing.
        FileNotFoundError: it has no checkpoint or no provenance.json, or the data are not prepared.
    """
    check_run(name, config)
    other = earlier(name, config)
    if other.data.spacing != config.data.spacing:
        raise ValueError(
            f"run {name!r} has learnt at {other.data.spacing:g} mm, this one learns at {config.data.spacing:g} mm: "
            "choose another, or the same data.spacing"
        )
    trained = trained_student(other)
    if trained.reached < other.optim.steps:
        raise ValueError(
            f"run {name!r} has come to step {trained.reached} of {other.optim.steps}, and this one builds on it: "
            "start it again, it goes on"
        )
    return trained.network


def earlier(name: str, config: Config) -> Config:
    """What a run that this one builds on was trained with, looked for where this one is."""
    return read(config.folder_of(name)).at(config.runs, config.data.cache)


def _answers(independent: bool) -> str:
    return "independent sigmoids" if independent else "exclusive classes"
