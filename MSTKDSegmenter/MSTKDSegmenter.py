"""Slicer module: whole tumour, tumour core and enhancing tumour from any subset of FLAIR, T1, T1ce and T2."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import slicer
import vtk
from MSTKDSegmenterLib import dependencies
from MSTKDSegmenterLib.logic import REPORT_ATTRIBUTE, MSTKDSegmenterLogic, Run, summary
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

RESOURCES = Path(__file__).parent / "Resources"


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


class MSTKDSegmenterWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: four volume selectors, device, Apply, Cancel, progress."""

    def __init__(self, parent: Any = None) -> None:
        self.logic: MSTKDSegmenterLogic | None = None
        self._parameterNode: Any = None
        self._parameterNodeGuiTag: Any = None
        self._run: Run | None = None
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


class MSTKDSegmenterTest(ScriptedLoadableModuleTest):
    """Runs the real logic with the model that ships, on a small made-up study."""

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = MSTKDSegmenterLogic()

    def test_oneSequenceGivesThreeSegments(self) -> None:
        problems = dependencies.problems()
        if problems:
            self.skipTest(dependencies.advice(problems))
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
