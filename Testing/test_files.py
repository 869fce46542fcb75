"""Files are there whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import torch
from mstkd_training import checkpoint
from mstkd_training.files import atomically, write_text


def test_what_is_interrupted_leaves_the_file_as_it_was_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "config.json"
    write_text("before", path)
    with pytest.raises(KeyboardInterrupt), atomically(path) as partial:
        partial.write_text("half of what ca")
        raise KeyboardInterrupt
    assert path.read_text() == "before"
    assert list(path.parent.iterdir()) == [path]


def test_two_files_that_differ_in_their_ending_alone_can_be_written_at_once(tmp_path: Path) -> None:
    with atomically(tmp_path / "run.json") as one, atomically(tmp_path / "run.csv") as other:
        one.write_text("json")
        other.write_text("csv")
    assert [(tmp_path / name).read_text() for name in ("run.json", "run.csv")] == ["json", "csv"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save({"step": 1, "weights": torch.ones(3)}, path)
    with pytest.raises(Exception, match="pickle"):
        checkpoint.save({"step": 2, "weights": lambda: None}, path)
    assert checkpoint.load(path)["step"] == 1
    assert list(tmp_path.iterdir()) == [path]
