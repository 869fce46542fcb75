"""Reads the code that runs in Slicer and says what the real Slicer would not answer to, without running it.

Expressions get a kind where it can be told: `qt.QTimer()` is a QTimer, `self.ui.applyButton` what the .ui file says,
`scene.AddNewNodeByClass("vtkMRMLTableNode")` that class of slicer-core. Kinds follow assignments, attributes of self,
parameters and results of our own functions. Of an object of known kind every attribute must exist; of any other, the
name must at least be one that we, Python, MRML or Slicer define somewhere: a slip of the pen is found there too.

Kinds are words: "QTimer" an instance, "class:QTimer", "function:slicer.util.loadUI", "method:slicer.app.settings",
"own:Class.method" or "own:function" of ours, "python:json.loads", "ui" for the widgets, "self", "slicer" and so on.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any, Callable

from slicer_answers import Answers
from slicer_genuine import DOCUMENTED, Genuine
from slicer_known import Kinds, Known, learn, one, union

PASSES = 4
"""Kinds travel one call further in each."""
LOGICS = {"tables": "vtkSlicerTablesLogic"}
"""Modules whose logic has no entry in slicer_api.json -> its class in slicer-core."""
RESULTS = {
    "slicer.util.loadUI": "qMRMLWidget",
    "slicer.util.childWidgetVariables": "ui",
    "slicer.util.mainWindow": "slicer.util.mainWindow()",
}


def walk(
    sources: Mapping[str, str], genuine: Genuine, widgets: Mapping[str, str] | None = None, library: Iterable[str] = ()
) -> list[str]:
    """What the real Slicer would not answer to, as sentences with file and line; none if all is well.

    Args:
        sources: file name -> text of the code that is looked at.
        genuine: what Slicer answers to.
        widgets: see ``widgets_in``.
        library: texts of more code of ours, whose names the sources may use.
    """
    known = Known(widgets or {})
    for text in library:
        known.read(ast.parse(text))
    trees = {name: ast.parse(text) for name, text in sources.items()}
    for tree in trees.values():
        known.read(tree)
    for _pass in range(PASSES - 1):
        for tree in trees.values():
            Scope(known, genuine, lambda node, text: None)(tree.body)
    found: dict[tuple[str, int, str], None] = {}
    for name, tree in trees.items():
        Scope(known, genuine, lambda node, text, name=name: found.update({(name, node.lineno, text): None}))(tree.body)
    return [f"{name}:{line}: {text}" for name, line, text in found]


class Scope(Answers):
    """The statements of a file, a class or a function, where the same local names hold."""

    def __init__(
        self,
        known: Known,
        genuine: Genuine,
        say: Callable[[ast.AST, str], Any],
        names: Mapping[str, Kinds] | None = None,
        cls: str | None = None,
        function: str | None = None,
    ) -> None:
        super().__init__(known, genuine, say, cls)
        self.names, self.function = dict(names or {}), function

    def __call__(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.look(statement)

    def inner(self, names: Mapping[str, Kinds], cls: str | None = None, function: str | None = None) -> Scope:
        return Scope(self.known, self.genuine, self.say, {**self.names, **names}, cls, function)

    # statements

    def look(self, node: ast.AST) -> None:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            self.imports(node)
        elif isinstance(node, ast.ClassDef):
            self.inner({}, node.name)(node.body)
        elif isinstance(node, ast.FunctionDef):
            self.define(node)
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                self.assign(target, node.value)
        elif isinstance(node, ast.For):
            self.bind(node.target, self.element(node.iter))
            self([*node.body, *node.orelse])
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self.bind(node.optional_vars, self.kind(node.context_expr))
        elif isinstance(node, ast.Return) and node.value is not None and self.function:
            learn(self.known.results, self.function, self.kind(node.value))
        elif isinstance(node, ast.expr):
            self.kind(node)
        else:
            for child in ast.iter_child_nodes(node):
                self.look(child)

    def define(self, node: ast.FunctionDef) -> None:
        arguments = node.args
        for expression in [*node.decorator_list, *arguments.defaults, *filter(None, arguments.kw_defaults)]:
            self.kind(expression)
        method = self.cls is not None and self.function is None
        name = f"{self.cls}.{node.name}" if method else node.name
        names: dict[str, Kinds] = {}
        for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
            kinds = self.known.parameters.get((name, argument.arg))
            names[argument.arg] = one("ui") if argument.arg == "ui" else kinds
        if method and arguments.args:
            names[arguments.args[0].arg] = one("self")
        self.inner(names, self.cls, name)(node.body)

    def imports(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.Import):
                self.names[name] = self.module(node, alias.name if alias.asname else name)
            elif node.level or node.module.partition(".")[0] == "MSTKDSegmenterLib":
                self.names[name] = one(f"own:{alias.name}")
            else:
                self.names[name] = self.attribute(node, self.module(node, node.module), alias.name)

    def module(self, node: ast.AST, name: str) -> Kinds:
        if name.startswith("slicer."):
            self.need_guard(node, name.partition(".")[2], "slicer")
        known = {"slicer", "qt", "ctk", "vtk", *DOCUMENTED, *self.genuine.names}
        return one(name if name in known else f"python:{name}")

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for left, right in zip(target.elts, value.elts):
                self.assign(left, right)
        elif isinstance(target, ast.Tuple):
            kinds = self.element(value)
            for left in target.elts:
                self.bind(left, kinds)
        else:
            self.bind(target, self.kind(value))

    def bind(self, target: ast.expr, kinds: Kinds) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = kinds
        elif isinstance(target, ast.Attribute) and self.kind(target.value) == one("self"):
            learn(self.known.attributes, (self.cls, target.attr), kinds)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for inner in target.elts:
                self.bind(inner, None)
        else:
            self.kind(target)

    # expressions

    def kind(self, node: ast.expr) -> Kinds:
        """What the expression may be, after everything in it has been looked at."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id) or (one(f"own:{node.id}") if node.id in self.known.functions else None)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, self.kind(node.value), node.attr)
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
            self.element(node)
            return None
        if isinstance(node, ast.Lambda):
            self.inner(dict.fromkeys(argument.arg for argument in node.args.args), self.cls).kind(node.body)
            return None
        if isinstance(node, ast.IfExp):
            self.kind(node.test)
            return union([self.kind(node.body), self.kind(node.orelse)])
        if isinstance(node, ast.BoolOp):
            return union([self.kind(value) for value in node.values])
        for child in ast.iter_child_nodes(node):
            self.look(child)
        return None

    def element(self, node: ast.expr) -> Kinds:
        """What the elements of a sequence may be."""
        if isinstance(node, (ast.Tuple, ast.List)):
            return union([self.kind(value) for value in node.elts])
        if not isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp)):
            kinds = self.kind(node) or frozenset()
            return frozenset(kind[:-2] for kind in kinds if kind.endswith("[]")) or None
        inner = self.inner({}, self.cls)
        for generator in node.generators:
            inner.bind(generator.target, inner.element(generator.iter))
            for condition in generator.ifs:
                inner.kind(condition)
        if isinstance(node, ast.DictComp):
            inner.kind(node.key)
            return inner.kind(node.value)
        return inner.kind(node.elt)

    def call(self, node: ast.Call) -> Kinds:
        plain = node.func.id if isinstance(node.func, ast.Name) else ""
        if plain == "super":
            return None  # its methods are not those of this class
        given = [self.kind(value) for value in node.args]
        named = {keyword.arg: self.kind(keyword.value) for keyword in node.keywords}
        if plain in ("getattr", "setattr"):
            return self.by_name(node, given[0])
        kinds = self.kind(node.func)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("AddNewNodeByClass", "getNodesByClass"):
            return self.nodes(node)
        return union([self.result(node, kind, given, named) for kind in kinds or ()])

    def by_name(self, node: ast.Call, kinds: Kinds) -> Kinds:
        """getattr and setattr; of widgets also with names that are put together."""
        name = node.args[1]
        if isinstance(name, ast.Constant):
            guarded = ast.unparse(node.func) == "getattr" and len(node.args) > 2  # with a default it asks by itself
            return self.attribute(node, kinds, name.value, guarded)
        if kinds != one("ui"):
            return None
        parts = name.values if isinstance(name, ast.JoinedStr) else [name]
        pattern = "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in parts)
        found = frozenset(kind for widget, kind in self.known.widgets.items() if re.fullmatch(pattern, widget))
        if not found:
            self.say(node, f"no widget in the .ui files is called like {pattern!r}")
        return found or None

    def nodes(self, node: ast.Call) -> Kinds:
        name = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if name is not None and self.genuine.of(name) is None:
            self.say(node, f"there is no class {name}")
        elif name is not None:
            return one(name + ("[]" if node.func.attr == "getNodesByClass" else ""))
        return None

    def result(self, node: ast.Call, kind: str, given: list[Kinds], named: Mapping[str | None, Kinds]) -> Kinds:
        """What calling it gives; looks at the arguments."""
        what, _, name = kind.partition(":")
        if what == "function":
            fault = self.genuine.call_fault(name, node.args, node.keywords)
            if fault is not None:
                self.say(node, fault)
            result = RESULTS.get(name)
            return one(result) if result == "ui" or (result and self.genuine.of(result)) else None
        if what == "class":
            return one(name)
        if what == "method":
            module = name.split(".")[2] if name.startswith("slicer.modules.") else ""
            result = LOGICS.get(module, f"{name}()")
            return one(result) if self.genuine.of(result) is not None else None
        return self.call_own(name, given, named) if what == "own" else None

    def call_own(self, name: str, given: list[Kinds], named: Mapping[str | None, Kinds]) -> Kinds:
        full = name if name in self.known.functions else f"{name}.__init__"
        definition = self.known.functions.get(full)
        if definition is None:
            return None
        static = any(ast.unparse(decorator) == "staticmethod" for decorator in definition.decorator_list)
        names = [argument.arg for argument in definition.args.args][("." in full and not static) :]
        for parameter, kinds in [*zip(names, given), *named.items()]:
            learn(self.known.parameters, (full, parameter), kinds)
        return self.known.results.get(full)
