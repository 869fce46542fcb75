"""What users get: the shipped path, study in and masks out, measured on all 15 subsets of the held-out studies."""

from __future__ import annotations

import csv
import json
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from monai.metrics import compute_dice
from MSTKDSegmenterLib.engine.package import ModelPackage
from MSTKDSegmenterLib.engine.regions import REGIONS, regions_of
from MSTKDSegmenterLib.engine.segment import segment
from MSTKDSegmenterLib.engine.sequences import SEQUENCES, SUBSETS, subset_name
from MSTKDSegmenterLib.engine.study import study_from_files
from tqdm import tqdm

from .config import Config
from .prepare import SUFFIX

Row = dict[str, Any]


def evaluate(config: Config, package: ModelPackage) -> list[Row]:
    """One row per held-out study and subset: Dice and volumes (ml) of truth and result per region, native grid."""
    held_out = config.data.held_out
    rows: list[Row] = []
    with tarfile.open(config.data.source / "brats_cases.tar.xz") as archive, tempfile.TemporaryDirectory() as scratch:
        archive.extractall(scratch, filter="data")
        for name in held_out:
            folder = Path(scratch, "cases", name)
            truth = sitk.ReadImage(str(folder / f"{name}_seg.nii"))
            wanted = regions_of(sitk.GetArrayFromImage(truth), config.data.convention)
            files = {s: folder / f"{name}_{SUFFIX[s]}.nii" for s in SEQUENCES}
            for subset in tqdm(SUBSETS, desc=name):
                result = segment(study_from_files({s: files[s] for s in subset}), package, config.device)
                rows.append({"study": name, "subset": subset_name(subset), **_scores(result.masks, wanted, truth)})
    return rows


def _scores(masks: dict[str, np.ndarray], wanted: dict[str, np.ndarray], truth: sitk.Image) -> dict[str, float]:
    voxel = float(np.prod(truth.GetSpacing())) / 1000
    scores: dict[str, float] = {}
    for region in REGIONS:
        guess, true = (torch.from_numpy(m)[None, None].float() for m in (masks[region], wanted[region]))
        # both empty counts as 1, one of them empty as 0
        dice = compute_dice(guess, true, ignore_empty=False).item()
        scores[f"{region}_dice"] = round(dice, 4)
        scores[f"{region}_ml"] = round(masks[region].sum().item() * voxel, 2)
        scores[f"{region}_true_ml"] = round(wanted[region].sum().item() * voxel, 2)
    return scores


def table(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Mean Dice over the studies: subset -> region -> Dice, in the order of SUBSETS; goes into model.json."""
    result = {}
    for subset in SUBSETS:
        name = subset_name(subset)
        mine = [row for row in rows if row["subset"] == name]
        result[name] = {region: round(float(np.mean([row[f"{region}_dice"] for row in mine])), 3) for region in REGIONS}
    return result


def markdown(rows: list[Row]) -> str:
    """The table with the range over the studies, for people."""
    lines = ["| subset | " + " | ".join(REGIONS) + " |", "|---|" + "---|" * len(REGIONS)]
    means = table(rows)
    for name, mean in means.items():
        cells = []
        for region in REGIONS:
            values = [row[f"{region}_dice"] for row in rows if row["subset"] == name]
            cells.append(f"{mean[region]:.3f} ({min(values):.2f}-{max(values):.2f})")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    overall = [float(np.mean([mean[region] for mean in means.values()])) for region in REGIONS]
    lines.append("| **mean of 15** | " + " | ".join(f"**{value:.3f}**" for value in overall) + " |")
    return "\n".join(lines) + "\n"


def write(config: Config, rows: list[Row], sha256: str) -> None:
    """evaluation.json, .csv and .md in the run's folder; the hash ties the numbers to the weights they belong to."""
    folder = config.folder
    record = {
        "sha256": sha256,
        "measured_on": list(config.data.held_out),
        "command": "python training/eval.py --config training/configs/dropout.yaml",
        "table": table(rows),
        "rows": rows,
    }
    (folder / "evaluation.json").write_text(json.dumps(record, indent=2) + "\n")
    with open(folder / "evaluation.csv", "w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "evaluation.md").write_text(markdown(rows))
