"""A figure like Fig. 2 of the paper: one test study, some subsets, the truth beside one or more runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid, bounding_box
from MSTKDSegmenterLib.engine.package import ModelPackage
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import subset_name

from .cases import Case
from .config import Config
from .evaluate import answer, studies_to_test, true_masks
from .metrics import dice
from .plots import Panels, slices
from .statistics import Row

SHOWN: tuple[tuple[str, ...], ...] = (
    ("T1",),
    ("FLAIR",),
    ("T1ce",),
    ("FLAIR", "T1ce"),
    ("FLAIR", "T1", "T1ce", "T2"),
)
TRUTH = "truth"
BORDER = 4  # voxels around the head
WINDOW = (1, 99.5)  # percentiles of the head that become black and white


def typical(rows: Sequence[Row]) -> str:
    """The study in the middle of the ranking by mean Dice: neither the best nor the worst is shown."""
    studies = sorted({row["study"] for row in rows})
    scores = {
        study: np.mean([row[f"{region}_dice"] for row in rows if row["study"] == study for region in REGIONS])
        for study in studies
    }
    return sorted(studies, key=scores.__getitem__)[len(studies) // 2]


def illustrate(config: Config, packages: Mapping[str, ModelPackage], rows: Sequence[Row], path: Path) -> None:
    """Segment the typical study of `rows` with each package (by the name of its run) and draw its largest slice."""
    name = typical(rows)
    case = next(case for case in studies_to_test(config) if case.name == name)
    truth, _ = true_masks(case, config.data.convention)
    grid = Grid.of(sitk.ReadImage(str(case.labels)))
    level = int(_upright(truth["WT"], grid).sum(axis=(1, 2)).argmax())
    panels = [_row(case, subset, packages, truth, grid, level, config.device) for subset in SHOWN]
    slices(panels, f"{name}, the study with the median Dice", path)


def _row(
    case: Case,
    subset: tuple[str, ...],
    packages: Mapping[str, ModelPackage],
    truth: Mapping[str, np.ndarray],
    grid: Grid,
    level: int,
    device: str,
) -> Panels:
    image = _upright(sitk.GetArrayFromImage(sitk.ReadImage(str(case.images[subset[0]]))), grid)[level]
    box = bounding_box(image > image.min(), BORDER)
    black, white = np.percentile(image[image > image.min()], WINDOW)
    shape = truth["WT"].shape
    found = {name: answer(case, subset, package, device, shape).masks for name, package in packages.items()}
    return Panels(
        subset_name(subset),
        np.clip((image[box] - black) / (white - black), 0, 1),
        {
            name: {region: _upright(masks[region], grid)[level][box] for region in REGIONS}
            for name, masks in {TRUTH: truth, **found}.items()
        },
        {name: {region: dice(masks[region], truth[region]) for region in REGIONS} for name, masks in found.items()},
    )


def _upright(array: np.ndarray, grid: Grid) -> np.ndarray:
    """(z, y, x) on the grid -> along S, P, L, so that a slice is axial and stands as radiologists look at it."""
    return sitk.GetArrayFromImage(sitk.DICOMOrient(grid.image(array), "LPS")).astype(array.dtype)
