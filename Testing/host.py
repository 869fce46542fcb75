"""A stand-in for the Slicer application around real MRML, so that MSTKDSegmenter.py runs in plain Python.

slicer-core brings the scene, the nodes and their logic; PySide6 the widgets. This file supplies only what the
application itself owns: `slicer.app`, `slicer.modules`, the base classes of scripted modules, `qt`, loading of .ui
files. Objects of the application and of Qt answer only to names that a real Slicer 5.12 answers to (slicer_names.json),
so code that runs here does not fail there on a misspelt name.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
import typing
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Callable

import slicer
from PySide6 import QtCore, QtUiTools, QtWidgets

NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("slicer_names.json").read_text(encoding="utf-8"))
MODULE_FOLDER = Path(__file__).resolve().parents[1] / "MSTKDSegmenter"


def start() -> None:
    """Turn this Python process into something that MSTKDSegmenter.py takes for Slicer. Once per process."""
    if hasattr(slicer, "app"):
        return
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    _application = QtWidgets.QApplication.instance() or QtWidgets.QApplication([])
    slicer.mrmlScene = slicer.vtkMRMLScene()
    slicer.app = Genuine(SimpleNamespace(connect=lambda signal, slot: started.append((signal, slot))), "slicer.app")
    terminologies = slicer.vtkSlicerTerminologiesModuleLogic()
    names = "slicer.modules.terminologies.logic()"
    module = SimpleNamespace(logic=lambda: Genuine(terminologies, names))
    slicer.modules = Genuine(SimpleNamespace(terminologies=module), "slicer.modules")
    slicer.util.loadUI = _load_ui
    slicer.util.childWidgetVariables = _child_widgets
    slicer.util.errorDisplay = lambda text, windowTitle=None: errors.append(text)  # noqa: N803
    _module("qt", QTimer=lambda: Genuine(QtCore.QTimer(), "QTimer"))
    _module("slicer.i18n", tr=lambda text: text, translate=lambda context, text: text)
    _module("slicer.parameterNodeWrapper", Choice=Choice, parameterNodeWrapper=parameter_node_wrapper)
    bases = (ScriptedLoadableModule, ScriptedLoadableModuleWidget, ScriptedLoadableModuleLogic)
    _module("slicer.ScriptedLoadableModule", ScriptedLoadableModuleTest=_test_base(), **{b.__name__: b for b in bases})
    _put_launcher_on_path()


started: list[tuple[str, Callable[[], None]]] = []
"""What was connected to signals of the application, e.g. startupCompleted()."""
errors: list[str] = []
"""What was shown in error dialogs."""


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
        return self.content.property(name) if self._check(name) else getattr(self.content, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._check(name):
            raise AttributeError(f"{name} is no property of {self.kind}")
        self.content.setProperty(name, value)


class qMRMLWidget(QtWidgets.QWidget):  # noqa: N801
    """The outermost widget of a panel. Connections of the .ui file need its signal and the selectors' slot."""

    mrmlSceneChanged = QtCore.Signal("vtkMRMLScene*")  # noqa: N815

    def setMRMLScene(self, scene: Any) -> None:  # noqa: N802
        self.scene = scene


class qMRMLNodeComboBox(QtWidgets.QWidget):  # noqa: N801
    """A node selector without a picture: only the choice, and the signal about it."""

    currentNodeChanged = QtCore.Signal()  # noqa: N815
    noneEnabled = addEnabled = removeEnabled = showChildNodeTypes = QtCore.Property(bool)  # noqa: N815
    _node = None

    @QtCore.Slot("vtkMRMLScene*")
    def setMRMLScene(self, scene: Any) -> None: ...  # noqa: N802

    def currentNode(self) -> Any:  # noqa: N802
        return self._node

    def setCurrentNode(self, node: Any) -> None:  # noqa: N802
        if node is not self._node:
            self._node = node
            self.currentNodeChanged.emit()


def _load_ui(path: str) -> Genuine:
    loader = QtUiTools.QUiLoader()
    loader.registerCustomWidget(qMRMLWidget)
    loader.registerCustomWidget(qMRMLNodeComboBox)
    widget = loader.load(str(path))
    return Genuine(widget, "qMRMLWidget")


def _child_widgets(widget: Genuine) -> SimpleNamespace:
    children = widget.content.findChildren(QtWidgets.QWidget)
    named = {child.objectName(): child for child in children if type(child).__name__ in NAMES}
    return SimpleNamespace(**{name: Genuine(child, type(child).__name__) for name, child in named.items()})


class Choice:
    """Allowed values of a parameter."""

    def __init__(self, choices: list[str]) -> None:
        self.choices = choices


def parameter_node_wrapper(cls: type) -> type:
    """Typed access to a parameter node: node types as node references, text as parameters, as in Slicer."""
    hints = typing.get_type_hints(cls, include_extras=True)
    for name, hint in hints.items():
        setattr(cls, name, _parameter(name, hint, getattr(cls, name, None)))
    cls.__init__ = lambda self, node: setattr(self, "parameterNode", node)
    cls.AddObserver = lambda self, event, call, priority=0.0: self.parameterNode.AddObserver(event, call, priority)
    cls.RemoveObserver = lambda self, tag: self.parameterNode.RemoveObserver(tag)
    cls.connectGui = lambda self, ui: _connect(self, ui, hints)
    cls.disconnectGui = lambda self, tag: None
    return cls


def _parameter(name: str, hint: Any, default: Any) -> property:
    if isinstance(hint, type) and hint.__name__.startswith("vtkMRML"):
        return property(
            lambda self: self.parameterNode.GetNodeReference(name),
            lambda self, node: self.parameterNode.SetNodeReferenceID(name, node.GetID() if node is not None else None),
        )
    return property(
        lambda self: self.parameterNode.GetParameter(name) or default,
        lambda self, value: self.parameterNode.SetParameter(name, value),
    )


def _connect(parameters: Any, ui: SimpleNamespace, hints: dict[str, Any]) -> int:
    """The widgets that carry the name of a parameter show its value and change it."""
    for widget in (one.content for one in vars(ui).values()):
        name = widget.property("SlicerParameterName")
        if name is None:
            continue
        if name not in hints:
            raise ValueError(f"Cannot find a param with the given name: {name}")
        if isinstance(widget, QtWidgets.QComboBox):
            if widget.count() == 0:
                widget.addItems(hints[name].__metadata__[0].choices)
            widget.setCurrentText(getattr(parameters, name))
            widget.currentTextChanged.connect(lambda text, name=name: setattr(parameters, name, text))
        else:
            widget.setCurrentNode(getattr(parameters, name))
            widget.currentNodeChanged.connect(lambda w=widget, name=name: setattr(parameters, name, w.currentNode()))
    return 0


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
    return SimpleNamespace(container=container, layout=added, isEntered=True)


def _put_launcher_on_path() -> None:
    """PythonSlicer is a launcher, a process between Slicer and the Python that computes; so is this script."""
    folder = Path(tempfile.mkdtemp(prefix="host-"))
    launcher = folder / "PythonSlicer"
    launcher.write_text(f'#!/bin/sh\n{shlex.quote(sys.executable)} "$@"\nexit $?\n', encoding="utf-8")
    launcher.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"


def _module(name: str, **content: Any) -> None:
    module = ModuleType(name)
    vars(module).update(content)
    sys.modules[name] = module
    if name.startswith("slicer."):
        setattr(slicer, name.partition(".")[2], module)
