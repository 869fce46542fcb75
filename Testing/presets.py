"""The presets of training/configs by name, wherever they lie there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mstkd_training.config import Config, load

CONFIGS = Path(__file__).resolve().parents[1] / "training" / "configs"


def preset(name: str, overrides: Sequence[str] = ()) -> Config:
    """A preset, with overrides as load takes them.

    Raises:
        ValueError: there is no such preset.
    """
    paths = {path.stem: path for path in CONFIGS.rglob("*.yaml")}
    if name not in paths:
        raise ValueError(f"preset {name!r}: expected one of {', '.join(sorted(paths))}")
    return load(paths[name], overrides)
