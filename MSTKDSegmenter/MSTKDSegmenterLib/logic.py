"""The computation without the panel: volume nodes go to a child process, and come back as a segmentation node."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

import slicer
from slicer.i18n import tr as _
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from . import dependencies

REPORT_ATTRIBUTE = "MSTKDSegmenter.report"
"""Attribute of the segmentation node that holds the report as JSON."""


class Run:
    """A segmentation that has been started: the child process, and what its result belongs to."""

    def __init__(self, child: Any, folder: Path, volumes: Mapping[str, Any], grids: Mapping[str, Any]) -> None:
        self.child, self.folder, self.volumes, self.grids = child, folder, volumes, grids

    def close(self) -> None:
        """End the process, if it still runs, and remove the files that went to and came from it."""
        self.child.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class MSTKDSegmenterLogic(ScriptedLoadableModuleLogic):
    """The computation without the panel; also for the Python console and scripts.

    Example::

        logic = MSTKDSegmenterLogic()
        segmentationNode = logic.segment({"FLAIR": flairNode, "T1ce": contrastNode})
        print(logic.report["volumes_ml"])
    """

    def __init__(self) -> None:
        super().__init__()
        self.report: dict[str, Any] | None = None
        """The report of the last segmentation that finished; also on its node, see REPORT_ATTRIBUTE."""

    def getParameterNode(self) -> Any:
        from .parameters import MSTKDSegmenterParameterNode

        return MSTKDSegmenterParameterNode(super().getParameterNode())

    def segment(
        self,
        volumes: Mapping[str, Any],
        device: str = "auto",
        model: str | os.PathLike[str] | None = None,
        progress: Callable[[Any], None] | None = None,
        same_patient: bool = False,
    ) -> Any:
        """Segment and return the new vtkMRMLSegmentationNode with the overlapping segments WT, TC and ET.

        Args:
            volumes: scalar volume nodes by sequence: any subset of FLAIR, T1, T1ce and T2.
            device: "auto", "cuda", "mps" or "cpu".
            model: folder of a model package; None for the one that comes with the extension.
            progress: called now and then with an event (stage, fraction 0 to 1, message).
            same_patient: the volumes are of one patient although their anatomy disagrees.

        Raises:
            ValueError: the input cannot be used; the message says why and what to do.
            RuntimeError: the computation failed, or something is not installed.
        """
        run = self.start(volumes, device, model, same_patient)
        try:
            while True:
                running = run.child.running()
                for event in run.child.events():
                    if progress is not None:
                        progress(event)
                if not running:
                    return self.finish(run)
                time.sleep(0.05)
        finally:
            run.close()

    def start(
        self,
        volumes: Mapping[str, Any],
        device: str = "auto",
        model: str | os.PathLike[str] | None = None,
        same_patient: bool = False,
    ) -> Run:
        """Start a segmentation and return at once; see ``segment``. The caller closes the run."""
        import SimpleITK as sitk

        from .child import ChildJob
        from .engine.errors import UnusableInput
        from .engine.geometry import Grid
        from .engine.sequences import SEQUENCES
        from .scene.volumes import image_from_volume

        if not volumes or not set(volumes) <= set(SEQUENCES) or None in volumes.values():
            given = ", ".join(f"{sequence}: {node and node.GetName()}" for sequence, node in volumes.items()) or "none"
            raise UnusableInput(
                f"The volumes given are {given}. Expected a volume node for one or more of {', '.join(SEQUENCES)}."
            )
        problems = dependencies.problems()
        if problems:
            raise RuntimeError(dependencies.advice(problems))
        folder = Path(tempfile.mkdtemp(prefix="mstkd-"))
        try:
            grids = {}
            for sequence, node in volumes.items():
                image = image_from_volume(node)
                grids[sequence] = Grid.of(image)
                sitk.WriteImage(image, str(folder / f"{sequence}.nrrd"))
            job = {
                "sequences": {sequence: str(folder / f"{sequence}.nrrd") for sequence in volumes},
                "names": {sequence: node.GetName() for sequence, node in volumes.items()},
                "model": None if model is None else str(model),
                "device": device,
                "same_patient": same_patient,
                "output": str(folder / "result"),
            }
            return Run(ChildJob(_python(), job), folder, dict(volumes), grids)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise RuntimeError(f"The segmentation could not be started ({error}). Is the disk full?") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def finish(self, run: Run) -> Any:
        """The segmentation node of a run whose process has ended; raises as ``segment`` does."""
        import SimpleITK as sitk

        from .engine.regions import regions_of
        from .scene.segmentation import add_segmentation

        report, labels = run.child.result()
        sequence = report["harmonising"]["reference"]
        reference = run.volumes[sequence]
        masks = regions_of(sitk.GetArrayFromImage(sitk.ReadImage(str(labels))), "brats2023")
        algorithm = f"MSTKDSegmenter {report['model']['name']} {report['model']['version']}"
        name = _("{volume} tumor").format(volume=reference.GetName())
        scene = reference.GetScene()  # None: the volume was removed meanwhile, which is no reason to lose the result
        if scene is None:
            scene, reference = slicer.mrmlScene, None
        node = add_segmentation(scene, masks, run.grids[sequence], name, reference, algorithm)
        node.SetAttribute(REPORT_ATTRIBUTE, json.dumps(report))
        self.report = report
        logging.info("MSTKDSegmenter: %s", summary(report).replace("\n", "; "))
        return node


def summary(report: Mapping[str, Any]) -> str:
    """A few lines about a result: what it was made from, the volumes, and everything that should be looked at."""
    volumes = ", ".join(f"{region} {volume:.1f} ml" for region, volume in report["volumes_ml"].items())
    return "\n".join([f"{report['subset']}: {volumes}", *report["findings"]])


def _python() -> str:
    """The Python that runs the child process: inside Slicer its launcher, which sets up Slicer's libraries."""
    if not hasattr(slicer, "app"):
        return sys.executable
    launcher = shutil.which("PythonSlicer")
    if launcher is None:
        raise RuntimeError("PythonSlicer was not found on the PATH. It is part of Slicer: install Slicer again.")
    return launcher
