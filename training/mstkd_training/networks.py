"""The networks of a run: student, teacher, and where their weights come from."""

from __future__ import annotations

from MSTKDSegmenterLib.engine.network import SIZES, MSTKDNet, NetworkConfig, build
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from . import checkpoint
from .config import Config, load
from .seen import check_teacher


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


def new_average(student: MSTKDNet, decay: float) -> AveragedModel:
    """Exponential moving average of the student: what is validated and exported."""
    average = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.requires_grad_(False)
    return average


def new_teacher(config: Config, average: AveragedModel) -> MSTKDNet | None:
    """The teacher that the configuration asks for.

    Raises:
        ValueError: a frozen one has learnt from patients whom this run keeps apart.
        FileNotFoundError: a frozen one's run has no checkpoint or no provenance.json, or the data are not prepared.
    """
    kind = config.teacher.kind
    if kind == "none":
        return None
    if kind == "ema":
        return average.module
    if kind == "frozen":
        check_teacher(config)
        return trained_student(load(config.runs / config.teacher.run / "config.json").at(config.runs))
    return build(network_config(config, config.teacher.size))


def trained_student(config: Config) -> MSTKDNet:
    """The averaged student of a run's checkpoint (the best one on validation, if it was measured), in evaluation mode.

    Raises:
        FileNotFoundError: the run has no checkpoint yet; train first.
    """
    best = config.folder / "best.pt"
    state = checkpoint.load(best if best.exists() else config.folder / "checkpoint.pt")
    average = AveragedModel(new_student(config))
    average.load_state_dict(state["average"])
    return average.module.eval()
