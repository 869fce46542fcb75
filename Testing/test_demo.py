"""The demonstration goes all the way: study, command, scores, picture. Coarser than `make demo` to be quick."""

from __future__ import annotations

import re
from pathlib import Path

import demo
import numpy as np
import pytest
from phantom import make_study


def test_dice_follows_its_definition() -> None:
    first, second = np.array([1, 1, 1, 0], bool), np.array([0, 1, 1, 0], bool)
    nothing = np.zeros(4, bool)
    assert demo.dice(first, second) == pytest.approx(2 * 2 / (3 + 2))
    assert demo.dice(nothing, nothing) == 1.0
    assert demo.dice(first, nothing) == 0.0


def test_the_hidden_sequences_are_not_given_and_the_tumour_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo, "FOLDER", tmp_path / "demo")
    monkeypatch.setattr(demo, "make_study", lambda: make_study(spacing=2.0))
    assert demo.main() == 0
    printed = capfd.readouterr().out
    command = next(line for line in printed.splitlines() if line.startswith("$"))
    assert "phantom_flair" in command and "phantom_t2" in command and "phantom_t1" not in command
    score, found, truth = map(float, re.search(r"^WT\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)$", printed, re.M).groups())
    assert score > 0.6  # the model does its job, on a tumour that is easy to see
    assert 0.4 < found / truth < 2.5
    for name in ("result/segmentation.seg.nrrd", "result/labels.nii.gz", "result/report.json", "demo.png"):
        assert (tmp_path / "demo" / name).stat().st_size > 1000, name
