"""What one training step costs by preset, and how the terms share the total: part of `make bench`.

All presets on the same networks (the size that ships, unless told otherwise) and the same crop, random images, each in
its own process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time

import bench
import presets
import torch
from mstkd_training import backend
from mstkd_training.config import Config
from mstkd_training.distillation import StepResult
from mstkd_training.distributed import join
from mstkd_training.learner import Learner
from MSTKDSegmenterLib.engine.regions import CLASSES

PRESETS = ("official", "corrected")
SIZE = "compact"
CROP = (64, 80, 64)  # z, y, x
THREADS = 2


def configuration(preset: str, options: argparse.Namespace) -> Config:
    overrides = [f"size={options.size}", f"optim.bf16={options.bf16}".lower(), f"optim.threads={THREADS}"]
    overrides.append(f"augment.crop={list(options.crop)}")
    return presets.preset(preset, overrides)


def step(preset: str, options: argparse.Namespace) -> dict[str, object]:
    """Median seconds of a step after one that does not count, and the shares at that first step. Runs in a child."""
    config = configuration(preset, options)
    learner = Learner(config, join(config.device))
    labels = torch.randint(0, len(CLASSES), (1, *options.crop))
    image, present = torch.randn(1, 4, *options.crop), torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    batch = {"image": image, "present": present, "labels": labels}
    shares: dict[str, float] = {}

    def inspect(result: StepResult, _: dict[str, float]) -> None:
        # at full weight, or the term that ramps up would look like nothing
        weights = config.terms.weights(config.optim.steps)
        values = {name: weights[name] * value.item() for name, value in result.terms.items()}
        shares.update({name: value / sum(values.values()) for name, value in values.items()})

    learner.train_step([batch], inspect)
    seconds = []
    for _ in range(options.rounds):
        before = time.perf_counter()
        learner.train_step([batch])
        if learner.world.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - before)
    device = learner.world.device
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"seconds": statistics.median(seconds), "shares": shares, "device": device.type, "device_peak": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure a training step of some presets.")
    parser.add_argument("presets", nargs="*", default=PRESETS, help=f"default: {' '.join(PRESETS)}")
    parser.add_argument("--size", default=SIZE, help="of all networks; default: %(default)s")
    parser.add_argument("--crop", type=int, nargs=3, default=CROP, metavar=("Z", "Y", "X"), help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--bf16", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(step(options.presets[0], options)))
        return
    rows, shares = [], {}
    given = ["--child", "--size", options.size, "--crop", *map(str, options.crop), "--rounds", str(options.rounds)]
    precisions = (False, True) if torch.cuda.is_available() or backend.cpu_has_bf16() else (False,)
    for bf16 in precisions:
        for preset in options.presets:
            cost, printed = bench.measured([sys.executable, __file__, preset, *given, *["--bf16"] * bf16])
            result = json.loads(printed.splitlines()[-1])
            shares[preset] = result["shares"]
            peak = result["device_peak"] or cost.peak
            rows.append((preset, "bf16" if bf16 else "fp32", result["seconds"], peak, result["device"]))
    if True not in precisions:
        print("No GPU, and no bfloat16 on this processor: float32 only.\n")
    crop = " x ".join(map(str, reversed(options.crop)))
    print(f"One training step (all networks of the {options.size} size, crop {crop}, batch 1, {rows[0][4]}):\n")
    print(f"| preset | precision | time (s) | steps per s | peak memory (MB) | time : {rows[0][0]} {rows[0][1]} |")
    print("|---|---|---:|---:|---:|---:|")
    for preset, precision, seconds, peak, _ in rows:
        ratio = seconds / rows[0][2]
        print(f"| `{preset}` | {precision} | {seconds:.2f} | {1 / seconds:.2f} | {peak / 1e6:.0f} | {ratio:.2f} |")
    print("\nShare of each term in the total at the first step, every term at its full weight:\n")
    print("| term | " + " | ".join(f"`{preset}`" for preset in options.presets) + " |")
    print("|---|" + "---:|" * len(options.presets))
    for name in max(shares.values(), key=len):
        print(f"| {name} | " + " | ".join(f"{shares[p].get(name, 0):.2%}" for p in options.presets) + " |")


if __name__ == "__main__":
    main()
