"""One typed configuration for prepare, train, eval and export: a YAML file plus dotted overrides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from MSTKDSegmenterLib.engine.sequences import SUBSETS, parse_subset, subset_name
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

Formula = Literal["official", "corrected"]
CONVENTION = {
    "archive": "brats2021",
    "brats2021": "brats2021",
    "fets2024": "brats2021",
    "brats2023": "brats2023",
    "brats2024": "brats2024",
}
"""Label convention by layout on disk."""


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(Section):
    """Where the studies come from, how they are labelled, and which are kept out of training."""

    # Studies in folders of their own (layout), or the archives brats_cases.tar.xz, brats20_patches.npz.xz and
    # brats20_masks.npz.xz (layout "archive").
    source: Path = Path("../shared/data")
    layout: Literal["archive", "brats2024", "brats2023", "fets2024", "brats2021"] = "archive"
    cache: Path = Path("cache/2mm")
    spacing: PositiveFloat = 2.0  # mm, isotropic working grid
    # Patients of the test set. Empty: the splits that prepare.py writes say so (share of patients, by seed).
    held_out: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    omitted: tuple[str, ...] = ()  # nothing is learnt from these, though they may test in a fold: for learning curves
    test_share: float = Field(0.2, ge=0, lt=1)
    validation_share: float = Field(0.1, ge=0, lt=1)
    split_seed: int = 0  # not the training's: runs of several seeds share their splits
    splits: str = "splits"  # name of the file in the cache: one cache serves several ways to divide its patients
    folds: tuple[tuple[str, ...], ...] = ()  # patients that test in turn, see Config.of_fold
    patches: bool = True  # lesion patches of further patients to transplant (layout "archive" has some)
    synthetic: float = Field(0.0, ge=0, le=1)  # share of training items that are synthetic studies (needs 2 mm)
    synthetic_pool: PositiveInt = 400  # how many different ones; made when first wanted, then kept in the cache
    in_memory: float = Field(1.0, ge=0, le=1)  # share of the prepared studies that is kept in memory
    workers: PositiveInt = 1  # processes that prepare.py works with
    skip_bad: bool = False  # leave out cases that cannot be used, instead of refusing the whole data set
    # Patients that appear under two names: name -> the other one. Those of the archives are known, see identity.py.
    aliases: dict[str, str] = Field(default_factory=dict)

    @property
    def convention(self) -> str:
        """Label convention of the layout, see engine.regions."""
        return CONVENTION[self.layout]


class AugmentConfig(Section):
    """Geometric and intensity augmentation; angles in radians, sizes in voxels of the working grid."""

    crop: tuple[PositiveInt, PositiveInt, PositiveInt] = (64, 80, 64)  # z, y, x
    affine: float = Field(1.0, ge=0, le=1)  # share of items that are turned, scaled and shifted, which blurs them
    rotation: NonNegativeFloat = 0.25
    scaling: NonNegativeFloat = 0.18
    shift: tuple[NonNegativeFloat, NonNegativeFloat, NonNegativeFloat] = (9.0, 10.0, 9.0)
    flips: tuple[Literal["x", "y", "z"], ...] = ("x",)  # axes mirrored half of the time; x is left to right
    focus: float = Field(0.0, ge=0, le=1)  # share of crops around tumour, the others around any brain; 0: the middle
    transplant: float = Field(0.75, ge=0, le=1)  # probability of pasting another patient's lesion at its own place
    transplants: PositiveInt = 1  # most lesions pasted into one study
    healthy_share: float = Field(0.25, ge=0, le=1)  # share of transplants taken from a random place of another study
    varied: float = Field(0.0, ge=0, le=1)  # share of pasted lesions of another size, side and contrast, see donors.py
    healed: float = Field(0.0, ge=0, le=1)  # share of studies with the other half of the brain in place of tumour
    feather: PositiveFloat = 2.0  # width of the blended seam
    intensity: bool = True  # contrast, bias field, blur and noise, each sequence on its own


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


class Term(Section):
    """One term of the loss: its weight, reached after `ramp_up` steps along 'exp(-5 (1 - t)^2)'."""

    weight: NonNegativeFloat
    ramp_up: int = Field(0, ge=0)

    def at(self, step: int) -> float:
        """Weight at a step (Laine and Aila, Temporal ensembling, ICLR 2017)."""
        progress = min(step / self.ramp_up, 1.0) if self.ramp_up else 1.0
        return self.weight * math.exp(-5.0 * (1.0 - progress) ** 2)


class TermsConfig(Section):
    """The terms of the objective; a weight of 0 takes a term out and it is not computed."""

    teacher_segmentation: Term = Term(weight=0.4)
    segmentation: Term = Term(weight=0.6)
    consistency: Term = Term(weight=10.0, ramp_up=2000)
    content: Term = Term(weight=0.2)
    multiscale: Term = Term(weight=0.05)  # MST
    extreme_value: Term = Term(weight=0.05)  # EVD
    gram: Term = Term(weight=0.02)  # GSME, the matching half
    adversarial: Term = Term(weight=2e-4)  # GSME, the discriminator's half
    logit_kl: Term = Term(weight=1.0)  # SLKD
    logit_mse: Term = Term(weight=0.0)

    def weights(self, step: int) -> dict[str, float]:
        """Name -> weight at a step, without the terms that are off."""
        terms = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: term.at(step) for name, term in terms.items() if term.weight > 0}


class FormulasConfig(Section):
    """What the released code computes ("official") and what was meant ("corrected"), formula by formula."""

    segmentation: Formula = "corrected"  # official: four sigmoids, Dice that gives absent classes no gradient
    background: Formula = "corrected"  # official: the student's background terms are computed from the teacher
    content: Formula = "corrected"  # official: absolute squares, which grow without bound with the features
    multiscale: Formula = "corrected"  # official: the same
    extreme_value: Formula = "corrected"  # official: a fixed factor of 1e8, right for 120 tokens alone
    gram: Formula = "corrected"  # official: divided until nothing is left of it
    logit_axis: Formula = "corrected"  # official: logits standardised along depth instead of the classes
    temperature: PositiveFloat = 7.0
    discriminator_optimiser: Formula = "corrected"  # official: a new one every step, so it never has moments

    @model_validator(mode="after")
    def _possible(self) -> FormulasConfig:
        if self.background == "official" and self.segmentation != "official":
            raise ValueError(
                "formulas.background 'official' with formulas.segmentation 'corrected': only the official segmentation "
                "loss has a background term of its own; set both to official, or background to corrected"
            )
        return self


class TeacherConfig(Section):
    """Who teaches.

    joint: trained beside the student. frozen: the student of an earlier run, or those of several, which answer together
    (see ensemble.py). ema: the student's own average, which sees all sequences. none: nobody, the student learns from
    the labels alone.
    """

    kind: Literal["none", "joint", "frozen", "ema"] = "joint"
    size: str | None = None  # the student's, if not given
    run: tuple[str, ...] = ()  # frozen: name of the run under `runs`, or a list of several
    gradients: bool = False  # whether distillation terms pull at a joint teacher as well

    @field_validator("run", mode="before")
    @classmethod
    def _several(cls, run: object) -> object:
        """One can be named without a list; runs and packages of before there could be several say so, or null."""
        return () if run is None else (run,) if isinstance(run, str) else run

    @model_validator(mode="after")
    def _complete(self) -> TeacherConfig:
        if (self.kind == "frozen") != bool(self.run):
            raise ValueError(
                f"teacher.kind {self.kind!r} with teacher.run {list(self.run)}: a frozen teacher needs a run, and no "
                "other has one"
            )
        if len(set(self.run)) < len(self.run):
            raise ValueError(f"teacher.run {list(self.run)}: the same run twice, name each once")
        if self.kind == "ema" and self.size is not None:
            raise ValueError("teacher.size with an ema teacher: it is the average of the student, leave the size out")
        if self.kind == "frozen" and self.size is not None:
            raise ValueError("teacher.size with a frozen teacher: it has the size of its run, leave the size out")
        if self.kind == "none" and self.size is not None:
            raise ValueError("teacher.size without a teacher: leave the size out, or choose teacher.kind")
        if self.kind != "joint" and self.gradients:
            raise ValueError(
                f"teacher.gradients with teacher.kind {self.kind!r}: only a joint one has gradients, set it to false"
            )
        return self


class OptimConfig(Section):
    optimiser: Literal["adamw", "adam"] = "adamw"  # adam: weight decay as a part of the gradient, as released
    steps: PositiveInt = 10000
    batch: PositiveInt = 1  # per process and micro-step
    accumulate: PositiveInt = 1  # micro-steps per step
    learning_rate: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 1e-2
    discriminator_rate: PositiveFloat = 1e-4
    warm_up: PositiveInt = 200
    power: PositiveFloat = 0.9  # polynomial decay
    clip: PositiveFloat = 1.0  # largest gradient norm
    ema: float = Field(0.999, ge=0, lt=1)  # of the student, which is what is validated and exported; 0: itself
    threads: PositiveInt = 2
    workers: NonNegativeInt = 1  # processes that make the samples; 0: the training process does
    bf16: bool = True
    channels_last: bool = False  # channels side by side in memory, on a GPU only, see backend.layout
    deterministic: bool = False  # sums in a fixed order where PyTorch has that, at the cost of speed


class ValidationConfig(Section):
    every: PositiveInt = 1500
    subsets: int = Field(15, ge=1, le=15)  # per study, chosen by a schedule that does not change between validations
    only: tuple[str, ...] = ()  # names of the subsets to choose from, if not all; a teacher is judged by what it sees

    @field_validator("only")
    @classmethod
    def _known(cls, only: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(subset_name(parse_subset(name)) for name in only)


class Config(Section):
    name: str
    fold: int | None = None  # set by of_fold
    size: str = "compact"
    init: Path | None = None  # folder of a model package whose weights the student starts from
    init_folds: tuple[Path, ...] = ()  # packages that the folds start from in place of it, in the order of data.folds
    start: str | None = None  # or name of a run under `runs` that it goes on from; a fold from that run's same fold
    network: dict[str, Any] = Field(default_factory=dict)  # changes to the size, e.g. {width: 8, transformer: null}
    start_share: float = Field(0, ge=0, lt=1)  # of the weights it started from in those that are measured and exported
    mirror: bool = False  # whether the package looks at the image mirrored left to right too
    tile: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None  # z, y, x voxels seen at once; None: all
    seed: int = 0
    runs: Path = Path("runs")
    device: str = "auto"
    checkpoint_every: PositiveInt = 250
    log_gradients_every: PositiveInt = 250
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    subsets: SubsetConfig = SubsetConfig()
    teacher: TeacherConfig = TeacherConfig()
    terms: TermsConfig = TermsConfig()
    formulas: FormulasConfig = FormulasConfig()
    optim: OptimConfig = OptimConfig()
    validation: ValidationConfig = ValidationConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        data = self.data
        if data.folds and self.fold is None and (data.held_out or data.test_share or data.validation_share):
            raise ValueError(
                "data.folds with data.held_out, data.test_share or data.validation_share: with folds everybody tests "
                "once; leave data.held_out empty and set both shares to 0"
            )
        if len({name for fold in data.folds for name in fold}) < sum(map(len, data.folds)):
            raise ValueError("data.folds names a patient twice: everybody tests once")
        if self.fold is not None and [data.held_out] != list(data.folds)[self.fold : self.fold + 1]:
            raise ValueError(f"fold={self.fold}: ask for it with --fold {self.fold}, which keeps its patients apart")
        if self.init is not None and self.start is not None:
            raise ValueError(f"init={self.init} with start={self.start}: the student starts from one of them")
        if self.init_folds and (self.init is None or len(self.init_folds) != len(data.folds)):
            raise ValueError(
                f"init_folds has {len(self.init_folds)} packages for {len(data.folds)} folds, and init is {self.init}: "
                "give one for each fold, and init for the run of everybody"
            )
        if self.start_share and self.init is None and self.start is None:
            raise ValueError(f"start_share={self.start_share:g} without init or start: there is nothing to share with")
        if not self.terms.segmentation.weight:
            raise ValueError("terms.segmentation.weight is 0: the student has to learn from the labels")
        if self.teacher.kind == "joint" and not self.terms.teacher_segmentation.weight:
            raise ValueError("terms.teacher_segmentation.weight is 0: a joint teacher would learn nothing")
        return self

    @property
    def folder(self) -> Path:
        """Where the run is; folds of a cross-validation are within the run that learns from all."""
        return self.runs / self.name / ("" if self.fold is None else f"fold{self.fold}")

    def folder_of(self, run: str) -> Path:
        """Of another run that this one builds on; a fold builds on the same fold of it."""
        return self.model_copy(update={"name": run}).folder

    def of_fold(self, number: int) -> Config:
        """The run of one fold of the cross-validation, counted from 0: its patients test, everybody else trains.

        Raises:
            ValueError: there is no such fold.
        """
        folds = self.data.folds
        if not 0 <= number < len(folds):
            raise ValueError(f"fold {number} of data.folds, which has {len(folds)}: expected 0 to {len(folds) - 1}")
        if self.fold is not None:
            raise ValueError(f"fold {number} of a run that is fold {self.fold} already")
        data = self.data.model_copy(update={"held_out": folds[number], "splits": f"{self.data.splits}-fold{number}"})
        init = self.init_folds[number] if self.init_folds else self.init
        return self.model_copy(update={"fold": number, "data": data, "init": init})

    @property
    def whole(self) -> Config:
        """The run that this one is a fold of, or itself. Only good for its folder: its splits are others."""
        return self.model_copy(update={"fold": None})

    def at(self, runs: Path, cache: Path) -> Config:
        """The same run, looked for elsewhere."""
        return self.model_copy(update={"runs": runs, "data": self.data.model_copy(update={"cache": cache})})


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file, on top of the file that its key `base` names, and apply overrides such as `optim.steps=100`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no YAML, an override has no '=', or a key or value does not fit the configuration (pydantic
            says which).
    """
    values = _read(path)
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise ValueError(f"override {override!r}: expected key=value, for example optim.steps=100")
        nested: Any = yaml.safe_load(text)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = _merged(values, nested)
    return Config.model_validate(values)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"no configuration at {path}: expected a YAML file, such as those of training/configs and its experiments"
        ) from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds a {type(values).__name__}, expected keys with values, see training/configs")
    base = values.pop("base", None)
    return _merged(_read(path.parent / base), values) if base else values


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The base with the changes, mappings key by key."""
    result = dict(base)
    for key, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merged(result[key], value) if both else value
    return result
