"""Whether code asks before it uses what not every Slicer has, for slicer_walk."""

from __future__ import annotations

import ast


def is_guarded(node: ast.AST, name: str) -> bool:
    """Whether a node is reached only where ``hasattr(..., name)`` was true, or where an ImportError is expected.

    The tree needs an attribute ``parent`` on every node.
    """
    while hasattr(node, "parent"):
        parent = node.parent
        if _chosen(node, parent, name) or any(_leaves_without(statement, name) for statement in _before(node, parent)):
            return True
        node = parent
    return False


def _chosen(node: ast.AST, parent: ast.AST, name: str) -> bool:
    """Whether this part of a statement or expression is for Slicers that have it."""
    if isinstance(parent, (ast.If, ast.IfExp)) and node is not parent.test:
        body = parent.body if isinstance(parent, ast.If) else [parent.body]
        return _asks(parent.test, name) is (node in body)
    if isinstance(parent, ast.BoolOp) and isinstance(parent.op, ast.And):
        return any(_asks(value, name) for value in parent.values[: parent.values.index(node)])
    if isinstance(parent, ast.Try) and node in parent.body:
        return any("ImportError" in text or "ModuleNotFoundError" in text for text in map(_caught, parent.handlers))
    return False


def _caught(handler: ast.ExceptHandler) -> str:
    return ast.unparse(handler.type) if handler.type is not None else ""


def _before(node: ast.AST, parent: ast.AST) -> list[ast.stmt]:
    body = getattr(parent, "body", None)
    return body[: body.index(node)] if isinstance(body, list) and node in body else []


def _leaves_without(statement: ast.stmt, name: str) -> bool:
    leaves = isinstance(statement, ast.If) and isinstance(statement.body[-1], (ast.Return, ast.Raise))
    return leaves and _asks(statement.test, name) is False


def _asks(test: ast.expr, name: str) -> bool | None:
    """True if the test says that it is there, False if it says that it is not, None if neither."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = _asks(test.operand, name)
        return None if inner is None else not inner
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return True if any(_asks(value, name) for value in test.values) else None
    is_hasattr = isinstance(test, ast.Call) and ast.unparse(test.func) == "hasattr"
    return True if is_hasattr and ast.unparse(test.args[1]) == repr(name) else None
