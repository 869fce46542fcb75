"""The picture of a run's TensorBoard curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorboard", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import curves
from mstkd_training.config import Config
from mstkd_training.log import Log

SCORES = {"FLAIR": {"WT": 0.8, "TC": 0.5, "ET": 0.4}, "T1": {"WT": 0.6, "TC": 0.3, "ET": 0.2}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Logged by a run that got to step 60, and was continued from step 40 with other values."""
    config = Config.model_validate({"name": "run", "runs": str(tmp_path)})
    for start, end, value in ((0, 60, 1.0), (40, 80, 3.0)):
        with Log(config, start) as log:
            for step in range(start + 1, end + 1):
                log.step(step, {"loss": value})
            log.validation(end, SCORES, np.zeros((8, 8, 3), np.uint8))
    return config.folder / "tensorboard"


def test_of_steps_that_were_repeated_after_an_interruption_the_later_values_count(folder: Path) -> None:
    found = curves.read(folder)
    steps, values = found["training/loss"]
    assert steps.tolist() == list(range(1, 81))
    assert values.tolist() == [1.0] * 40 + [3.0] * 40
    steps, values = found["validation/WT"]
    assert steps.tolist() == [60, 80]
    assert values == pytest.approx([0.7, 0.7])


def test_a_curve_is_smoothed_by_medians_which_one_wild_step_does_not_move() -> None:
    values = np.ones(300)
    values[7] = 1e6
    steps, smooth = curves.medians(np.arange(300), values)
    assert smooth.tolist() == [1.0] * curves.WINDOWS
    assert steps[0] == np.median(np.arange(10))


def test_the_picture_is_drawn(folder: Path, tmp_path: Path) -> None:
    assert curves.logged(folder)
    curves.draw(folder, "run", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_values_that_are_not_finite_are_left_out_of_the_picture(tmp_path: Path) -> None:
    config = Config.model_validate({"name": "run", "runs": str(tmp_path)})
    with Log(config, 0) as log:
        for step, gradient in enumerate((1.0, float("nan"), float("inf"), 2.0)):
            log.step(step, {"gradient": gradient, "loss": float("nan")})
    curves.draw(config.folder / "tensorboard", "run", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_a_run_that_has_logged_nothing_is_named(tmp_path: Path) -> None:
    assert not curves.logged(tmp_path)
    with pytest.raises(FileNotFoundError, match="train the run first"):
        curves.draw(tmp_path, "run", tmp_path / "curves.png")
