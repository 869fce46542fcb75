"""Two processes that accumulate, with a discriminator that learns beside the networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import cache, checkpoint, splits
from mstkd_training.config import Config

TRAIN = Path(__file__).resolve().parents[1] / "training" / "train.py"
SIDE = 24


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    """One step with the discriminator, which needs crops of 64; the other terms of the distillation cost time."""
    for number, patient in enumerate(("a", "b", "t")):
        rng = np.random.default_rng(number)
        brain = np.pad(np.ones((SIDE - 4,) * 3, dtype=bool), 2)
        labels = np.where(brain, rng.integers(0, 4, size=brain.shape), 3).astype(np.uint8)
        image = (rng.normal(size=(4, *brain.shape)) * brain).astype(np.float16)
        sample = cache.Sample(patient, image, brain, labels, np.zeros(3))
        cache.save(sample, tmp_path / "cache" / "studies" / f"{patient}.npz")
    (tmp_path / "cache" / "fingerprint.json").write_text(json.dumps({"names": ["a", "b", "t"]}))
    values = {
        "name": "tiny", "runs": str(tmp_path / "runs"), "device": "cpu",
        "network": {
            "width": 8, "blocks": [1, 1, 1, 1], "dropout": 0.0,  # dropout is not the same in several processes
            "transformer": {"width": 16, "heads": 2, "mlp": 16, "grid": [2, 2, 2], "dropout": 0.0},
        },
        "data": {"cache": str(tmp_path / "cache"), "held_out": ["t"], "patches": False},
        "augment": {"crop": [64, 64, 64], "shift": [1, 1, 1], "intensity": False},
        "teacher": {"kind": "ema"},
        "terms": {
            **{name: {"weight": 0} for name in ("consistency", "content", "multiscale", "extreme_value", "logit_kl")},
            "adversarial": {"weight": 0.01},
        },
        "optim": {"workers": 0, "steps": 1, "warm_up": 1, "threads": 1, "bf16": False},
    }  # fmt: skip
    config = Config.model_validate(values)
    splits.write(splits.make(["a", "b", "t"], config), config)
    return values


def trained(settings: dict, name: str, processes: int, **optim: int) -> dict:
    """The checkpoint after a run of train.py by that many processes."""
    path = Path(settings["runs"]).parent / f"{name}.yaml"
    path.write_text(yaml.safe_dump({**settings, "name": name, "optim": {**settings["optim"], **optim}}))
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TENSORBOARD_NO_TF": "1"}
    command = [sys.executable, *launcher, str(TRAIN), "--config", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return checkpoint.load(Path(settings["runs"]) / name / "checkpoint.pt")


def first_moments(optimizer: dict) -> list[torch.Tensor]:
    """Adam's averages after one step: a tenth of the gradient, which unlike the step tells large from small."""
    return [entry["exp_avg"] for _, entry in sorted(optimizer["state"].items())]


def test_processes_and_accumulation_together_take_the_step_of_one_large_batch(settings: dict) -> None:
    one = trained(settings, "one", processes=1, batch=4)
    many = trained(settings, "many", processes=2, batch=1, accumulate=2)
    assert len(many["random"]) == 2
    for optimizer in ("optimizer", "discriminator_optimizer"):
        wanted, found = first_moments(one[optimizer]), first_moments(many[optimizer])
        largest = max(value.abs().max().item() for value in wanted)
        assert largest > 0
        assert len(wanted) == len(found)
        for a, b in zip(wanted, found):
            # what the quick kernel (backend.pad_in_depth) adds up for a bias that GroupNorm takes away again is noise
            exact = 1e-4 if a.ndim > 1 else 1e-3
            assert torch.allclose(a, b, atol=exact * largest), optimizer
