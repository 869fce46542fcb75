"""The chain that makes the release: what ends it ends the trainings that it has started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a bash script")
RELEASE = Path(__file__).resolve().parents[1] / "training" / "release.sh"

PYTHON = """#!/usr/bin/env bash
# in the place of Python: a training goes on until it is stopped, but one fold fails if it is asked to; the rest is done
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


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
