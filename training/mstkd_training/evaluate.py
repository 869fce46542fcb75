"""What users get: the shipped path, study in and masks out, measured on all 15 subsets of the test studies."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.package import ModelPackage
from MSTKDSegmenterLib.engine.regions import REGIONS, regions_of
from MSTKDSegmenterLib.engine.segment import segment
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from MSTKDSegmenterLib.engine.study import study_from_files
from tqdm import tqdm

from .cases import Case, find_cases
from .config import Config
from .lesions import lesion_scores
from .metrics import region_scores
from .published import benchmark
from .splits import test_patients
from .tables import document, table

DIGITS = 4

Row = dict[str, Any]


def studies_to_test(config: Config) -> list[Case]:
    """The studies of the test patients, without those that prepare.py left out as unusable.

    Raises:
        FileNotFoundError: the data are not there, or have not been prepared.
        ValueError: none of the test patients' studies can be used; otherwise as cases.find_cases and splits.read.
    """
    patients = test_patients(config)
    fingerprint = config.data.cache / "fingerprint.json"
    left_out = json.loads(fingerprint.read_text(encoding="utf-8"))["left_out"] if fingerprint.exists() else {}
    chosen = [case for case in find_cases(config.data) if case.patient in patients and case.name not in left_out]
    if not chosen:
        raise ValueError(
            f"nothing to test: {config.data.source} has no usable study of the test patients, {', '.join(patients)}"
        )
    return chosen


def found_masks(case: Case, subset: tuple[str, ...], package: ModelPackage, device: str) -> dict[str, np.ndarray]:
    """Region -> bool (z, y, x) on the native grid, segmented from these sequences alone, exactly as users do it."""
    study = study_from_files({sequence: case.images[sequence] for sequence in subset})
    return segment(study, package, device).masks


def true_masks(case: Case, convention: str) -> tuple[dict[str, np.ndarray], tuple[float, ...]]:
    """Region -> bool (z, y, x) of the ground truth, and its spacing in mm, z, y, x."""
    labels = sitk.ReadImage(str(case.labels))
    return regions_of(sitk.GetArrayFromImage(labels), convention), labels.GetSpacing()[::-1]


def evaluate(config: Config, package: ModelPackage) -> list[Row]:
    """One row per test study and subset: study, patient, subset and `<region>_<metric>` for all metrics and regions."""
    rows: list[Row] = []
    for case in tqdm(studies_to_test(config), desc="studies"):
        truth, spacing = true_masks(case, config.data.convention)
        for subset in tqdm(SUBSETS, desc=case.name, leave=False):
            found = found_masks(case, subset, package, config.device)
            row: Row = {"study": case.name, "patient": case.patient, "subset": subset_name(subset)}
            for region in REGIONS:
                scores = region_scores(found[region], truth[region], spacing)
                scores |= lesion_scores(found[region], truth[region], spacing)
                row |= {f"{region}_{metric}": _rounded(value) for metric, value in scores.items()}
            rows.append(row)
    return rows


def write(config: Config, rows: list[Row], sha256: str, command: str) -> str:
    """evaluation.json, .csv and .md in the run's folder, and the text of the last.

    The hash ties the numbers to the weights they belong to; `command` is the one that was run.
    """
    folder = config.folder
    studies = list(dict.fromkeys(row["study"] for row in rows))
    record = {"sha256": sha256, "measured_on": studies, "command": command, "table": table(rows), "rows": rows}
    (folder / "evaluation.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    with open(folder / "evaluation.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text = document(config.name, rows, benchmark(config.data.layout))
    (folder / "evaluation.md").write_text(text, encoding="utf-8")
    return text


def read(folder: Path) -> dict[str, Any]:
    """The record of a run's evaluation.

    Raises:
        FileNotFoundError: the run has not been evaluated.
    """
    path = folder / "evaluation.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: run {folder.name!r} has not been evaluated, "
            "run `python training/eval.py --config` with its configuration first"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _rounded(value: float | None) -> float | None:
    return round(value, DIGITS) if isinstance(value, float) else value
