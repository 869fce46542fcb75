"""What users get: the shipped path, study in and masks out, measured on all 15 subsets of the test studies."""

from __future__ import annotations

import csv
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib import engine
from MSTKDSegmenterLib.engine.device import choose_device
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.package import ModelPackage, default_folder, load
from MSTKDSegmenterLib.engine.regions import REGIONS, regions_of
from MSTKDSegmenterLib.engine.segment import segment
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from MSTKDSegmenterLib.engine.study import study_from_files
from tqdm import tqdm

from .calibration import honesty, stored
from .cases import Case, find_cases
from .config import Config
from .continuity import FILE as RUN
from .counts import check_ran_as_asked, of_patients
from .files import write_text
from .lesions import lesion_scores
from .metrics import region_scores
from .published import benchmark
from .rows import FORMAT, Row, append, begun, refusals
from .seen import check_package
from .splits import test_patients
from .tables import document, table

DIGITS = 4
FILE = "evaluation.json"


@dataclass(frozen=True)
class Answer:
    """Region -> bool (z, y, x), and why they are all empty if the engine refused to segment."""

    masks: dict[str, np.ndarray]
    refused: str | None = None


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


def answer(case: Case, subset: tuple[str, ...], package: ModelPackage, device: str, shape: tuple[int, ...]) -> Answer:
    """What users get from these sequences alone; nothing where the engine refuses the study, which is an answer too.

    Args:
        shape: of the native grid (z, y, x).

    Raises:
        MemoryError: there was too little memory to run the network as asked.
    """
    try:
        study = study_from_files({sequence: case.images[sequence] for sequence in subset})
        result = segment(study, package, device)
    except UnusableInput as error:
        return Answer({region: np.zeros(shape, dtype=bool) for region in REGIONS}, str(error))
    check_ran_as_asked(case.name, result.report["gave_way"])
    return Answer(result.masks)


def true_masks(case: Case, convention: str) -> tuple[dict[str, np.ndarray], tuple[float, ...]]:
    """Region -> bool (z, y, x) of the ground truth, and its spacing in mm, z, y, x."""
    labels = sitk.ReadImage(str(case.labels))
    return regions_of(sitk.GetArrayFromImage(labels), convention), labels.GetSpacing()[::-1]


def evaluate(config: Config, package: ModelPackage) -> list[Row]:
    """One row per test study and subset, see rows.Row; those that an interrupted evaluation has left are kept.

    Raises:
        UnusableInput: the package or the device cannot be used. A study that cannot be is a row with empty masks.
    """
    choose_device(config.device)  # not for a study to be blamed for
    package.network()
    cases = studies_to_test(config)
    path = config.folder / "evaluation.rows.jsonl"
    rows = begun(path, _belongs_to(config, package))
    for case in tqdm(cases, desc="studies"):
        missing = [subset for subset in SUBSETS if (case.name, subset_name(subset)) not in rows]
        if not missing:
            continue
        truth, spacing = true_masks(case, config.data.convention)
        for subset in tqdm(missing, desc=case.name, leave=False):
            found = answer(case, subset, package, config.device, truth["WT"].shape)
            row: Row = {"study": case.name, "patient": case.patient, "subset": subset_name(subset)}
            row["refused"] = found.refused
            for region in REGIONS:
                scores = region_scores(found.masks[region], truth[region], spacing)
                scores |= lesion_scores(found.masks[region], truth[region], spacing)
                row |= {f"{region}_{metric}": _rounded(value) for metric, value in scores.items()}
            append(row, path)
            rows[case.name, row["subset"]] = row
    return [rows[case.name, subset_name(subset)] for case in cases for subset in SUBSETS]


def to_measure(folder: Path, config: Config) -> ModelPackage:
    """A package that is not of a run, to be measured under a name of its own.

    Raises:
        ValueError: it has learnt from the test patients or does not say from whom, the name is that of a run, or it
            works at another spacing than the prepared data have.
        PackageError: it cannot be used.
        FileNotFoundError: the data are not prepared.
    """
    if (config.folder / RUN).exists():
        raise ValueError(f"{config.folder} is of a run: give another name for the results, such as name=measured")
    package = load(folder)
    check_package(package, config)
    if package.spacing != config.data.spacing:
        raise ValueError(
            f"{folder} works at {package.spacing:g} mm, the prepared data are of {config.data.spacing:g} mm: give "
            f"data.spacing={package.spacing:g} and a data.cache of its own, and run `python training/prepare.py` so"
        )
    return package


def reliability(config: Config, package: ModelPackage) -> dict[str, Any]:
    """How far what the package says about the test patients can be believed, on the working grid."""
    path = config.folder / "evaluation.counts.npz"
    patients, network = test_patients(config), package.network()
    found = of_patients(config, patients, network, path, package.mirror, package.tile)
    return honesty(found, dict.fromkeys(found.patients, stored(package)))


def use(package: ModelPackage) -> dict[str, Any]:
    """What a package does with the network's answer."""
    return {
        "thresholds": package.card["thresholds"],
        "temperatures": package.card.get("temperatures", {}),
        "mirror": package.mirror,
        "tile": package.card.get("tile"),
    }


def is_of(evaluation: dict[str, Any], package: ModelPackage) -> bool:
    """Whether an evaluation's record is of these weights, used as the package and this version use them."""
    if evaluation.get("format") != FORMAT:
        return False
    # those of before their use was noted have none
    return evaluation["sha256"] == package.sha256 and evaluation.get("use", use(package)) == use(package)


def reliability_in(evaluation: dict[str, Any], package: ModelPackage) -> dict[str, Any]:
    """What an evaluation's record says of a package's probabilities; nothing if it has other curves by now."""
    if evaluation.get("calibration") != package.card.get("calibration", {}):
        print("the evaluation is of other curves of probabilities, so the card says nothing of them: run eval.py again")
        return {}
    return evaluation["reliability"]


def _belongs_to(config: Config, package: ModelPackage) -> dict[str, Any]:
    """What decides the rows: the weights, how they are used, the engine around them, and the data."""
    fingerprint = config.data.cache / "fingerprint.json"
    content = json.loads(fingerprint.read_text(encoding="utf-8")) if fingerprint.exists() else {}
    return {
        "sha256": package.sha256,
        "spacing_mm": package.spacing,
        "engine": _engine(),
        **use(package),
        "layout": config.data.layout,
        "files_sha256": content.get("files_sha256"),
    }


def _engine() -> str:
    """sha256 of the engine's sources and of its brain mask's weights: all that comes before and after the network."""
    content = hashlib.sha256(load(default_folder("brain"), "brain").sha256.encode())
    for path in sorted(Path(engine.__file__).parent.glob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()


def write(config: Config, rows: list[Row], package: ModelPackage, command: str, reliability: dict[str, Any]) -> str:
    """evaluation.json, .csv and .md in the run's folder, and the text of the last.

    The numbers are tied to the weights they belong to and how these are used; `command` is the one that was run.
    """
    folder = config.folder
    studies = list(dict.fromkeys(row["study"] for row in rows))
    record = {
        "format": FORMAT,
        "sha256": package.sha256,
        "use": use(package),
        "measured_on": studies,
        "command": command,
        "table": table(rows),
        "refused": refusals(rows),
        "calibration": package.card.get("calibration", {}),
        "reliability": reliability,
        "rows": rows,
    }
    write_text(json.dumps(record, indent=2) + "\n", folder / FILE)
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
        ValueError: it was evaluated with metrics, or an engine, of another version.
    """
    path = folder / FILE
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: run {folder.name!r} has not been evaluated, "
            "run `python training/eval.py --config` with its configuration first"
        )
    record = stored_in(path)
    if record.get("format") != FORMAT:
        raise ValueError(
            f"{path} is of format {record.get('format')}, expected {FORMAT}: answers or metrics are computed otherwise "
            "now, run `python training/eval.py --config` with its configuration again"
        )
    return record


def stored_in(path: Path) -> dict[str, Any]:
    """The record in a file, of whatever version, weights and use, see is_of."""
    return json.loads(path.read_text(encoding="utf-8"))


def _rounded(value: float | None) -> float | None:
    return round(value, DIGITS) if isinstance(value, float) else value
