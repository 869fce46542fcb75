"""What the networks and the command cost on this machine, as a Markdown table: `make bench`.

Each row is measured in a process of its own, all on the same study and with the CPU settings of the command. This
process stays small: Linux counts the memory of a parent into the peak of its children.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
REAL_STUDY = HERE.parents[1] / "shared" / "data" / "original" / "BraTS2021_00495"
SEQUENCES = ("flair", "t1", "t1ce", "t2")
PAPER_SHAPE = (128, 192, 160)
"""z, y, x of the crop the paper's network takes, at 1 mm."""


@dataclass(frozen=True)
class Cost:
    """seconds and cpu_seconds of one forward pass or of the whole command; peak memory of the whole process, bytes."""

    seconds: float
    cpu_seconds: float
    peak: int


def measured(command: list[str]) -> tuple[Cost, str]:
    """Run a command to its end: its cost and what it printed. Raises CalledProcessError if it fails."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=output)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit), printed


def forward(size: str, shape: tuple[int, int, int], rounds: int) -> dict[str, float]:
    """Median seconds of a forward pass, after one that does not count. Runs in a child; random weights and input."""
    import torch
    from MSTKDSegmenterLib.engine.device import tune_cpu
    from MSTKDSegmenterLib.engine.network import SIZES, build

    tune_cpu()
    network = build(SIZES[size]).eval()
    images, present = torch.randn(1, 4, *shape), torch.ones(1, 4)
    wall, cpu = [], []
    with torch.inference_mode():
        for _ in range(rounds + 1):
            before = time.perf_counter(), time.process_time()
            network(images, present)
            wall.append(time.perf_counter() - before[0])
            cpu.append(time.process_time() - before[1])
    return {
        "seconds": statistics.median(wall[1:]),
        "cpu_seconds": statistics.median(cpu[1:]),
        "threads": torch.get_num_threads(),
    }


def measure_forward(size: str, shape: tuple[int, int, int], rounds: int) -> tuple[Cost, int]:
    """Cost of one pass, with the peak of the process that made it, and its number of threads."""
    arguments = [__file__, "--forward", size, "--shape", *map(str, shape), "--rounds", str(rounds)]
    process, printed = measured([sys.executable, *arguments])
    result = json.loads(printed)
    return Cost(result["seconds"], result["cpu_seconds"], process.peak), int(result["threads"])


def find_study(folder: Path) -> tuple[str, dict[str, Path]]:
    """Name and files of the study: the real one if it is there, otherwise a simulated one made in `folder`."""
    if REAL_STUDY.is_dir():
        return REAL_STUDY.name, {s: REAL_STUDY / f"{REAL_STUDY.name}_{s}.nii.gz" for s in SEQUENCES}
    subprocess.run([sys.executable, HERE / "phantom.py", folder / "study"], check=True, stdout=subprocess.DEVNULL)
    return "simulated study", {s: folder / "study" / f"phantom_{s}.nii.gz" for s in SEQUENCES}


def bench(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        name, files = find_study(Path(folder))
        given = [part for sequence, path in files.items() for part in (f"--{sequence}", str(path))]
        mstkd = str(Path(sys.executable).parent / "mstkd")
        result = Path(folder) / "result"
        load = os.getloadavg()[0]
        all_in, _ = measured([mstkd, "segment", *given, "-o", str(result), "--device", "cpu", "--quiet"])
        report = json.loads((result / "report.json").read_text(encoding="utf-8"))
    own_shape, own_spacing = tuple(report["box"]), report["harmonising"]["working_grid"]["spacing"][0]
    runs = "what the command runs" + (", and once more for the mirror image" if report["model"]["mirror"] else "")
    paper, threads = measure_forward("paper", PAPER_SHAPE, rounds)
    same, _ = measure_forward("compact", PAPER_SHAPE, rounds)
    own, _ = measure_forward("compact", own_shape, rounds)
    rows = {
        f"`paper`, one forward pass, {_size(PAPER_SHAPE)} at 1 mm": paper,
        f"`compact`, one forward pass, {_size(PAPER_SHAPE)} at 1 mm": same,
        f"`compact`, one forward pass, {_size(own_shape)} at {own_spacing:g} mm ({runs})": own,
        "`mstkd segment`, start to files written, four sequences": all_in,
    }
    print(f"{name}; {_cpu()}, {threads} threads for PyTorch; load average before: {load:.1f}\n")
    if load > 1:
        print("The machine was busy just before: rather trust the CPU times.\n")
    print("| | time (s) | CPU time (s) | peak memory (MB) | time : `paper` | CPU time : `paper` |")
    print("|---|---:|---:|---:|---:|---:|")
    for what, cost in rows.items():
        print(
            f"| {what} | {cost.seconds:.2f} | {cost.cpu_seconds:.2f} | {cost.peak / 1e6:.0f} "
            f"| {cost.seconds / paper.seconds:.2f} | {cost.cpu_seconds / paper.cpu_seconds:.2f} |"
        )
    print(f"\nForward passes: median of {rounds} after one that does not count, random weights; x, y, z voxels.")
    grids, tensor = paper.seconds / own.seconds, paper.seconds / same.seconds
    print(f"`compact` is {grids:.1f} times as fast as `paper` on its own grid, {tensor:.1f} times on the same tensor.")


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, reversed(shape)))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return ", ".join(sorted(models)) or platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the networks and the command.")
    parser.add_argument("--rounds", type=int, default=3, help="forward passes that count")
    parser.add_argument("--forward", choices=("paper", "compact"), help=argparse.SUPPRESS)
    parser.add_argument("--shape", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.forward:
        print(json.dumps(forward(options.forward, tuple(options.shape), options.rounds)))
    else:
        bench(options.rounds)


if __name__ == "__main__":
    main()
