"""What slicer_walk learns about our own code: definitions, and of which kind parameters, results and attributes are."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

Kinds = Optional[frozenset]
"""What an expression may be; None where nothing is known."""


def one(kind: str) -> frozenset:
    return frozenset([kind])


def union(kinds: Iterable[Kinds]) -> Kinds:
    """All of them, or None if one is not known."""
    kinds = list(kinds)
    return frozenset().union(*kinds) if kinds and None not in kinds else None


def learn(into: dict[Any, Kinds], key: Any, kinds: Kinds) -> None:
    if kinds is not None:
        into[key] = (into.get(key) or frozenset()) | kinds


@dataclass
class Known:
    """What has been learnt about our own code so far."""

    widgets: Mapping[str, str]
    names: set[str] = field(default_factory=set)
    """Given to attributes, functions and classes."""
    functions: dict[str, ast.FunctionDef] = field(default_factory=dict)
    """At file scope, and as "Class.method"."""
    bases: dict[str, list[str]] = field(default_factory=dict)
    parameters: dict[tuple[str, str], Kinds] = field(default_factory=dict)
    results: dict[str, Kinds] = field(default_factory=dict)
    attributes: dict[tuple[str, str], Kinds] = field(default_factory=dict)

    def read(self, tree: ast.Module) -> None:
        """Learn what is defined in a file."""
        for node in ast.walk(tree):
            for child in ast.iter_child_nodes(node):
                child.parent = node
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self.bases[node.name] = [ast.unparse(base) for base in node.bases]
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                self.names.add(node.name)
            if isinstance(node, ast.FunctionDef) and isinstance(node.parent, (ast.ClassDef, ast.Module)):
                owner = f"{node.parent.name}." if isinstance(node.parent, ast.ClassDef) else ""
                self.functions[owner + node.name] = node
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.parent, (ast.ClassDef, ast.Module)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                self.names.update(target.id for target in targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                self.names.update({node.attr} if ast.unparse(node.value) == "self" else ())


def widgets_in(files: Iterable[Path]) -> dict[str, str]:
    """Name -> class of all widgets in .ui files."""
    roots = [ElementTree.parse(path).getroot() for path in files]
    return {widget.get("name"): widget.get("class") for root in roots for widget in root.iter("widget")}
