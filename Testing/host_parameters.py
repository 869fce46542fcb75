"""Parameter nodes for the host: the documented behaviour of slicer.parameterNodeWrapper for the types we use.

Values live in a vtkMRMLScriptedModuleNode: text and truth values and paths as parameters, nodes as node references.
As in Slicer, values are read when the node says that it was modified and kept until then, a value of another type than
annotated is refused, and ``connectGui`` returns nothing, so that what it connected stays connected.
"""

from __future__ import annotations

import typing
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import slicer
import vtk


class Choice:
    """Allowed values of a parameter."""

    def __init__(self, choices: list[Any]) -> None:
        self.choices = choices


class _Type:
    """How one annotated type is checked, written and read."""

    def __init__(self, hint: Any) -> None:
        self.base = typing.get_args(hint)[0] if hasattr(hint, "__metadata__") else hint
        self.choices = next((one.choices for one in getattr(hint, "__metadata__", ()) if isinstance(one, Choice)), None)
        self.is_node = self.base.__name__.startswith("vtkMRML")
        if not self.is_node and self.base not in (str, bool, Path):
            raise TypeError(f"the host has no serializer for {hint}")

    @property
    def default(self) -> Any:
        return None if self.is_node else self.base()

    def write(self, node: Any, name: str, value: Any) -> None:
        if not (isinstance(value, self.base) or (self.is_node and value is None)):
            raise TypeError(f"{name}: {value!r} is no {self.base.__name__}")
        if self.choices is not None and value not in self.choices:
            raise ValueError(f"{name}: {value!r} is not one of {self.choices}")
        node.SetParameter(name, "" if self.is_node else str(value))
        if self.is_node:
            node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        if self.is_node:
            return node.GetNodeReference(name)
        text = node.GetParameter(name)
        return text == "True" if self.base is bool else self.base(text)


class _Parameters:
    """What parameterNodeWrapper makes of a class; `types` and `defaults` come with it."""

    types: typing.ClassVar[dict[str, _Type]]
    defaults: typing.ClassVar[dict[str, Any]]

    def __init__(self, node: Any) -> None:
        self.parameterNode = node
        self._values: dict[str, Any] = {}
        self._shown: list[tuple[str, Any]] = []
        self._showing = False
        self._read()
        this = weakref.ref(self)
        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: this() and this()._read())

    def __del__(self) -> None:
        self.parameterNode.RemoveObserver(self._tag)

    def _read(self) -> None:
        for name, kind in self.types.items():
            if not self.parameterNode.HasParameter(name):
                kind.write(self.parameterNode, name, self.defaults[name])
            self._values[name] = kind.read(self.parameterNode, name)

    def _write(self, name: str, value: Any) -> None:
        with slicer.util.NodeModify(self.parameterNode):
            self.types[name].write(self.parameterNode, name, value)
            self._values[name] = self.types[name].read(self.parameterNode, name)

    def AddObserver(self, event: Any, call: Any, priority: float = 0.0) -> int:  # noqa: N802
        return self.parameterNode.AddObserver(event, call, priority)

    def RemoveObserver(self, tag: int) -> None:  # noqa: N802
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:  # noqa: N802
        return self.parameterNode.StartModify()

    def EndModify(self, before: int) -> int:  # noqa: N802
        return self.parameterNode.EndModify(before)

    def connectGui(self, ui: SimpleNamespace) -> None:  # noqa: N802
        for widget in (one.content for one in vars(ui).values()):
            name = widget.property("SlicerParameterName")
            if name is None:
                continue
            if name not in self.types:
                raise ValueError(f"Cannot find a param with the given name: {name}")
            show, changed, read = _connector(widget, self.types[name])
            self._shown.append((name, show))
            show(self._values[name])
            changed.connect(lambda *_, name=name, read=read: self._showing or self._write(name, read()))
        self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())

    def disconnectGui(self, tag: Any) -> None: ...  # noqa: N802 - without a tag, Slicer finds nothing to disconnect

    def _show(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            with slicer.util.NodeModify(self):
                for name, show in self._shown:
                    show(self._values[name])
        finally:
            self._showing = False


def _connector(widget: Any, kind: _Type) -> tuple[Callable[[Any], None], Any, Callable[[], Any]]:
    """How a value is shown, the signal that it was changed, how it is read; only for the pairs that Slicer connects."""
    pair = (type(widget).__name__, "node" if kind.is_node else kind.base.__name__)
    if pair == ("qMRMLNodeComboBox", "node"):
        widget.setProperty("nodeTypes", [kind.base.__name__])
        return widget.setCurrentNode, widget.currentNodeChanged, widget.currentNode
    if pair == ("QCheckBox", "bool"):
        return widget.setChecked, widget.stateChanged, widget.isChecked
    if pair == ("QComboBox", "str") and kind.choices is not None:
        widget.clear()
        widget.addItems(kind.choices)
        return (
            lambda value: widget.setCurrentIndex(kind.choices.index(value)),
            widget.currentIndexChanged,
            lambda: kind.choices[widget.currentIndex()],
        )
    if pair == ("ctkPathLineEdit", "Path"):
        return (
            lambda value: widget.setProperty("currentPath", str(value)),
            widget.currentPathChanged,
            lambda: Path(widget.property("currentPath")),
        )
    raise RuntimeError(f"Unable to create GUI connector from datatype {pair[1]} to widget type {pair[0]}")


def parameter_node_wrapper(cls: type) -> type:
    """Typed access to a parameter node."""
    hints = typing.get_type_hints(cls, include_extras=True)
    types = {name: _Type(hint) for name, hint in hints.items()}
    defaults = {name: getattr(cls, name, kind.default) for name, kind in types.items()}
    content = {"types": types, "defaults": defaults, "__doc__": cls.__doc__, "__annotations__": cls.__annotations__}
    for name in types:
        content[name] = property(
            lambda self, name=name: self._values[name], lambda self, value, name=name: self._write(name, value)
        )
    return type(cls.__name__, (_Parameters,), content)
