"""What the objects in a class of ours, or in a file, answer to, for slicer_walk."""

from __future__ import annotations

import ast
import importlib
import inspect
from typing import Any, Callable

import vtk
from slicer_genuine import DOCUMENTED, NEW_IN_5_12, NOT_IN_EVERY_SLICER, Genuine
from slicer_guards import is_guarded
from slicer_known import Kinds, Known, one, union


class Answers:
    """``say`` gets what is wrong and where; ``cls`` is the class of ours that the code stands in."""

    def __init__(self, known: Known, genuine: Genuine, say: Callable[[ast.AST, str], Any], cls: str | None) -> None:
        self.known, self.genuine, self.say, self.cls = known, genuine, say, cls

    def attribute(self, node: ast.AST, kinds: Kinds, name: str, guarded: bool = False) -> Kinds:
        """What the attribute of an expression may be; a finding if it has none.

        Args:
            node: where it is used.
            kinds: what the expression may be.
            name: of the attribute.
            guarded: whether it is asked for with a default.
        """
        if kinds is None:
            return one("ui") if name in ("ui", "_ui") else self.anywhere(node, name)
        return union([self.attribute_of(node, kind, name, guarded) for kind in sorted(kinds)])

    def attribute_of(self, node: ast.AST, kind: str, name: str, guarded: bool) -> Kinds:
        what, _, rest = kind.partition(":")
        if kind == "self":
            return self.of_self(node, name)
        if kind == "ui":
            return self.of_ui(node, name)
        if kind in ("slicer", "qt", "ctk", "vtk"):
            return self.of_module(node, kind, name, guarded)
        if what == "python":
            return None if guarded else self.of_python(node, rest, name)
        if what in ("own", "function", "method"):
            return self.anywhere(node, name)
        if not guarded:
            self.need_guard(node, name, kind)
        allowed = self.genuine.of(rest or kind)
        if name in NOT_IN_EVERY_SLICER.get(kind, ()):
            return one(f"method:{kind}.{name}")
        if allowed is not None and name not in allowed:
            self.say(node, f"{rest or kind} of Slicer has no {name!r}")
        elif kind == "slicer.modules":
            return one(f"slicer.modules.{name}")
        elif kind.startswith(("slicer.app", "slicer.modules.")):
            return one(f"method:{kind}.{name}")
        elif kind in ("slicer.util", "slicer.packaging", "slicer.i18n", "slicer.cli", "slicer.parameterNodeWrapper"):
            return one(f"function:{kind}.{name}")
        return None

    def of_self(self, node: ast.AST, name: str) -> Kinds:
        full = f"{self.cls}.{name}"
        if (self.cls, name) in self.known.attributes:
            return self.known.attributes[(self.cls, name)]
        if full in self.known.functions:
            decorators = map(ast.unparse, self.known.functions[full].decorator_list)
            return self.known.results.get(full) if "property" in decorators else one(f"own:{full}")
        bases = [base for base in self.known.bases.get(self.cls, ()) if self.genuine.of(base) is not None]
        inherited = set().union(*(self.genuine.of(base) for base in bases), *(DOCUMENTED.get(b, ()) for b in bases))
        if bases and name not in self.known.names | inherited and not name.startswith("__"):
            self.say(node, f"{self.cls} has no {name!r}, neither of its own nor from {', '.join(bases)}")
        return None

    def of_ui(self, node: ast.AST, name: str) -> Kinds:
        if name in self.known.widgets:
            return one(self.known.widgets[name])
        self.say(node, f"no widget in the .ui files is called {name!r}")
        return None

    def of_module(self, node: ast.AST, module: str, name: str, guarded: bool) -> Kinds:
        if not guarded:
            self.need_guard(node, name, module)
        if module == "slicer" and name == "mrmlScene":
            return one("vtkMRMLScene")
        if module == "slicer" and (f"slicer.{name}" in self.genuine.names or name in NOT_IN_EVERY_SLICER["slicer"]):
            return one(f"slicer.{name}")
        if module == "vtk" and hasattr(vtk, name) and not inspect.isclass(getattr(vtk, name)):
            return None  # a function or a module
        if self.genuine.of(name) is not None:
            return one(f"class:{name}")
        self.say(node, f"{module} has no {name!r}, or it is not in slicer_names.json")
        return None

    def of_python(self, node: ast.AST, path: str, name: str) -> Kinds:
        if hasattr(_python(path), name) or _is_module(f"{path}.{name}"):
            return one(f"python:{path}.{name}")
        self.say(node, f"{path} has no {name!r}")
        return None

    def anywhere(self, node: ast.AST, name: str) -> None:
        """For an object of which nothing is known: does anything have such an attribute?"""
        if name not in self.known.names and name not in self.genuine.anything:
            self.say(node, f"nothing in Slicer, MRML, Python or our code has an attribute {name!r}")

    def need_guard(self, node: ast.AST, name: str, kind: str) -> None:
        """A finding where something that not every Slicer has is used without asking."""
        new, optional = name in NEW_IN_5_12, name in NOT_IN_EVERY_SLICER.get(kind, ())
        # the panel runs in the application only; what runs elsewhere too is tested there
        if (new or optional) and name != "app" and not is_guarded(node, name):
            why = "came with Slicer 5.12" if new else "is not in every Slicer"
            self.say(node, f"{name} {why}: ask with hasattr, or catch the ImportError")


def _python(path: str) -> Any:
    """The object of Python or of a library that a dotted path leads to."""
    module, found = path.split("."), None
    for length in range(1, len(module) + 1):
        part = ".".join(module[:length])
        found = importlib.import_module(part) if _is_module(part) else getattr(found, module[length - 1])
    return found


def _is_module(path: str) -> bool:
    try:
        importlib.import_module(path)
    except ImportError:
        return False
    return True
