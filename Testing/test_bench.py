"""The benchmark measures what it says. No test here depends on how fast the machine is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import bench
import pytest

MEGABYTE = 1_000_000


def test_the_peak_memory_is_that_of_the_child() -> None:
    # in a process of its own: Linux counts what the parent occupies into the peak, and this one holds PyTorch
    program = """
import sys, bench
for code in ("pass", "bytearray(b'x') * 300_000_000"):
    print(bench.measured([sys.executable, "-c", code])[0].peak)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(bench.__file__).parent,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    small, large = map(int, done.stdout.split())
    assert 250 * MEGABYTE < large - small < 350 * MEGABYTE


def test_waiting_costs_time_and_no_cpu_time_working_costs_both() -> None:
    waiting, _ = bench.measured([sys.executable, "-c", "import time; time.sleep(0.5)"])
    working, _ = bench.measured([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"])
    assert waiting.seconds >= 0.5 > waiting.cpu_seconds
    assert min(working.seconds, working.cpu_seconds) >= 0.5


def test_a_command_that_fails_is_no_measurement() -> None:
    with pytest.raises(subprocess.CalledProcessError, match="status 3"):
        bench.measured([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_forward_pass_is_measured_in_a_process_of_its_own() -> None:
    cost, threads = bench.measure_forward("compact", (32, 32, 32), rounds=1)
    assert cost.seconds > 0 and cost.cpu_seconds > 0 and threads >= 1
    assert cost.peak > 100 * MEGABYTE  # torch alone takes more


def test_without_the_real_study_a_simulated_one_is_named_as_such(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(bench, "REAL_STUDY", tmp_path / "absent")
    monkeypatch.setattr(bench.subprocess, "run", lambda *_, **__: None)  # making it takes a while: test_phantom.py
    name, files = bench.find_study(tmp_path)
    assert name == "simulated study"
    assert set(files) == set(bench.SEQUENCES)
