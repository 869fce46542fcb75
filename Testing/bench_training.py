"""What one training step costs by preset, and how the terms share the total: part of `make bench`.

Both presets on the same networks (the size that ships) and the same crop, random images, each in its own process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import bench
import torch
from mstkd_training.config import Config, load
from mstkd_training.distillation import StepResult
from mstkd_training.trainer import Trainer
from MSTKDSegmenterLib.engine.regions import CLASSES

CONFIGS = Path(__file__).resolve().parents[1] / "training" / "configs"
PRESETS = ("official", "corrected")
CROP = (64, 80, 64)
THREADS = 2


def configuration(preset: str, bf16: bool) -> Config:
    overrides = ["size=compact", f"optim.bf16={bf16}".lower(), f"optim.threads={THREADS}"]
    return load(CONFIGS / f"{preset}.yaml", overrides)


def step(preset: str, rounds: int, bf16: bool) -> dict[str, object]:
    """Median seconds of a step after one that does not count, and the shares at that first step. Runs in a child."""
    trainer = Trainer(configuration(preset, bf16))
    labels = torch.randint(0, len(CLASSES), (1, *CROP))
    batch = {"image": torch.randn(1, 4, *CROP), "present": torch.tensor([[1.0, 0.0, 0.0, 1.0]]), "labels": labels}
    shares: dict[str, float] = {}

    def inspect(result: StepResult, _: dict[str, float]) -> None:
        # at full weight, or the term that ramps up would look like nothing
        weights = trainer.config.terms.weights(trainer.config.optim.steps)
        values = {name: weights[name] * value.item() for name, value in result.terms.items()}
        shares.update({name: value / sum(values.values()) for name, value in values.items()})

    trainer.train_step([batch], inspect)
    seconds = []
    for _ in range(rounds):
        before = time.perf_counter()
        trainer.train_step([batch])
        if trainer.world.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - before)
    device = trainer.world.device
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"seconds": statistics.median(seconds), "shares": shares, "device": device.type, "device_peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a training step of two presets.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step", choices=PRESETS, help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        print(json.dumps(step(options.step, options.rounds, options.bf16)))
        return
    rows, shares = [], {}
    for bf16 in (False, True):
        for preset in PRESETS:
            command = [sys.executable, __file__, "--step", preset, "--rounds", str(options.rounds)]
            cost, printed = bench.measured(command + ["--bf16"] * bf16)
            result = json.loads(printed.splitlines()[-1])
            shares[preset] = result["shares"]
            peak = result["device_peak"] or cost.peak
            rows.append((preset, "bf16" if bf16 else "fp32", result["seconds"], peak, result["device"]))
    size = " x ".join(map(str, reversed(CROP)))
    print(f"One training step (joint teacher and student of the compact size, crop {size}, batch 1, {rows[0][4]}):\n")
    print("| preset | precision | time (s) | steps per s | peak memory (MB) | time : official fp32 |")
    print("|---|---|---:|---:|---:|---:|")
    for preset, precision, seconds, peak, _ in rows:
        ratio = seconds / rows[0][2]
        print(f"| `{preset}` | {precision} | {seconds:.2f} | {1 / seconds:.2f} | {peak / 1e6:.0f} | {ratio:.2f} |")
    print("\nShare of each term in the total at the first step, every term at its full weight:\n")
    print("| term | " + " | ".join(f"`{preset}`" for preset in PRESETS) + " |")
    print("|---|" + "---:|" * len(PRESETS))
    for name in shares["corrected"]:
        print(f"| {name} | " + " | ".join(f"{shares[preset][name]:.2%}" for preset in PRESETS) + " |")


if __name__ == "__main__":
    main()
