"""Samples as files and as a picture: NIfTI in the layout of BraTS 2021, and a contact sheet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.normalise import CLIP
from MSTKDSegmenterLib.engine.regions import CLASSES, CONVENTIONS
from MSTKDSegmenterLib.engine.sequences import SEQUENCES

from .cache import Sample
from .cases import ENDINGS, LABEL_MAP
from .plots import DPI, new_figure

LAYOUT = "brats2021"
_STEPS = 200  # grey values per standard deviation
_WINDOW = (-2.5, 3.5)
_COLOURS = {"NCR": (224, 64, 56), "ED": (88, 176, 110), "ET": (245, 196, 66), "background": (0, 0, 0)}


def write(sample: Sample, folder: Path, spacing: float) -> None:
    """`folder`/<folder's name>_flair.nii.gz ... _seg.nii.gz, int16 and uint8; 0 outside the brain."""
    folder.mkdir(parents=True, exist_ok=True)
    size = tuple(sample.labels.shape[::-1])
    grid = Grid(size, (spacing,) * 3, tuple(sample.origin.tolist()), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    values = np.zeros(len(CLASSES), np.uint8)
    for value, name in CONVENTIONS[LAYOUT].items():
        values[CLASSES.index(name)] = value
    arrays = {LABEL_MAP: values[sample.labels]}
    for sequence, channel in zip(SEQUENCES, sample.image):
        grey = np.rint((channel.astype(np.float32) + CLIP) * _STEPS) + 1
        arrays[sequence] = np.where(sample.brain, grey, 0).astype(np.int16)
    for role, ending in ENDINGS[LAYOUT].items():
        sitk.WriteImage(grid.image(arrays[role]), str(folder / f"{folder.name}{ending}.nii.gz"))


def contact_sheet(samples: Mapping[str, Sample], path: Path) -> None:
    """Rows: studies, in the slice with most tumour. Columns: the sequences and the labels."""
    figure = new_figure(8.4, 1.85 * len(samples) + 0.4)
    figure.patch.set_facecolor("black")
    grid = figure.subplots(len(samples), len(SEQUENCES) + 1, squeeze=False)
    colours = np.array([_COLOURS[name] for name in CLASSES], np.uint8)
    for line, (name, sample) in zip(grid, samples.items()):
        tumour = (sample.labels != CLASSES.index("background")).sum(axis=(1, 2))
        z = int(tumour.argmax()) if tumour.any() else len(tumour) // 2
        for axes, channel in zip(line, sample.image):
            low, high = _WINDOW
            shown = np.where(sample.brain[z], channel[z].astype(np.float32), low)
            axes.imshow(shown, cmap="gray", vmin=low, vmax=high, interpolation="bicubic")
        line[-1].imshow(colours[sample.labels[z]])
        line[0].set_ylabel(name, color="white", fontsize=7)
    for axes, title in zip(grid[0], (*SEQUENCES, "labels")):
        axes.set_title(title, color="white", fontsize=9)
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
