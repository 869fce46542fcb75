"""The chain that makes the release: its order, that what ends it ends what it has started, and what came of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mstkd_training.config import Config, load
from mstkd_training.model_card import document
from MSTKDSegmenterLib.engine import package

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
TRAINING = Path(__file__).resolve().parents[1] / "training"
RELEASE = TRAINING / "release.sh"

PYTHON = """#!/usr/bin/env bash
# in the place of Python: a training goes on until it is stopped, but one fold fails if it is asked to; the rest is done
echo "$*" >> calls
[ ! -e quick ] || exit 0
case "$*" in *train.py*) ;; *) exit 0 ;; esac
[ ! -e fails ] || case "$*" in *"--fold $(cat fails)"*) exit 2 ;; esac
touch "started$$"
exec sleep 60
"""


@pytest.fixture
def release(tmp_path: Path):
    """Starts it where all the rest is there, its first student too."""
    (tmp_path / "training" / "weights" / "dropout").mkdir(parents=True)
    (tmp_path / "training" / "weights" / "dropout" / "weights.safetensors").touch()
    shutil.copy(RELEASE, tmp_path / "training")
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        started.append(
            subprocess.Popen(
                ["bash", str(tmp_path / "training" / "release.sh")], env={**os.environ, "PYTHON": str(python)},
                start_new_session=True,
            )
        )  # fmt: skip
        return started[0]

    yield start
    for process in started:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def group_is_gone(process: subprocess.Popen) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("trainings", [1, 2])
def test_stopping_it_stops_the_trainings_that_it_has_started(release, trainings: int, tmp_path: Path) -> None:
    if trainings == 1:  # the first student is made alone
        (tmp_path / "training" / "weights" / "dropout" / "weights.safetensors").unlink()
    process = release()
    until(lambda: len(list(tmp_path.glob("started*"))) == trainings)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 130
    until(lambda: group_is_gone(process))


@pytest.mark.parametrize("fold", [1, 2])
def test_either_training_of_a_pair_that_fails_ends_it_and_the_other(release, fold: int, tmp_path: Path) -> None:
    (tmp_path / "fails").write_text(str(fold))
    process = release()
    assert process.wait(timeout=20) == 2
    until(lambda: group_is_gone(process))


def test_each_step_comes_after_what_it_needs(release, tmp_path: Path) -> None:
    (tmp_path / "quick").touch()
    assert release().wait(timeout=20) == 0
    done: list[tuple[str, str, str | None]] = []  # script, run and fold
    for call in (tmp_path / "calls").read_text().splitlines():
        script, _, path, *options = shlex.split(call)
        config = load(TRAINING / "configs" / Path(path).name)
        fold = options[options.index("--fold") + 1] if "--fold" in options else None
        done.append((Path(script).stem, config.name, fold))
        if done[-1][0] == "train" and config.start is not None:
            assert ("train", config.start, fold) in done[:-1]
    ends = [script for script, run, _ in done if run == shipped().name]
    assert ends == ["train"] * 4 + ["crossvalidate"] + ["eval"] * 3 + ["export"]


def test_what_ships_is_what_the_chain_ends_with_and_carries_what_was_measured_of_it() -> None:
    config = shipped()
    card = json.loads((package.default_folder() / "model.json").read_text(encoding="utf-8"))
    assert Config.model_validate(card["training"]["configuration"]) == config
    measured = TRAINING / "measured" / config.name
    record = json.loads((measured / "crossvalidation.json").read_text(encoding="utf-8"))
    fitted = record["calibration"]["all"]
    assert (card["temperatures"], card["calibration"]) == (fitted["temperatures"], fitted["curves"])
    assert {subset: card["thresholds"][subset] for subset in fitted["thresholds"]} == fitted["thresholds"]
    evaluations = [json.loads((measured / f"fold{number}" / "evaluation.json").read_text()) for number in range(3)]
    rows = [row for evaluation in evaluations for row in evaluation["rows"]]
    assert card["quality"]["measured_on"] == list(dict.fromkeys(row["study"] for row in rows))
    for subset, regions in card["quality"]["table"].items():
        for region, dice in regions.items():
            found = [row[f"{region}_dice"] for row in rows if row["subset"] == subset]
            assert dice == pytest.approx(sum(found) / 14, abs=1e-3)
    shipped_card = (package.default_folder() / "README.md").read_text(encoding="utf-8")
    assert shipped_card == document(package.load(package.default_folder()), rows, record["reliability"], True)


def shipped() -> Config:
    """The configuration that the chain exports last."""
    last = RELEASE.read_text(encoding="utf-8").splitlines()[-1]
    return load(TRAINING / "configs" / f"{last.split()[2]}.yaml")


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
