"""The table of complaints speaks of files and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

TESTING = Path(__file__).parent
LIBRARY = TESTING.parent / "MSTKDSegmenter" / "MSTKDSegmenterLib"
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", (TESTING / "COMPLAINTS.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_all_twenty_are_answered() -> None:
    assert [int(number) for number, _row in ROWS] == list(range(1, 21))
    for number, row in ROWS:
        complaint, answer, where = (cell.strip() for cell in row.split("|"))
        assert complaint and answer and "`" in where, number


def test_every_file_and_test_that_is_named_exists() -> None:
    named = [name for _number, row in ROWS for name in re.findall(r"`([\w/]+\.py(?:::\w+)?)`", row)]
    assert len(named) > 40
    for name in named:
        file, _, test = name.partition("::")
        path = next((folder / file for folder in (LIBRARY, TESTING) if (folder / file).is_file()), None)
        assert path is not None, f"{file} is not there"
        assert not test or f"def {test}(" in path.read_text(encoding="utf-8"), f"{file} has no {test}"
