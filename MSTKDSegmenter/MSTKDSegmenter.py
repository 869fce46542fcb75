"""Slicer module: whole tumour, tumour core and enhancing tumour from any subset of FLAIR, T1, T1ce and T2."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import slicer
import vtk
from MSTKDSegmenterLib.logic import MSTKDSegmenterLogic, Run
from MSTKDSegmenterLib.self_test import SelfTest
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
            "Segments whole tumour (WT), tumour core (TC) and enhancing tumour (ET) of a glioma from any subset of the "
            "MRI sequences FLAIR, T1, T1ce (with contrast agent) and T2, and says beforehand how reliable each is. "
            "Volumes are recognised when they are loaded. Leave a sequence that you do not have at 'missing', then "
            "press Apply. For research, not for clinical decisions."
        )
        self.parent.acknowledgementText = _(
            "The network follows MST-KDNet: S. Zhu et al., Bridging the Gap in Missing Modalities: Leveraging "
            "Knowledge Distillation and Style Matching for Brain Tumor Segmentation, MICCAI 2025, arXiv:2507.22626. It "
            "was trained on studies of the BraTS challenges. Please cite it, and for BraTS: Menze et al. 2015, "
            "doi:10.1109/TMI.2014.2377694; Bakas et al. 2017, doi:10.1038/sdata.2017.117; Baid et al. 2021, "
            "arXiv:2107.02314. The report of a result names the model that was used and its citations."
        )
        slicer.app.connect("startupCompleted()", registerSampleData)
        slicer.app.connect("startupCompleted()", loadTerminology)


def registerSampleData() -> None:
    """Offer studies to try the module with, in the module Sample Data."""
    from MSTKDSegmenterLib.panel import sample_data

    sample_data.register()


def loadTerminology() -> None:
    """Make the names and colours of the three regions known to Slicer's terminology selector."""
    slicer.modules.terminologies.logic().LoadTerminologyFromFile(str(RESOURCES / "MSTKDSegmenter.term.json"))


class MSTKDSegmenterWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: connects its pieces (MSTKDSegmenterLib/panel) with the parameter node, the scene and the logic."""

    def __init__(self, parent: Any = None) -> None:
        self.logic: MSTKDSegmenterLogic | None = None
        self._parameterNode: Any = None
        self._parameterNodeGuiTag: Any = None
        self._choices: Any = None
        self._run: Run | None = None
        self._entered = False
        self._replaced = False
        self._putBack: Any = None
        # last: without a parent, the base class calls setup()
        super().__init__(parent)

    def setup(self) -> None:
        """Called once, when the panel is opened for the first time."""
        import qt  # only here: the logic works without
        from MSTKDSegmenterLib.panel.card import Card
        from MSTKDSegmenterLib.panel.inputs import Inputs
        from MSTKDSegmenterLib.panel.messages import Messages
        from MSTKDSegmenterLib.panel.results import Results
        from MSTKDSegmenterLib.panel.running import Running

        super().setup()
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/MSTKDSegmenter.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = MSTKDSegmenterLogic()
        self._messages = Messages(self.ui)
        self._inputs, self._card, self._running = Inputs(self.ui), Card(self.ui), Running(self.ui)
        self._results = Results(self.ui, self._messages.fail)
        # volumes come several at a time, and get their voxels and names only after they were added
        self._proposing = qt.QTimer()
        self._proposing.setSingleShot(True)
        self._proposing.setInterval(100)
        self._proposing.timeout.connect(self._propose)
        self.ui.recogniseButton.clicked.connect(self.onRecognise)
        self.ui.installButton.clicked.connect(self.onInstall)
        self.ui.applyButton.clicked.connect(self.onApply)
        self.ui.cancelButton.clicked.connect(self.onCancel)
        # an empty line counts as invalid and says nothing of its path, only that it is invalid now
        self.ui.modelFolder.currentPathChanged.connect(self._onModelFolder)
        self.ui.modelFolder.validInputChanged.connect(self._onModelFolder)
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self._onSceneStartClose)
        self.addObserver(scene, scene.StartImportEvent, self._onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self._onSceneReplaced)
        self.addObserver(scene, scene.EndCloseEvent, self._onSceneEndClose)
        self.addObserver(scene, scene.NodeAddedEvent, self._onNodeAdded)
        # before the selectors, which move on to the next volume when theirs is removed
        self.addObserver(scene, scene.NodeAboutToBeRemovedEvent, self._onNodeAboutToBeRemoved, priority=10.0)
        self._initializeParameterNode()
        self._results.accept()
        self._messages.show_packages()
        if getattr(self.parent, "isEntered", True):  # reloaded while it is open, or in a window of its own
            self.enter()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded."""
        self._proposing.stop()
        if self._run is not None:
            self._run.close()
            self._end()
        self._setParameterNode(None)
        self._results.cleanup()
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user comes to this module."""
        self._entered = True
        self._messages.show_packages()
        self._propose()

    def exit(self) -> None:
        """Called each time the user leaves for another module; a run that has started goes on, and its progress is
        still shown: the parameter node stays connected."""
        self._entered = False

    def onReload(self) -> None:
        """Reload the library too, not only this file."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "MSTKDSegmenterLib"]:
            del sys.modules[name]
        super().onReload()

    def onRecognise(self) -> None:
        """Drop the choices made by hand."""
        self._choices.forget()
        self._propose()

    def onInstall(self) -> bool:
        """Install what is missing, after asking; whether everything is there."""
        from MSTKDSegmenterLib.panel import installing

        try:
            return installing.ensure()
        except RuntimeError as error:
            self._messages.fail(error)
            return False
        finally:
            self._messages.show_packages()

    def onApply(self) -> None:
        """Start the segmentation; it runs in a process of its own."""
        self._messages.clear()
        if not self.onInstall():
            return
        parameters = self._parameterNode
        try:
            self._run = self.logic.segmentInBackground(
                self._choices.volumes(),
                onProgress=self._running.show,
                onFinished=self._onFinished,
                onFailed=self._onFailed,
                device=parameters.device,
                model=parameters.modelFolder or None,
                same_patient=parameters.samePatient,
                exclusive=parameters.exclusive,
                probabilities=parameters.probabilities,
            )
        except (ValueError, RuntimeError) as error:
            self._messages.fail(error)
            return
        self._running.start()
        self._updateApply()

    def onCancel(self) -> None:
        """Ask the running segmentation to stop."""
        self._run.cancel()
        self._running.stopping()

    def _onFinished(self, result: Any) -> None:
        self._end()
        self._parameterNode.result = result.segmentation
        self.logic.result = None  # it would keep the voxels when the scene is closed

    def _onFailed(self, error: Exception) -> None:
        self._end()
        self._messages.fail(error)

    def _end(self) -> None:
        self._run = None
        self._running.end()
        self._updateApply()

    def _propose(self) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return
        if self._replaced:
            self._initializeParameterNode()
            # not before now: references to nodes lead to them only some time after the scene says that it is loaded
            self._parameterNode.Modified()
            if self._putBack is not None:
                self._putBack()
            else:
                self._choices.accept()
            self._results.accept()
            self._replaced, self._putBack = False, None
            self._onParametersModified()
        if self._entered:
            self._inputs.forget()
            with slicer.util.WaitCursor():  # names that tell nothing leave it to the voxels
                self._choices.propose()
            self._update()

    def _update(self) -> None:
        self._choices.confine_vow()
        self._inputs.show(self._choices, self._parameterNode.samePatient)
        self._card.show(self._choices.volumes(), self._parameterNode.modelFolder)
        self._results.show(self._parameterNode.result)
        self._updateApply()

    def _updateApply(self) -> None:
        from MSTKDSegmenterLib.panel.marks import paragraphs

        hindrance = self._hindrance()
        self.ui.applyButton.enabled = not hindrance
        ready = _("Segment from {sequences}").format(sequences="+".join(self._choices.volumes()))
        self.ui.applyButton.toolTip = paragraphs([hindrance or ready])

    def _hindrance(self) -> str:
        """Why Apply cannot be pressed, with the remedy; empty if it can."""
        if self._run is not None:
            return _("A segmentation is running. Wait until it is done, or cancel it.")
        if not self._choices.volumes():
            return _("Choose at least one sequence.")
        return self._inputs.blocked or self._card.problem

    def _initializeParameterNode(self) -> None:
        parameterNode = self.logic.getParameterNode()
        if self._parameterNode is None or parameterNode.parameterNode is not self._parameterNode.parameterNode:
            self._setParameterNode(parameterNode)

    def _setParameterNode(self, parameterNode: Any) -> None:
        from MSTKDSegmenterLib.panel.choices import Choices
        from MSTKDSegmenterLib.panel.running import name_devices

        if self._parameterNode is not None:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
        self._parameterNode = parameterNode
        if parameterNode is not None:
            self._choices = Choices(parameterNode)
            # not connectGui, which gives no tag to disconnect by
            self._parameterNodeGuiTag = parameterNode.connectParametersToGui(self._connectedWidgets())
            name_devices(self.ui.deviceSelector)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._onParametersModified)
            self._onParametersModified()

    def _connectedWidgets(self) -> dict[str, Any]:
        """Widgets by the name of the parameter that the .ui file says they show."""
        named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
        return {name: widget for name, widget in named.items() if name}

    def _onParametersModified(self, caller: Any = None, event: Any = None) -> None:
        if self._replaced or slicer.mrmlScene.IsBatchProcessing():
            return  # a scene is closed or loaded: nobody has chosen anything
        if self.ui.modelFolder.currentPath != self._parameterNode.modelFolder:  # the same again would move the cursor
            self.ui.modelFolder.currentPath = self._parameterNode.modelFolder
        if self._choices.notice():
            self._choices.propose()
        self._update()

    def _onModelFolder(self, said: Any) -> None:
        if self._parameterNode is not None:
            self._parameterNode.modelFolder = self.ui.modelFolder.currentPath

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAdded(self, caller: Any, event: Any, node: Any) -> None:
        if self._entered and (node.IsA("vtkMRMLScalarVolumeNode") or node.IsA("vtkMRMLSegmentationNode")):
            self._proposing.start()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onNodeAboutToBeRemoved(self, caller: Any, event: Any, node: Any) -> None:
        if slicer.mrmlScene.IsBatchProcessing():
            return
        if node.IsA("vtkMRMLScalarVolumeNode"):
            self._choices.release(node)
            self._proposing.start()
        elif node.IsA("vtkMRMLSegmentationNode"):
            self._proposing.start()

    def _onSceneStartClose(self, caller: Any, event: Any) -> None:
        if self._run is not None:
            self._running.stopping()  # the run has noticed by itself

    def _onSceneStartImport(self, caller: Any, event: Any) -> None:
        if not self._replaced:  # one after the other may be added before the panel looks again
            self._putBack = self._choices.kept()
        self._onSceneReplaced(caller, event)

    def _onSceneEndClose(self, caller: Any, event: Any) -> None:
        self._putBack = None
        self._onSceneReplaced(caller, event)

    def _onSceneReplaced(self, caller: Any, event: Any) -> None:
        self._replaced = True
        self._messages.clear()
        self._proposing.start()


class MSTKDSegmenterTest(SelfTest, ScriptedLoadableModuleTest):
    """What Slicer runs as the tests of this module, see MSTKDSegmenterLib/self_test.py."""

    def makeLogic(self) -> MSTKDSegmenterLogic:
        return MSTKDSegmenterLogic()
