"""Parameter nodes for the host: the documented behaviour of slicer.parameterNodeWrapper for the types we use.

Values live in a vtkMRMLScriptedModuleNode: text and truth values and paths as parameters, nodes as node references.
As in Slicer, values are read when the node says that it was modified and kept until then, a value of another type than
annotated is refused, and ``connectGui`` does not give the tag by which ``disconnectGui`` would know what to disconnect;
``connectParametersToGui`` does.
"""

from __future__ import annotations

import typing
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable

import slicer
import vtk

_observers: list[Callable[..., None]] = []


def observe(observed: Any, event: Any, call: Callable[..., None]) -> int:
    """Add an observer that stays whole. Python's garbage collector takes one apart that only a VTK object refers to as
    soon as nothing in Python refers to that object, and calling it then ends the process."""
    _observers.append(call)
    return observed.AddObserver(event, call)


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
        self._connected: list[dict[str, _Connector]] = []
        self._showing = False
        self._read()
        this = weakref.ref(self)
        self._tag = observe(node, vtk.vtkCommand.ModifiedEvent, lambda *_: this() and this()._read())

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

    def Modified(self) -> None:  # noqa: N802
        self.parameterNode.Modified()

    def StartModify(self) -> int:  # noqa: N802
        return self.parameterNode.StartModify()

    def EndModify(self, before: int) -> int:  # noqa: N802
        return self.parameterNode.EndModify(before)

    def connectGui(self, ui: SimpleNamespace) -> None:  # noqa: N802
        named = {widget.property("SlicerParameterName"): widget for widget in vars(ui).values()}
        self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, widgets: dict[str, Any]) -> int:  # noqa: N802
        for name in widgets:
            if name not in self.types:
                raise ValueError(f"Cannot find a param with the given name: {name}")
        made = {name: _connector(widget.content, self.types[name]) for name, widget in widgets.items()}
        for name, connector in made.items():
            connector.show(self._values[name])
            connector.connect(lambda *_, name=name: self._showing or self._write(name, made[name].read()))
        self._connected.append(made)
        observe(self.parameterNode, vtk.vtkCommand.ModifiedEvent, lambda *_: self._show())
        return len(self._connected) - 1

    def disconnectGui(self, tag: Any) -> None:  # noqa: N802
        if tag is None:
            return
        for connector in self._connected[tag].values():
            connector.disconnect()
        self._connected[tag] = {}

    def _show(self) -> None:
        if self._showing:
            return
        self._showing = True
        try:
            with slicer.util.NodeModify(self):
                for made in self._connected:
                    for name, connector in made.items():
                        connector.show(self._values[name])
        finally:
            self._showing = False


class _Connector:
    """One widget that shows one parameter: how its value is shown and read, and the signal that it was changed."""

    def __init__(self, show: Callable[[Any], None], changed: Any, read: Callable[[], Any]) -> None:
        self.show, self.read, self._changed = show, read, changed
        self._slot: Any = None

    def connect(self, slot: Callable[..., Any]) -> None:
        self._slot = slot
        self._changed.connect(slot)

    def disconnect(self) -> None:
        self._changed.disconnect(self._slot)


def _connector(widget: Any, kind: _Type) -> _Connector:
    """Only for the pairs of widget and type that Slicer connects."""
    pair = (type(widget).__name__, "node" if kind.is_node else kind.base.__name__)
    if pair == ("qMRMLNodeComboBox", "node"):
        widget.setProperty("nodeTypes", [kind.base.__name__])
        return _Connector(widget.setCurrentNode, widget.currentNodeChanged, widget.currentNode)
    if pair == ("QCheckBox", "bool"):
        return _Connector(widget.setChecked, widget.stateChanged, widget.isChecked)
    if pair == ("QComboBox", "str") and kind.choices is not None:
        widget.clear()
        widget.addItems(kind.choices)
        return _Connector(
            lambda value: widget.setCurrentIndex(kind.choices.index(value)),
            widget.currentIndexChanged,
            lambda: kind.choices[widget.currentIndex()],
        )
    if pair == ("ctkPathLineEdit", "Path"):
        return _Connector(
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
