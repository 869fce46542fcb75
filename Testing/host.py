"""A stand-in for the Slicer application around real MRML, so that MSTKDSegmenter.py runs in plain Python.

slicer-core brings the scene, the nodes and their logic; PySide6 the widgets. This file and its neighbours host_widgets
and host_parameters supply only what the application itself owns: `slicer.app`, `slicer.modules`, the base classes of
scripted modules, `qt`, `ctk`, loading of .ui files. Objects of the application and of Qt answer only to names that a
real Slicer 5.12 answers to (slicer_names.json), so code that runs here does not fail there on a misspelt name.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import shlex
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable

import slicer
from host_parameters import Choice, parameter_node_wrapper
from host_widgets import WIDGETS
from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("slicer_names.json").read_text(encoding="utf-8"))
MODULE_FOLDER = Path(__file__).resolve().parents[1] / "MSTKDSegmenter"

started: list[tuple[str, Callable[[], None]]] = []
"""What was connected to signals of the application, e.g. startupCompleted()."""
errors: list[str] = []
"""What was shown in error dialogs."""
selected: list[str] = []
"""The modules that were switched to."""
opened: list[str] = []
"""The addresses that were opened with the desktop's program for them."""
answers: dict[str, str] = {}
"""What the person answers: "save as" is the file that is chosen in the next dialog ("" is Cancel)."""

main_window: Any = object()
"""None where the application runs without one; then there are no views either."""


class Views:
    """The part of the layout manager that says which views are shown."""

    layout = 3  # four-up

    def setLayout(self, layout: int) -> None:  # noqa: N802
        self.layout = layout


class SegmentEditor:
    """The editor widget of the module Segment Editor: what it was asked to edit."""

    segmentation = source = node = None

    def mrmlSegmentEditorNode(self) -> Any:  # noqa: N802
        """The real node, as the module Segment Editor makes it."""
        self.node = self.node or slicer.vtkMRMLSegmentEditorNode()
        return self.node

    def setSegmentationNode(self, node: Any) -> None:  # noqa: N802
        self.segmentation = node

    def setSourceVolumeNode(self, node: Any) -> None:  # noqa: N802
        self.source = node


views = Views()
segment_editor = SegmentEditor()


def start() -> None:
    """Turn this Python process into something that MSTKDSegmenter.py takes for Slicer. Once per process."""
    if hasattr(slicer, "app"):
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    _application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    slicer.mrmlScene = _scene()
    slicer.app = Genuine(_app(), "slicer.app")
    slicer.modules = Genuine(_modules(), "slicer.modules")
    slicer.util.loadUI = load_ui
    slicer.util.childWidgetVariables = _child_widgets
    slicer.util.errorDisplay = lambda text, windowTitle=None, parent=None, **more: errors.append(text)  # noqa: N803
    slicer.util.selectModule = selected.append
    slicer.util.WaitCursor = contextlib.nullcontext
    slicer.util.mainWindow = lambda: main_window
    slicer.util.getModuleWidget = lambda name: SimpleNamespace(editor=_editors()[name])
    _module("qt", **_qt())
    _module("ctk", **{one.__name__: one for one in WIDGETS if one.__name__.startswith("ctk")})
    _module("slicer.i18n", tr=_translate, translate=lambda context, text: text)
    _module("slicer.parameterNodeWrapper", Choice=Choice, parameterNodeWrapper=parameter_node_wrapper)
    bases = (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic)
    _module("slicer.ScriptedLoadableModule", ScriptedLoadableModuleTest=_test_base(), **{b.__name__: b for b in bases})
    _put_launcher_on_path()


def process_events(seconds: float = 0.05) -> None:
    """Let timers and signals run for a while, as the application does all the time."""
    loop = QtCore.QEventLoop()
    QtCore.QTimer.singleShot(int(1000 * seconds), loop.quit)
    loop.exec()


class Genuine:
    """An object restricted to the names that the real one has; Qt properties are attributes, as PythonQt shows them."""

    def __init__(self, content: Any, kind: str) -> None:
        object.__setattr__(self, "content", content)
        object.__setattr__(self, "kind", kind)

    def _check(self, name: str) -> bool:
        """Whether ``name`` is a Qt property; an error if the real object does not answer to it."""
        names = set(NAMES[self.kind])
        if isinstance(self.content, QtWidgets.QWidget):
            names |= set(NAMES["QWidget"])
        if name not in names:
            raise AttributeError(f"{self.kind} of Slicer 5.12 has no attribute {name!r}")
        return isinstance(self.content, QtCore.QObject) and self.content.metaObject().indexOfProperty(name) >= 0

    def __getattr__(self, name: str) -> Any:
        if self._check(name):
            return _wrapped(self.content.property(name))
        value = getattr(self.content, name)
        if isinstance(value, QtCore.SignalInstance) or not isinstance(self.content, (QtCore.QObject, QtGui.QIcon)):
            return value

        @functools.wraps(value)
        def call(*given: Any) -> Any:
            return _wrapped(value(*map(_unwrapped, given)))

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._check(name):
            raise AttributeError(f"{name} is no property of {self.kind}")
        self.content.setProperty(name, _unwrapped(value))


def _wrapped(value: Any) -> Any:
    return Genuine(value, type(value).__name__) if type(value).__name__ in NAMES else value


def _unwrapped(value: Any) -> Any:
    return value.content if isinstance(value, Genuine) else value


def load_ui(path: str) -> Genuine:
    """The widget of a .ui file, with those of its connections that hand the scene on."""
    loader = QtUiTools.QUiLoader()
    for one in WIDGETS:
        loader.registerCustomWidget(one)
    widget = loader.load(str(path))
    for connection in ElementTree.parse(path).iter("connection"):
        if connection.findtext("signal") == "mrmlSceneChanged(vtkMRMLScene*)":
            receiver = widget.findChild(QtWidgets.QWidget, connection.findtext("receiver"))
            widget.receivers_of_scene.append(receiver)
    return Genuine(widget, "qMRMLWidget")


def _editors() -> dict[str, Genuine]:
    return {"SegmentEditor": Genuine(segment_editor, "qMRMLSegmentEditorWidget")}


def _child_widgets(widget: Genuine) -> SimpleNamespace:
    children = widget.content.findChildren(QtWidgets.QWidget)
    named = {child.objectName(): child for child in children if type(child).__name__ in NAMES}
    return SimpleNamespace(**{name: Genuine(child, type(child).__name__) for name, child in named.items() if name})


def _translate(text: str) -> str:
    assert isinstance(text, str)
    return text


def _scene() -> Any:
    """A scene with what it needs to read .mrb files."""
    scene, cache, data = slicer.vtkMRMLScene(), slicer.vtkCacheManager(), slicer.vtkDataIOManager()
    cache.SetRemoteCacheDirectory(tempfile.mkdtemp(prefix="host-"))
    data.SetCacheManager(cache)
    scene.SetCacheManager(cache)
    scene.SetDataIOManager(data)
    return scene


def _app() -> SimpleNamespace:
    return SimpleNamespace(
        connect=lambda signal, slot: started.append((signal, slot)),
        layoutManager=lambda: Genuine(views, "slicer.app.layoutManager()") if main_window is not None else None,
        applicationLogic=_application_logic,
        temporaryPath=tempfile.mkdtemp(prefix="host-"),
        testingEnabled=lambda: True,
        processEvents=QtCore.QCoreApplication.processEvents,
    )


@functools.cache
def _application_logic() -> Genuine:
    logic = slicer.vtkSlicerApplicationLogic()
    logic.SetMRMLScene(slicer.mrmlScene)
    return Genuine(logic, "slicer.app.applicationLogic()")


def _modules() -> SimpleNamespace:
    logics = {
        "terminologies": slicer.vtkSlicerTerminologiesModuleLogic(),
        "tables": slicer.vtkSlicerTablesLogic(),
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic(),
    }
    logics["segmentations"].SetMRMLScene(slicer.mrmlScene)  # makes the conversions between representations known
    return SimpleNamespace(
        terminologies=SimpleNamespace(
            logic=lambda: Genuine(logics["terminologies"], "slicer.modules.terminologies.logic()")
        ),
        tables=SimpleNamespace(logic=lambda: logics["tables"]),
        segmentations=SimpleNamespace(logic=lambda: logics["segmentations"]),
    )


def _qt() -> dict[str, Any]:
    """The classes of Qt that code makes objects of; static functions as PythonQt has them."""

    def made(kind: type) -> Callable[..., Genuine]:
        return lambda *given: Genuine(kind(*map(_unwrapped, given)), kind.__name__)

    def open_url(url: Any) -> bool:
        opened.append(_unwrapped(url).toLocalFile())
        return True

    return {
        "QTimer": made(QtCore.QTimer),
        "QIcon": made(QtGui.QIcon),
        "QMenu": made(QtWidgets.QMenu),
        "QPalette": QtGui.QPalette.ColorRole,
        "QUrl": SimpleNamespace(fromLocalFile=QtCore.QUrl.fromLocalFile),
        "QDesktopServices": SimpleNamespace(openUrl=open_url),
        # the name alone, without the filter that was chosen
        "QFileDialog": SimpleNamespace(getSaveFileName=lambda *given: answers["save as"]),
    }


class ScriptedLoadableModule:
    def __init__(self, parent: Any) -> None:
        self.parent = parent


class ScriptedLoadableModuleWidget:
    def __init__(self, parent: Any = None) -> None:
        super().__init__()  # VTKObservationMixin, as in Slicer
        self.parent = parent
        self.layout = parent.layout

    def setup(self) -> None: ...

    def resourcePath(self, name: str) -> str:  # noqa: N802
        return str(MODULE_FOLDER / "Resources" / name)

    def onReload(self) -> None:  # noqa: N802
        """In Slicer's order: the new code is read before the old widget is cleaned up."""
        name = type(self).__module__
        spec = importlib.util.spec_from_file_location(name, MODULE_FOLDER / f"{name}.py")
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
        self.cleanup()
        widget = getattr(sys.modules[name], type(self).__name__)(self.parent)
        widget.setup()
        self.parent.self = lambda: widget


class ScriptedLoadableModuleLogic:
    def __init__(self, parent: Any = None) -> None:
        self.moduleName = type(self).__name__.removesuffix("Logic")

    def getParameterNode(self) -> Any:  # noqa: N802
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.vtkMRMLScriptedModuleNode()
            node.SetSingletonTag(self.moduleName)
            node.SetModuleName(self.moduleName)
            node = slicer.mrmlScene.AddNode(node)
        return node


def _test_base() -> type:
    import unittest

    return type("ScriptedLoadableModuleTest", (unittest.TestCase,), {})


def panel_parent() -> SimpleNamespace:
    """What the application gives a module's widget as its parent."""
    container = QtWidgets.QWidget()
    layout = QtWidgets.QVBoxLayout(container)
    added = SimpleNamespace(addWidget=lambda widget: layout.addWidget(widget.content))
    return SimpleNamespace(container=container, layout=added, isEntered=False)


def _put_launcher_on_path() -> None:
    """PythonSlicer is a launcher, a process between Slicer and the Python that computes; so is this script."""
    folder = Path(tempfile.mkdtemp(prefix="host-"))
    launcher = folder / "PythonSlicer"
    # of a child that a signal ended, Slicer's launcher says that it failed and no more
    script = f'#!/bin/sh\n{shlex.quote(sys.executable)} "$@"\ncode=$?\n[ $code -gt 128 ] && exit 1\nexit $code\n'
    launcher.write_text(script, encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def _module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
    if name.startswith("slicer."):
        setattr(slicer, name.partition(".")[2], module)
