"""The presets of training/configs by name, wherever they lie there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkd_training.config import Config, load

CONFIGS = Path(__file__).resolve().parents[1] / "training" / "configs"


def preset(name: str, overrides: Sequence[str] = ()) -> Config:
    (path,) = CONFIGS.rglob(f"{name}.yaml")
    return load(path, overrides)
