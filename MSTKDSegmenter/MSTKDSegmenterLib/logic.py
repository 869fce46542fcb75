"""The computation without the panel: volume nodes go to a child process, and come back as new nodes."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import slicer
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleLogic

from . import dependencies
from .run import Run
from .scene.attributes import REPORT_ATTRIBUTE, no_input

if TYPE_CHECKING:
    from .engine.progress import Event
    from .scene.results import Result

__all__ = ["REPORT_ATTRIBUTE", "MSTKDSegmenterLogic", "Run", "summary"]

POLL_MS = 200
"""How often a run in the background is looked after."""

_background: set[Any] = set()
"""The timers of runs in the background: without a name that holds it, Python would take a timer away."""


class MSTKDSegmenterLogic(ScriptedLoadableModuleLogic):
    """The computation without the panel; also for the Python console and scripts.

    Example::

        logic = MSTKDSegmenterLogic()
        segmentationNode = logic.segment({"FLAIR": flairNode, "T1ce": contrastNode})
        print(logic.report["volumes_ml"])

    Without waiting, for a panel or a script that goes on meanwhile::

        run = logic.segmentInBackground(
            {"FLAIR": flairNode},
            onProgress=lambda event: print(f"{event.fraction:.0%} {event.message}"),
            onFinished=lambda result: print(result.segmentation.GetName(), result.report["volumes_ml"]),
            onFailed=lambda error: print(error),
        )
        run.cancel()  # if it should stop; onFailed is then called with the reason
    """

    def __init__(self) -> None:
        super().__init__()
        self.result: Result | None = None
        """All nodes and the report of the last segmentation that finished."""

    @property
    def report(self) -> dict[str, Any] | None:
        """The report of the last segmentation that finished; also on its node, see REPORT_ATTRIBUTE."""
        return None if self.result is None else self.result.report

    def getParameterNode(self) -> Any:
        from .parameters import MSTKDSegmenterParameterNode

        return MSTKDSegmenterParameterNode(super().getParameterNode())

    def segment(
        self,
        volumes: Mapping[str, Any],
        device: str = "auto",
        model: str | os.PathLike[str] | None = None,
        progress: Callable[[Event], None] | None = None,
        same_patient: bool = False,
        exclusive: bool = False,
        probabilities: bool = False,
    ) -> Any:
        """Segment and return the new vtkMRMLSegmentationNode with the overlapping segments WT, TC and ET.

        It waits for the result, for seconds; all that was added is in ``result`` afterwards.

        Args:
            volumes: scalar volume nodes by sequence: any subset of FLAIR, T1, T1ce and T2.
            device: "auto", "cuda", "mps" or "cpu".
            model: folder of a model package; None for the one that comes with the extension.
            progress: called now and then with an event (stage, fraction 0 to 1, message).
            same_patient: the volumes are of one patient although their anatomy or patient IDs disagree.
            exclusive: add a segmentation with NCR, ED and ET, which do not overlap, as well.
            probabilities: add the probability of each region as a volume, 0 to 1; calibrated, if the model has a curve.

        Raises:
            ValueError: the input cannot be used; the message says why and what to do.
            RuntimeError: the computation failed, or something is not installed.
        """
        run = self.start(volumes, device, model, same_patient, exclusive, probabilities)
        try:
            while True:
                running = run.running
                for event in run.poll():
                    if progress is not None:
                        progress(event)
                if not running:
                    return self.finish(run).segmentation
                time.sleep(0.05)
        finally:
            run.close()

    def segmentInBackground(
        self,
        volumes: Mapping[str, Any],
        onProgress: Callable[[Event], None] | None = None,
        onFinished: Callable[[Result], None] | None = None,
        onFailed: Callable[[Exception], None] | None = None,
        **options: Any,
    ) -> Run:
        """Start a segmentation and return at once; the callbacks come later, on the application's main thread.

        Needs the application's event loop, as every Slicer has, also one without a main window.

        Args:
            volumes: see ``segment``.
            onProgress: called now and then with an event (stage, fraction 0 to 1, message).
            onFinished: called once with the result, after it was added to the scene.
            onFailed: called once instead, with what ``segment`` raises; ``engine.errors.Cancelled`` after
                ``Run.cancel`` or when the scene was closed. Without it the reason goes to the log.
            options: device, model, same_patient, exclusive and probabilities, see ``segment``.

        Returns:
            The run, to cancel it. It closes itself. Closed by the caller, it ends without any callback.

        Raises:
            ValueError, RuntimeError: it could not be started, see ``segment``.
        """
        import qt  # only here: the rest works without

        run = self.start(volumes, **options)
        timer = qt.QTimer()
        timer.setInterval(POLL_MS)

        def look() -> None:
            running = run.running
            for event in run.poll():
                if onProgress is not None:
                    onProgress(event)
            if not running:
                timer.stop()
                _background.discard(timer)
                if not run.closed:
                    self._conclude(run, onFinished, onFailed)

        timer.timeout.connect(look)
        timer.start()
        _background.add(timer)
        return run

    def start(
        self,
        volumes: Mapping[str, Any],
        device: str = "auto",
        model: str | os.PathLike[str] | None = None,
        same_patient: bool = False,
        exclusive: bool = False,
        probabilities: bool = False,
    ) -> Run:
        """Start a segmentation and return at once; see ``segment``. The caller polls, finishes and closes the run."""
        from .child import ChildJob
        from .engine.errors import UnusableInput
        from .engine.geometry import Grid
        from .engine.writing import write_image
        from .scene.concerns import BLOCKS, hearsay
        from .scene.provenance import tag_value
        from .scene.recognition import recognise_volume
        from .scene.volumes import frame_of, image_from_volume

        _check(volumes)
        problems = dependencies.problems()
        if problems:
            raise RuntimeError(dependencies.advice(problems))
        doubts = hearsay(volumes, tag_value(), same_patient)
        for doubt in doubts:
            if doubt.severity == BLOCKS:
                raise UnusableInput(doubt.text)
        recognised = {sequence: recognise_volume(node, tag_value()) for sequence, node in volumes.items()}
        scene = next(iter(volumes.values())).GetScene() or slicer.mrmlScene
        folder = _temporary_folder()
        try:
            grids, frames = {}, {sequence: frame_of(node) for sequence, node in volumes.items()}
            for sequence, node in volumes.items():
                image = image_from_volume(node)
                grids[sequence] = Grid.of(image)
                write_image(image, folder / f"{sequence}.nrrd", compressed=False)
            job = {
                "sequences": {sequence: str(folder / f"{sequence}.nrrd") for sequence in volumes},
                "names": {sequence: node.GetName() for sequence, node in volumes.items()},
                "reasons": {name: seen.reason for name, seen in recognised.items() if seen.sequence == name},
                "notes": [doubt.text for doubt in doubts],
                "model": None if model is None else str(model),
                "device": device,
                "same_patient": same_patient,
                "probabilities": probabilities,
                "output": str(folder / "result"),
            }
            return Run(ChildJob(_python(), job, folder), folder, scene, dict(volumes), grids, frames, exclusive)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise RuntimeError(
                f"The segmentation could not be started ({error}). Is there room for the volumes in {folder.parent}?"
            ) from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def finish(self, run: Run) -> Result:
        """Add the result of a run whose process has ended to the scene; raises as ``segment`` does."""
        import SimpleITK as sitk

        from .engine.errors import Cancelled
        from .scene.results import add_result

        if run.scene_closed:
            raise Cancelled("The scene was closed during the segmentation; nothing was added to the new one.")
        output = run.child.result()
        reference = output.report["harmonising"]["reference"]
        self.result = add_result(
            run.scene,
            sitk.GetArrayFromImage(sitk.ReadImage(str(output.labels))),
            run.grids[reference],
            output.report,
            run.volumes,
            run.exclusive,
            {region: sitk.ReadImage(str(path)) for region, path in output.probabilities.items()},
            run.frames[reference],
        )
        logging.info("MSTKDSegmenter: %s", summary(self.result.report).replace("\n", "; "))
        return self.result

    def _conclude(
        self, run: Run, on_finished: Callable[[Result], None] | None, on_failed: Callable[[Exception], None] | None
    ) -> None:
        try:
            result = self.finish(run)
        except Exception as error:  # whatever it is: nobody else would hear of it
            if on_failed is None:
                logging.error("MSTKDSegmenter: %s", error)
            else:
                on_failed(error)
        else:
            if on_finished is not None:
                on_finished(result)
        finally:
            run.close()


def summary(report: Mapping[str, Any]) -> str:
    """A few lines about a result: what it was made from, the volumes, and everything that should be looked at."""
    volumes = ", ".join(f"{region} {volume:.1f} ml" for region, volume in report["volumes_ml"].items())
    return "\n".join([f"{report['subset']}: {volumes}", *report["findings"]])


def _check(volumes: Mapping[str, Any]) -> None:
    """Return if these are nodes that may be images, by sequence.

    Raises:
        UnusableInput: otherwise.
    """
    from .engine.errors import UnusableInput
    from .engine.sequences import SEQUENCES

    expected = f"Expected a volume node for one or more of {', '.join(SEQUENCES)}, as in {{'FLAIR': node}}."
    if not isinstance(volumes, Mapping):
        raise UnusableInput(f"The volumes given are {_told(volumes)}. {expected}")
    if not volumes or not set(volumes) <= set(SEQUENCES) or None in volumes.values():
        given = ", ".join(f"{sequence}: {_told(node)}" for sequence, node in volumes.items()) or "none"
        raise UnusableInput(f"The volumes given are {given}. {expected}")
    for sequence, node in volumes.items():
        if not getattr(node, "IsA", lambda name: False)("vtkMRMLScalarVolumeNode"):
            raise UnusableInput(
                f"What is given as {sequence} is {_told(node)}, expected a scalar volume node, as slicer.util.getNode "
                "and loadVolume give them; of a sequence of volumes take one (module Sequences)."
            )
        why = no_input(node, sequence)
        if why is not None:
            raise UnusableInput(why)


def _told(given: Any) -> str:
    if hasattr(given, "GetName"):
        return f"{given.GetName()!r} ({given.GetClassName()})"
    return repr(given)


def _temporary_folder() -> Path:
    """A new folder where Slicer keeps temporary files; the person can choose that place in its settings.

    Raises:
        RuntimeError: there is no such place.
    """
    place = Path(slicer.app.temporaryPath if hasattr(slicer, "app") else tempfile.gettempdir())
    try:
        place.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="mstkd-", dir=place))
    except OSError as error:
        raise RuntimeError(
            f"The folder for temporary files, {place}, cannot be used ({error.strerror}). Choose another one "
            "in Slicer's settings (Edit, Application Settings, General), and start Slicer again."
        ) from error


def _python() -> str:
    """The Python that runs the child process: inside Slicer its launcher, which sets up Slicer's libraries."""
    if not hasattr(slicer, "app"):
        return sys.executable
    launcher = shutil.which("PythonSlicer")
    if launcher is None:
        raise RuntimeError("PythonSlicer was not found on the PATH. It is part of Slicer: install Slicer again.")
    return launcher
