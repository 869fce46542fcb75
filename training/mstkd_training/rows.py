"""The rows of an evaluation, each on disk as soon as it is measured, so that nothing is measured twice.

One JSON object a line. The first says what the rows belong to, and rows that belong to something else are removed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .files import write_text

Row = dict[str, Any]
"""Scores of one study with one subset: study, patient, subset, refused (why there is no answer, or None) and
`<region>_<metric>`."""

FORMAT = 3
"""Goes up whenever the same answer would get other scores, or the same network would answer otherwise."""


def begun(path: Path, belongs_to: Mapping[str, Any]) -> dict[tuple[str, str], Row]:
    """The rows that are there, by study and subset; a new file if they belong to other weights or settings.

    A last line that an interruption has cut off is dropped.

    Args:
        belongs_to: plain values.
    """
    header = {"format": FORMAT, **belongs_to}
    whole = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    lines = [json.loads(line) for line in whole]
    if not lines or lines[0] != header:
        if lines:
            different = [key for key in {**header, **lines[0]} if lines[0].get(key) != header.get(key)]
            print(f"{path}: {len(lines) - 1} rows of another {', '.join(different)} are removed")
        lines = [header]
    write_text("".join(json.dumps(line) + "\n" for line in lines), path)
    return {(row["study"], row["subset"]): row for row in lines[1:]}


def append(row: Row, path: Path) -> None:
    """Add a row to what `begun` has opened."""
    with open(path, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def refusals(rows: list[Row]) -> list[dict[str, str]]:
    """study, subset and reason of each row that has no answer."""
    return [
        {"study": row["study"], "subset": row["subset"], "reason": row["refused"]} for row in rows if row["refused"]
    ]
