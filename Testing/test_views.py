"""Views of SimpleITK images: one does not keep its image, so it must not be taken of one that nothing else holds."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCES = sorted(
    path for part in ("MSTKDSegmenter", "training", "Testing") for path in (REPOSITORY / part).rglob("*.py")
)


def views_of_temporaries(source: str) -> list[int]:
    """Lines where a view is taken of what a call or an operator has just made."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith("GetArrayViewFromImage")
        and not isinstance(node.args[0], (ast.Name, ast.Attribute, ast.Subscript))
    ]


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("view = sitk.GetArrayViewFromImage(image)", []),
        ("view = sitk.GetArrayViewFromImage(study.images['T1'].image)", []),
        ("view = sitk.GetArrayViewFromImage(image > 0)", [1]),
        ("\nview = sitk.GetArrayViewFromImage(sitk.Abs(image)) > 0", [2]),
    ],
)
def test_a_view_of_what_is_freed_at_once_is_found(source: str, lines: list[int]) -> None:
    assert views_of_temporaries(source) == lines


def test_no_view_is_taken_of_an_image_that_nothing_else_holds() -> None:
    assert len(SOURCES) > 200
    found = {path.name: views_of_temporaries(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {name: lines for name, lines in found.items() if lines} == {}
