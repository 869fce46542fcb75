"""One typed configuration for prepare, train, eval and export: a YAML file plus dotted overrides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from MSTKDSegmenterLib.engine.sequences import SUBSETS, parse_subset, subset_name
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Where the studies come from and which are kept out of training."""

    source: Path = Path("../shared/data")  # holds brats_cases.tar.xz, brats20_patches.npz.xz, brats20_masks.npz.xz
    cache: Path = Path("cache/2mm")
    convention: str = "brats2021"
    spacing: PositiveFloat = 2.0  # mm, isotropic working grid
    held_out: tuple[str, ...] = ()
    # Patients that appear both among the whole studies and, under another name, among the patches.
    aliases: dict[str, str] = Field(default_factory=dict)


class AugmentConfig(Section):
    """Geometric and intensity augmentation; angles in radians, sizes in voxels of the working grid."""

    crop: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 80, 64)  # z, y, x
    rotation: NonNegativeFloat = 0.25
    scaling: NonNegativeFloat = 0.18
    shift: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (9.0, 10.0, 9.0)
    transplant: float = Field(0.75, ge=0, le=1)  # probability of pasting another patient's lesion at its own place
    healthy_share: float = Field(0.25, ge=0, le=1)  # share of transplants taken from a random place of another study
    feather: PositiveFloat = 2.0  # width of the blended seam


class SubsetConfig(Section):
    """How often each subset is shown. Uniform at first; from a step on, hard subsets may come more often."""

    weights: dict[str, PositiveFloat] = Field(default_factory=dict)  # subset name -> weight, 1 for the others
    from_step: int = Field(0, ge=0)

    @field_validator("weights")
    @classmethod
    def _known(cls, weights: dict[str, float]) -> dict[str, float]:
        return {subset_name(parse_subset(name)): weight for name, weight in weights.items()}

    def probabilities(self, step: int) -> list[float]:
        """Probability of each of SUBSETS at a step."""
        weights = [self.weights.get(subset_name(s), 1.0) if step >= self.from_step else 1.0 for s in SUBSETS]
        return [weight / sum(weights) for weight in weights]


class OptimConfig(Section):
    steps: PositiveInt = 10000
    batch: PositiveInt = 1
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    warm_up: PositiveInt = 200
    power: PositiveFloat = 0.9  # polynomial decay
    clip: PositiveFloat = 1.0  # largest gradient norm
    ema: float = Field(0.999, ge=0, lt=1)
    threads: PositiveInt = 2
    bf16: bool = True


class Config(Section):
    name: str
    size: str = "compact"
    seed: int = 0
    runs: Path = Path("runs")
    device: str = "cpu"
    checkpoint_every: PositiveInt = 250
    validate_every: PositiveInt = 1500
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    subsets: SubsetConfig = SubsetConfig()
    optim: OptimConfig = OptimConfig()

    @property
    def folder(self) -> Path:
        return self.runs / self.name


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file and apply overrides such as `optim.steps=100`.

    Raises:
        ValueError: an override has no '=', or a key or value does not fit the configuration (pydantic says which).
    """
    values: dict[str, Any] = yaml.safe_load(path.read_text()) or {}
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r}: expected key=value, for example optim.steps=100")
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = yaml.safe_load(text)
    return Config.model_validate(values)
