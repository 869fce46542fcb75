"""What the objects of a real Slicer answer to, and how its functions may be called, for slicer_walk."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping

import slicer
import vtk
from slicer_python import PYTHON_NAMES

NEW_IN_5_12 = {"packaging", "registerCustomSampleDataCategory"}
NEW_ARGUMENTS_IN_5_12 = {"slicer.util.launchConsoleProcess": {"blocking", "logCallback", "completedCallback"}}
NOT_IN_EVERY_SLICER = {"slicer.app": {"extensionsManagerModel"}, "slicer": {"app", "dicomDatabase"}}
"""Built without by choice (so not in slicer_api.json either), or not there outside the application."""
DOCUMENTED = {
    # set by the base classes on every instance, as in Slicer's own module template
    "ScriptedLoadableModule": {"parent"},
    "ScriptedLoadableModuleWidget": {"parent", "layout"},
    "ScriptedLoadableModuleLogic": {"moduleName"},
    # what these hold: the module that Slicer hands over, the layout of the panel
    "parent": {
        *("title", "categories", "dependencies", "contributors", "helpText", "acknowledgementText"),
        *("addWidget", "isEntered"),
    },
    "slicer.app.extensionsManagerModel()": {"interactive", "installExtensionFromServer", "isExtensionInstalled"},
    "slicer.dicomDatabase": {"instanceValue", "isOpen"},
    "PyTorchUtils": {"PyTorchUtilsLogic", "installTorch"},
    "SampleData": {"SampleDataLogic", "registerCustomSampleDataSource", "registerCustomSampleDataCategory"},
    "a wrapped parameter node": {
        *("parameterNode", "connectGui", "connectParametersToGui", "disconnectGui", "getValue", "setValue", "default"),
        *("StartModify", "EndModify", "Modified", "AddObserver", "RemoveObserver"),
    },
    "the widget of SegmentEditor": {"editor"},
}
"""From Slicer's documentation and sources: what slicer_api.json, read from one application, does not list."""

_MRML = ("vtkMRML", "vtkSegment", "vtkOriented", "vtkSlicer")
_VTK = ("vtkImageData", "vtkPointData", "vtkMatrix4x4", "vtkCollection", "vtkTable", "vtkDoubleArray", "vtkStringArray")


class Genuine:
    """The names and signatures in slicer_names.json, the classes of slicer-core, and the above."""

    def __init__(self, content: Mapping[str, object]) -> None:
        self.names = {kind: names for kind, names in content.items() if isinstance(names, list)}
        self.signatures: Mapping[str, str] = content["signatures"]
        self._of: dict[str, frozenset[str] | None] = {}
        classes = [name for name in dir(slicer) if name.startswith(_MRML)] + list(_VTK)
        kinds = [*classes, *self.names, *DOCUMENTED]
        self.anything = PYTHON_NAMES.union(*(self.of(kind) or () for kind in kinds))
        """The names of all kinds, and those of Python."""

    def of(self, kind: str) -> frozenset[str] | None:
        """The names that an object of this kind answers to; None if it is not known."""
        if kind not in self._of:
            self._of[kind] = self._look_up(kind)
        return self._of[kind]

    def _look_up(self, kind: str) -> frozenset[str] | None:
        if kind in self.names:
            widget = kind.startswith(("Q", "ctk", "qMRML", "qSlicer"))
            return frozenset(self.names[kind]) | frozenset(self.names["QWidget"] if widget else ())
        if kind in DOCUMENTED:
            return frozenset(DOCUMENTED[kind])
        found = getattr(slicer, kind, None) or getattr(vtk, kind, None)
        if not inspect.isclass(found):
            return None
        # VTK has properties in snake_case since 9.4, but not in Slicer 5.10
        return frozenset(name for name in dir(found) if not name[0].islower())

    def call_fault(self, function: str, arguments: list[ast.expr], keywords: list[ast.keyword]) -> str | None:
        """Why a function, e.g. "slicer.util.loadUI", cannot be called like this."""
        for keyword in keywords:
            if keyword.arg in NEW_ARGUMENTS_IN_5_12.get(function, ()):
                return f"{function}({keyword.arg}=) came with Slicer 5.12"
        if function not in self.signatures:
            return f"the signature of {function} is not in slicer_names.json"
        if any(isinstance(one, ast.Starred) for one in arguments) or any(one.arg is None for one in keywords):
            return None  # known only while running
        try:
            signature(self.signatures[function]).bind(*arguments, **{one.arg: one for one in keywords})
        except TypeError as error:
            return f"{function}{self.signatures[function]}: {error}"
        return None


def signature(text: str) -> inspect.Signature:
    """From how ``inspect`` prints it. Defaults that it cannot print as Python, ``<function ...>``, become None."""
    definition = f"def f{re.sub(r'<(?:[^<>]|<[^<>]*>)*>', 'None', text)}: pass"
    namespace: dict[str, object] = {}
    exec("from __future__ import annotations\n" + definition, namespace)
    found = inspect.signature(namespace["f"])
    return found.replace(parameters=[one for name, one in found.parameters.items() if name != "self"])
