"""The record of one segmentation, written as report.json: what went in, what was done, what came out, what to check."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from .. import __version__
from .calibration import calibrated_number
from .geometry import Grid
from .harmonise import Harmonised
from .inference import Prediction
from .package import ModelPackage
from .reliability import findings, outlook, unlike_measured, volumes
from .sequences import subset_name
from .study import Study

FORMAT = 1


def build_report(
    study: Study,
    package: ModelPackage,
    harmonised: Harmonised,
    prediction: Prediction,
    masks: Mapping[str, np.ndarray],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Everything a reader needs to judge or repeat the run, as plain JSON values. Lengths in mm, LPS; volumes in ml."""
    import torch  # only to name its version; by now the network has run

    quality = package.quality.table
    expected = outlook(quality, study.subset)
    thresholds = package.thresholds(study.subset)
    record = harmonised.record
    warnings = findings(masks, harmonised.reference_grid, study.subset, quality, record["brain_ml"])
    if quality:
        warnings += unlike_measured(
            record["skull_stripped"].values(),
            max(max(image.image.GetSpacing()) for image in study.images.values()),
            any(found["registered"] for found in record["registration"].values()),
        )
    if quality and not package.box:
        warnings.append(
            f"{package.name} {package.version} was measured by an earlier version, which showed it the air around the "
            "head too: expect another quality here, or export and measure the model again."
        )
    return {
        "format": FORMAT,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "subset": subset_name(study.subset),
        "inputs": {
            name: {"source": image.source, "recognised_by": image.recognised_by, "grid": Grid.of(image.image).to_dict()}
            for name, image in study.images.items()
        },
        "harmonising": {**record, "working_grid": harmonised.grid.to_dict()},
        "model": {
            "name": package.name,
            "version": package.version,
            "sha256": package.sha256,
            "licence": package.licence,
            "citation": list(package.citation),
            "measured_on": len(package.quality.measured_on),
            "thresholds": thresholds,
            "thresholds_calibrated": {
                region: round(calibrated_number(value, curve), 4)
                for region, value in thresholds.items()
                if (curve := package.calibration(region, study.subset)) is not None
            },
            "temperature": package.temperature(study.subset),
            "mirror": package.mirror,
        },
        "device": asdict(prediction.device),
        "box": list(prediction.box),
        "tile": list(prediction.tile),
        "gave_way": prediction.findings,
        "expected": {region: asdict(value) for region, value in expected.regions.items()},
        "unsupported": list(expected.unsupported),
        "volumes_ml": {name: round(value, 3) for name, value in volumes(masks, harmonised.reference_grid).items()},
        "findings": [*study.notes, *harmonised.findings, *prediction.findings, *warnings],
        "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        "software": {
            "MSTKDSegmenter": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "SimpleITK": sitk.Version.VersionString(),
            "numpy": np.__version__,
        },
        "intended_use": package.intended_use,
    }


def write_report(report: Mapping[str, Any], path: Path) -> None:
    """Write as UTF-8 JSON."""
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
