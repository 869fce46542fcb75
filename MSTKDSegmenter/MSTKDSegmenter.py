"""Slicer module: whole tumour, tumour core and enhancing tumour from any subset of FLAIR, T1, T1ce and T2."""

# No `from __future__ import annotations` here: parameterNodeWrapper reads the annotations of its class as objects.
import importlib.metadata
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Callable, Optional, Union

import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

RESOURCES = Path(__file__).parent / "Resources"
REPORT_ATTRIBUTE = "MSTKDSegmenter.report"
"""Attribute of the segmentation node that holds the report as JSON."""


class MSTKDSegmenter(ScriptedLoadableModule):
    """What Slicer lists in its module menu."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        self.parent.title = _("MSTKD Segmenter")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = []
        self.parent.contributors = ["MSTKDSegmenter developers"]
        self.parent.helpText = _(
            "Segments whole tumour, tumour core and enhancing tumour of a glioma from any subset of the MRI sequences "
            "FLAIR, T1, T1ce (with contrast agent) and T2. Choose the sequences that you have and leave the others "
            "empty. For research, not for clinical decisions."
        )
        self.parent.acknowledgementText = _(
            "The network follows MST-KDNet (multi-scale transformer knowledge distillation). It was trained on studies "
            "of the BraTS challenges; please cite them (Menze 2015, Bakas 2017, Baid 2021)."
        )
        slicer.app.connect("startupCompleted()", loadTerminology)


def loadTerminology() -> None:
    """Make the names and colours of the three regions known to Slicer's terminology selector."""
    slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(RESOURCES / "MSTKDSegmenter.term.json"))


@parameterNodeWrapper
class MSTKDSegmenterParameterNode:
    """What the panel remembers in the scene. None is a sequence that is missing."""

    volumeFLAIR: vtkMRMLScalarVolumeNode
    volumeT1: vtkMRMLScalarVolumeNode
    volumeT1ce: vtkMRMLScalarVolumeNode
    volumeT2: vtkMRMLScalarVolumeNode
    device: Annotated[str, Choice(["auto", "cuda", "mps", "cpu"])] = "auto"


class MSTKDSegmenterWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: four volume selectors, device, Apply, Cancel, progress."""

    def __init__(self, parent: Any = None) -> None:
        self.logic: Optional[MSTKDSegmenterLogic] = None
        self._parameterNode: Any = None
        self._parameterNodeGuiTag: Any = None
        self._run: Optional[Run] = None
        self._timer: Any = None
        # last: without a parent, the base class calls setup()
        super().__init__(parent)

    def setup(self) -> None:
        """Called once, when the panel is opened for the first time."""
        import qt  # only here: the logic works without

        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MSTKDSegmenter.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MSTKDSegmenterLogic()
        self._timer = qt.QTimer()
        self._timer.setInterval(200)
        self._timer.timeout.connect(self._onTimer)
        self.ui.applyButton.clicked.connect(self.onApply)
        self.ui.cancelButton.clicked.connect(self.onCancel)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self._onSceneEndClose)
        self._initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded."""
        self._end()
        self._setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user comes to this module."""
        self._initializeParameterNode()

    def exit(self) -> None:
        """Called each time the user leaves for another module; a run that has started goes on."""
        self._setParameterNode(None)

    def onReload(self) -> None:
        """Reload the library too, not only this file."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "MSTKDSegmenterLib"]:
            del sys.modules[name]
        super().onReload()

    def onApply(self) -> None:
        """Start the segmentation; it runs in a process of its own."""
        try:
            self._run = self.logic.start(self._volumes(), self._parameterNode.device)
        except (ValueError, RuntimeError) as error:
            self._fail(error)
            return
        self.ui.progressBar.value = 0
        self._say(_("Starting"))
        self._timer.start()
        self._update()

    def onCancel(self) -> None:
        """Ask the running segmentation to stop."""
        self._run.child.cancel()
        self._say(_("Stopping"))

    def _onTimer(self) -> None:
        running = self._run.child.running()
        for event in self._run.child.events():
            self.ui.progressBar.value = round(100 * event.fraction)
            self._say(f"{event.stage}: {event.message}")
            if event.stage == "device" and event.fraction > 0:
                self.ui.deviceLabel.text = event.message
        if not running:
            self._timer.stop()
            self._finish()

    def _finish(self) -> None:
        try:
            segmentationNode = self.logic.finish(self._run)
        except (ValueError, RuntimeError) as error:
            self._fail(error)
        else:
            segmentationNode.CreateClosedSurfaceRepresentation()
            self.ui.progressBar.value = 100
            self._say(summary(self.logic.report))
        finally:
            self._end()

    def _end(self) -> None:
        """Leave nothing running and nothing on the disk."""
        if self._run is not None:
            self._timer.stop()
            self._run.close()
            self._run = None
            self._update()

    def _fail(self, error: Exception) -> None:
        from MSTKDSegmenterLib.engine.errors import Cancelled

        self.ui.progressBar.value = 0
        self._say(str(error))
        if not isinstance(error, Cancelled):
            slicer.util.errorDisplay(str(error), windowTitle=_("Segmentation failed"))

    def _say(self, text: str) -> None:
        self.ui.statusLabel.text = text

    def _volumes(self) -> dict[str, Any]:
        """The chosen volumes by sequence."""
        if self._parameterNode is None:
            return {}
        from MSTKDSegmenterLib.engine.sequences import SEQUENCES

        chosen = {sequence: getattr(self._parameterNode, "volume" + sequence) for sequence in SEQUENCES}
        return {sequence: node for sequence, node in chosen.items() if node is not None}

    def _update(self, caller: Any = None, event: Any = None) -> None:
        volumes = self._volumes()
        self.ui.applyButton.enabled = bool(volumes) and self._run is None
        self.ui.cancelButton.enabled = self._run is not None
        if volumes:
            self.ui.applyButton.toolTip = _("Segment from {sequences}").format(sequences="+".join(volumes))
        else:
            self.ui.applyButton.toolTip = _("Choose at least one sequence")

    def _initializeParameterNode(self) -> None:
        self._setParameterNode(self.logic.getParameterNode())

    def _setParameterNode(self, parameterNode: Any) -> None:
        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._update)
            self._update()

    def _onSceneStartClose(self, caller: Any, event: Any) -> None:
        self._end()
        self._setParameterNode(None)

    def _onSceneEndClose(self, caller: Any, event: Any) -> None:
        if self.parent.isEntered:
            self._initializeParameterNode()


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
        self.report: Optional[dict[str, Any]] = None
        """The report of the last segmentation that finished; also on its node, see REPORT_ATTRIBUTE."""

    def getParameterNode(self) -> Any:
        return MSTKDSegmenterParameterNode(super().getParameterNode())

    def segment(
        self,
        volumes: Mapping[str, Any],
        device: str = "auto",
        model: Optional[Union[str, os.PathLike]] = None,
        progress: Optional[Callable[[Any], None]] = None,
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
        model: Optional[Union[str, os.PathLike]] = None,
        same_patient: bool = False,
    ) -> Run:
        """Start a segmentation and return at once; see ``segment``. The caller closes the run."""
        import SimpleITK as sitk
        from MSTKDSegmenterLib.child import ChildJob
        from MSTKDSegmenterLib.engine.errors import UnusableInput
        from MSTKDSegmenterLib.engine.geometry import Grid
        from MSTKDSegmenterLib.engine.sequences import SEQUENCES
        from MSTKDSegmenterLib.scene.volumes import image_from_volume

        if not volumes or not set(volumes) <= set(SEQUENCES) or None in volumes.values():
            given = ", ".join(f"{sequence}: {node and node.GetName()}" for sequence, node in volumes.items()) or "none"
            raise UnusableInput(
                f"The volumes given are {given}. Expected a volume node for one or more of {', '.join(SEQUENCES)}."
            )
        missing = self.missingPackages()
        if missing:
            raise RuntimeError(_howToInstall(missing))
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
        from MSTKDSegmenterLib.engine.regions import regions_of
        from MSTKDSegmenterLib.scene.segmentation import add_segmentation

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

    @staticmethod
    def missingPackages() -> list[str]:
        """The lines of requirements.txt that are not fulfilled. Nothing is imported for it, and nothing installed."""
        from packaging.requirements import Requirement

        missing = []
        for line in (RESOURCES / "requirements.txt").read_text(encoding="utf-8").splitlines():
            text = line.partition("#")[0].strip()
            if not text:
                continue
            requirement = Requirement(text)
            try:
                version = importlib.metadata.version(requirement.name)
            except importlib.metadata.PackageNotFoundError:
                missing.append(text)
                continue
            # a half-deleted installation has no version
            if not version or not requirement.specifier.contains(version, prereleases=True):
                missing.append(text)
        return missing


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


def _howToInstall(missing: list[str]) -> str:
    torch = [text for text in missing if text.startswith("torch")]
    others = [text for text in missing if text not in torch]
    lines = [_("Not installed yet: {packages}.").format(packages=", ".join(missing))]
    if torch:
        lines.append(
            _(
                "Install the extension PyTorch (menu View, Extensions Manager), restart Slicer, open the module "
                "PyTorch Util and press Install PyTorch."
            )
        )
    if others:
        lines.append(
            _("Then run in the Python console: {command}").format(command=f"slicer.util.pip_install({others!r})")
        )
    return "\n".join(lines)


class MSTKDSegmenterTest(ScriptedLoadableModuleTest):
    """Runs the real logic with the model that ships, on a small made-up study."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = MSTKDSegmenterLogic()

    def test_oneSequenceGivesThreeSegments(self) -> None:
        missing = self.logic.missingPackages()
        if missing:
            self.skipTest(_howToInstall(missing))
        events = []
        flair = madeUpVolume(slicer.mrmlScene, "FLAIR")
        segmentationNode = self.logic.segment({"FLAIR": flair}, device="cpu", progress=events.append)
        self.assertEqual(tuple(segmentationNode.GetSegmentation().GetSegmentIDs()), ("WT", "TC", "ET"))
        self.assertEqual(segmentationNode.GetNodeReference("referenceImageGeometryRef"), flair)
        self.assertEqual(json.loads(segmentationNode.GetAttribute(REPORT_ATTRIBUTE))["subset"], "FLAIR")
        self.assertEqual(events[-1].fraction, 1.0)

    def test_unusableInputSaysWhatToDo(self) -> None:
        with self.assertRaisesRegex(ValueError, "Expected a volume node for one or more of FLAIR"):
            self.logic.segment({})
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        with self.assertRaisesRegex(ValueError, "'empty' holds no voxels"):
            self.logic.segment({"T2": empty})


def madeUpVolume(scene: Any, name: str) -> Any:
    """A skull-stripped head of ellipsoids with a bright lesion, 48 x 48 x 40 voxels of 4 mm."""
    import numpy as np
    from MSTKDSegmenterLib.engine.geometry import Grid
    from MSTKDSegmenterLib.scene.volumes import add_volume

    z, y, x = (index - (length - 1) / 2 for index, length in zip(np.ogrid[:40, :48, :48], (40, 48, 48)))
    rng = np.random.default_rng(7)
    values = np.zeros((40, 48, 48), dtype=np.float32)
    brain = (x / 17) ** 2 + (y / 21) ** 2 + (z / 16) ** 2 < 1
    values[brain] = rng.normal(100, 10, int(brain.sum()))
    values[(x - 7) ** 2 + (y - 5) ** 2 + z**2 < 5**2] += 80
    grid = Grid((48, 48, 40), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    return add_volume(scene, grid.image(values), name)
