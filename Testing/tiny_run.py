"""A training run of few voxels, for tests: four prepared patients and the configuration that goes with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from mstkd_training import cache, splits
from mstkd_training.config import Config
from mstkd_training.files import write_text
from mstkd_training.trainer import Trainer

NETWORK = {
    "width": 8, "blocks": [1, 1, 1, 1], "dropout": 0.0,
    "transformer": {"width": 16, "heads": 2, "mlp": 16, "grid": [2, 2, 2], "dropout": 0.0},
}  # fmt: skip
PATIENTS = ("a", "b", "v", "t")
"""a, b to train with, v to validate, t to test."""


def sample(seed: int, patient: str, side: int = 24) -> cache.Sample:
    rng = np.random.default_rng(seed)
    brain = np.zeros((side,) * 3, dtype=bool)
    brain[2:-2, 2:-2, 2:-2] = True
    labels = np.where(brain, rng.integers(0, 4, size=brain.shape), 3).astype(np.uint8)
    image = (rng.normal(size=(4, *brain.shape)) * brain).astype(np.float16)
    return cache.Sample(patient, image, brain, labels, np.zeros(3))


def settings(folder: Path) -> dict[str, Any]:
    """Values for a configuration, as a file would have them; the data are prepared in `folder`."""
    for number, patient in enumerate(PATIENTS):
        cache.save(sample(number, patient), folder / "cache" / "studies" / f"{patient}.npz")
    values = {
        "name": "tiny", "runs": str(folder / "runs"), "network": NETWORK, "device": "cpu",
        "data": {
            "cache": str(folder / "cache"), "held_out": ["t"], "validation": ["v"], "patches": False,
        },
        "augment": {"crop": [32, 32, 32], "shift": [1, 1, 1]},
        "terms": {"adversarial": {"weight": 0}},
        "validation": {"every": 100, "subsets": 1},
        # not bf16: its convolution gradients on a 2x2x2 bottleneck hold garbage now and then (oneDNN, torch 2.13)
        "optim": {"steps": 4, "warm_up": 1, "threads": 1, "bf16": False, "learning_rate": 0.001},
    }  # fmt: skip
    config = Config.model_validate(values)
    divide(config)
    write_text(json.dumps({"names": list(PATIENTS)}), config.data.cache / "fingerprint.json")
    return values


def divide(config: Config) -> None:
    """Write the splits, as prepare.py does."""
    splits.write(splits.make(PATIENTS, config), config)


def configuration(values: dict[str, Any], **changes: object) -> Config:
    return Config.model_validate({**values, **changes})


def fit_and_stop(trainer: Trainer, step: int) -> None:
    """Train, asked to stop after a step as a signal would."""
    original = trainer.learner.train_step

    def stopping(*arguments: object) -> dict:
        values = original(*arguments)
        trainer.stop = trainer.learner.step == step
        return values

    trainer.learner.train_step = stopping
    trainer.fit()
