"""The whole path, study in and region masks out: the one function that command, worker and console call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from .calibration import AS_SAID, Curve, calibrated
from .device import choose_device
from .geometry import Grid
from .harmonise import harmonise, to_reference
from .inference import predict
from .package import ModelPackage
from .progress import Job, Progress
from .regions import REGIONS, exclusive_labels, masks, region_probabilities
from .report import build_report
from .study import Study

Keep = Callable[[str, sitk.Image], None]
"""Takes a region (WT, TC or ET) and its probability, float32 from 0 to 1 on the reference's native grid."""


@dataclass
class Result:
    """Masks on the native grid of the reference sequence, and the record of how they came about."""

    masks: dict[str, np.ndarray]  # WT, TC, ET -> bool (z, y, x), nested
    labels: np.ndarray  # uint8 (z, y, x), exclusive: NCR 1, ED 2, ET 3
    reference_grid: Grid
    report: dict[str, Any]


def segment(
    study: Study,
    package: ModelPackage,
    device: str = "auto",
    progress: Progress | None = None,
    cancelled: Callable[[], bool] | None = None,
    keep: Keep | None = None,
) -> Result:
    """Segment a study of any subset of the four sequences.

    Args:
        study: from study_from_files, study_from_folder or study_from_images.
        package: a model package of kind "tumour".
        device: "auto", "cuda", "mps" or "cpu".
        progress: called with an Event now and then, from this thread.
        cancelled: asked often; once it answers True, Cancelled is raised within two seconds.
        keep: called with each region and its probabilities, to write or to keep them: three of them at once would take
            more memory than all the rest, so they are not part of the result. They are calibrated where the package has
            curves; masks begin where the network itself says the threshold, the report has what that is then.

    Raises:
        UnusableInput: the study cannot be segmented (no brain, sequences of different bodies, ...), or the device that
            was asked for is not there.
        TorchError: PyTorch is not installed or does not work.
        Cancelled: on request.
    """
    job = Job(progress, cancelled)
    seconds: dict[str, float] = {}
    with _timed(seconds, "device"):
        job.report("device", 0.0, "looking for a device")
        chosen = choose_device(device)
        job.report("device", 0.05, f"{chosen.name}: {chosen.reason}")
    with _timed(seconds, "load model"):
        job.report("load model", 0.1, f"{package.name} {package.version}")
        network = package.network()
    with _timed(seconds, "harmonise"):
        harmonised = harmonise(study, package.spacing, network.multiple, job.part(0.15, 0.55))
    with _timed(seconds, "predict"):
        prediction = predict(
            network, harmonised.channels, harmonised.present, chosen, job.part(0.55, 0.85),
            tile=package.tile, mirror=package.mirror, temperature=package.temperature(study.subset),
        )  # fmt: skip
    with _timed(seconds, "back to the reference"):
        job.report("back to the reference", 0.85, f"on the grid of {harmonised.reference}")
        native = to_reference(region_probabilities(prediction.probabilities), harmonised)
        curves = {region: package.calibration(region, study.subset) or AS_SAID for region in REGIONS}
        regions = masks(_kept(native, harmonised.reference_grid, curves, keep), package.thresholds(study.subset))
    seconds["total"] = sum(seconds.values())
    report = build_report(study, package, harmonised, prediction, regions, seconds)
    job.report("done", 1.0, "segmented")
    return Result(regions, exclusive_labels(regions), harmonised.reference_grid, report)


def _kept(
    native: Iterator[np.ndarray], grid: Grid, curves: Mapping[str, Curve], keep: Keep | None
) -> Iterator[np.ndarray]:
    """The network's own probabilities as they come, the calibrated ones to `keep`."""
    outer: np.ndarray | None = None
    for region, probability in zip(REGIONS, native):
        if keep is not None:
            outer = calibrated(probability, curves[region], outer)
            keep(region, grid.image(outer))
        yield probability


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start
