"""Pictures of an evaluation: the heat map of 15 subsets x 3 regions, and slices beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SEQUENCES
from MSTKDSegmenterLib.scene.terminology import APPEARANCES

DPI = 150
OPACITY = 0.65
INK, GREY, FAINT = "#1c2430", "#8a94a3", "#d9dde3"
NAMES = {"WT": "whole tumour", "TC": "tumour core", "ET": "enhancing tumour"}


@dataclass(frozen=True)
class Panels:
    """One row of the figure: what is behind the regions, and the regions by column, all of one slice (y, x)."""

    subset: str
    image: np.ndarray  # 0..1
    columns: Mapping[str, Mapping[str, np.ndarray]]  # "truth", then the runs -> region -> bool
    dice: Mapping[str, Mapping[str, float]]  # run -> region -> Dice of the whole volume


def heat_map(table: Mapping[str, Mapping[str, float]], title: str, path: Path) -> None:
    """Dice of each subset (rows, with a dot for each sequence that is there) and region (columns), and their mean."""
    values = np.array([[row[region] for region in REGIONS] for row in table.values()])
    values = np.vstack([values, values.mean(axis=0)])
    present = np.array([[sequence in name.split("+") for sequence in SEQUENCES] for name in table])
    figure = new_figure(5.2, 0.34 * len(values) + 0.9)
    dots, axes = figure.subplots(1, 2, sharey=True, width_ratios=(2, 3))
    rows, columns = np.indices(present.shape)
    dots.scatter(columns, rows, s=42, c=np.where(present.ravel(), INK, FAINT))
    dots.set_xlim(-0.6, len(SEQUENCES) - 0.4)
    dots.text(len(SEQUENCES) - 0.7, len(table), "mean", ha="right", va="center", fontsize=9)
    dots.set_xticks(range(len(SEQUENCES)), SEQUENCES, fontsize=8)
    dots.set_yticks([])
    axes.imshow(values, cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        colour = "white" if value < 0.6 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=9)
    axes.axhline(len(table) - 0.5, color="white", linewidth=3)
    axes.set_xticks(range(len(REGIONS)), REGIONS, fontsize=9)
    for one in (dots, axes):
        one.xaxis.tick_top()
        one.tick_params(length=0)
        one.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=DPI)


def reliability(found: Mapping[str, Any], path: Path) -> None:
    """See calibration.honesty: by region, what was said against what was true."""
    figure = new_figure(3 * len(REGIONS), 3.3)
    for axes, region in zip(figure.subplots(1, len(REGIONS), sharey=True), REGIONS, strict=True):
        axes.plot((0, 1), (0, 1), color=FAINT)
        kinds = {"as_said": ("as said", "--", GREY), "tempered": ("with temperatures", ":", GREY)}
        for key, (name, line, colour) in {**kinds, "calibrated": ("calibrated", "-", INK)}.items():
            curve = found[key][region]
            label = f"{name}, error {curve['error']:.3f}"
            axes.plot(curve["said"], curve["true"], line, marker="o", markersize=3, color=colour, label=label)
        axes.legend(fontsize=7, frameon=False, loc="upper left")
        axes.set_title(NAMES[region], fontsize=9)
        axes.set_xlabel("probability said", fontsize=8)
        axes.tick_params(labelsize=8)
    figure.axes[0].set_ylabel("share that was true", fontsize=8)
    figure.savefig(path, dpi=DPI)


def slices(rows: Sequence[Panels], title: str, path: Path) -> None:
    """Rows: subsets. Columns: the bare image, the truth and the runs; below a run its Dice in the whole volume."""
    names = list(rows[0].columns)
    height, width = rows[0].image.shape
    figure = new_figure(2 * len(names) + 2.6, (2 * height / width + 0.15) * len(rows) + 0.8)
    grid = figure.subplots(len(rows), len(names) + 1, squeeze=False)
    for line, panels in zip(grid, rows, strict=True):
        line[0].imshow(panels.image, cmap="gray", vmin=0, vmax=1)
        line[0].set_ylabel(panels.subset.replace("+", "\n+ "), fontsize=9, rotation=0, ha="right", va="center")
        for axes, name in zip(line[1:], names, strict=True):
            axes.imshow(_painted(panels.image, panels.columns[name]))
            if name in panels.dice:
                numbers = "   ".join(f"{region} {value:.2f}" for region, value in panels.dice[name].items())
                axes.set_xlabel(numbers, fontsize=7, labelpad=2)
    for axes, name in zip(grid[0], ["image", *names], strict=True):
        axes.set_title(name, fontsize=10)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    patches = [Patch(color=APPEARANCES[region].rgb, label=NAMES[region]) for region in REGIONS]
    figure.legend(handles=patches, loc="outside lower center", ncols=len(patches), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10)
    figure.savefig(path, dpi=DPI)


def _painted(image: np.ndarray, regions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Grey image (y, x) with the regions over it, the inner ones last: (y, x, 3)."""
    result = np.repeat(image[..., None], 3, axis=-1)
    for region in REGIONS:
        mask = regions[region]
        result[mask] = (1 - OPACITY) * image[mask][:, None] + OPACITY * np.array(APPEARANCES[region].rgb)
    return result


def new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure
