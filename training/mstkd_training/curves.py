"""A run's TensorBoard curves as one picture, for those who have no TensorBoard at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from MSTKDSegmenterLib.engine.regions import REGIONS
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from .plots import DPI, FAINT, INK, new_figure

COLUMNS = 4
WINDOWS = 30
"""Into how many windows the steps are divided; a curve shows the median of each, as single steps scatter widely."""

Curve = tuple[np.ndarray, np.ndarray]


def read(folder: Path) -> dict[str, Curve]:
    """Scalar -> steps and values, over all the event files of a run; of a step that was repeated, the last value."""
    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("events.*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0}).Reload()
        for name in events.Tags()["scalars"]:
            found.setdefault(name, {}).update((event.step, event.value) for event in events.Scalars(name))
    return {name: tuple(np.array(sorted(values.items())).T) for name, values in found.items()}


def medians(steps: np.ndarray, values: np.ndarray) -> Curve:
    """Median step and value of each of WINDOWS windows."""
    parts = min(WINDOWS, len(steps))
    pairs = list(zip(np.array_split(steps, parts), np.array_split(values, parts)))
    return np.array([np.median(s) for s, _ in pairs]), np.array([np.median(v) for _, v in pairs])


def logged(folder: Path) -> bool:
    """Whether a run has left anything to draw."""
    return any(folder.glob("events.*"))


def draw(folder: Path, title: str, path: Path) -> None:
    """Every curve of training/... in a field of its own, and validation Dice in the last; values that are not finite,
    as a skipped step has, leave a gap.

    Raises:
        FileNotFoundError: the run has logged nothing.
    """
    curves = read(folder)
    training = {name.split("/")[1]: curve for name, curve in curves.items() if name.startswith("training/")}
    if not training:
        raise FileNotFoundError(f"{folder} holds no TensorBoard events: train the run first")
    lines = -(-(len(training) + 1) // COLUMNS)
    figure = new_figure(2.6 * COLUMNS, 1.7 * lines + 0.5)
    fields = list(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for axes, (name, (steps, values)) in zip(fields, training.items()):
        finite = np.isfinite(values)
        axes.plot(steps, np.where(finite, values, np.nan), color=FAINT, linewidth=0.5)
        if finite.any():
            axes.plot(*medians(steps[finite], values[finite]), color=INK, linewidth=1.3)
            axes.set_ylim(0, np.percentile(values[finite], 98) * 1.05)
        axes.set_title(name, fontsize=9)
    last = fields[len(training)]
    for region in REGIONS:
        if f"validation/{region}" in curves:
            last.plot(*curves[f"validation/{region}"], marker=".", label=region)
            last.legend(fontsize=7, frameon=False)
    last.set_title("validation Dice", fontsize=9)
    last.set_ylim(0, 1)
    for axes in fields:
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in fields[len(training) + 1 :]:
        axes.set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=DPI)
