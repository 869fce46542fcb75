"""Checkpoint -> model package that the engine loads, with what was measured for exactly these weights."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.network import MSTKDNet
from MSTKDSegmenterLib.engine.regions import REGIONS

from . import evaluate, model_card, patches, splits
from .calibration import HALF
from .config import Config
from .continuity import as_trained, differing_runs, read, splits_hash, told
from .crossvalidation import belongs, calibration_of, evaluated_folds, record_of
from .identity import identities
from .networks import Trained, earlier, trained_student
from .seen import chosen_on, seen

CITATION = (
    "S. Zhu et al., Bridging the Gap in Missing Modalities: Leveraging Knowledge Distillation and Style Matching for "
    "Brain Tumor Segmentation, MICCAI 2025, arXiv:2507.22626",
    "U. Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark on Brain Tumor Segmentation, arXiv:2107.02314",
    "B. H. Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS), IEEE TMI 34(10), 2015",
    "S. Bakas et al., Advancing The Cancer Genome Atlas glioma MRI collections, Scientific Data 4:170117, 2017",
)

DATA = {
    "archive": ("BraTS 2019-2021", "pre-operative adult glioma"),
    "brats2021": ("BraTS 2017-2021", "pre-operative adult glioma"),
    "fets2024": ("FeTS 2024", "pre-operative adult glioma"),
    "brats2023": ("BraTS 2023", "pre-operative adult glioma"),
    "brats2024": ("BraTS 2024 GLI", "adult glioma after treatment"),
}
"""By layout: the name of the data, and whose images they are."""

MEASURED_IN = ("data.folds", "init_folds")
"""Keys that say how a run of all patients is measured, not what it is."""


def export(config: Config, folder: Path, unfinished: bool = False) -> packages.ModelPackage:
    """Write the run's student as a package with a model card, README.md.

    Its quality table is the run's evaluation, if that is of these weights, or that of all its folds. Temperatures,
    thresholds and curves are from its cross-validation, if there is one. What the network is and whom it has seen comes
    from the run's own configuration.

    Args:
        unfinished: of a run that has not come to its last step too, with a warning.

    Raises:
        FileNotFoundError: the run has no checkpoint yet; train first.
        ValueError: `config` asks for other weights than the run's, its best weights are of an earlier run, the
            patients have been divided otherwise since, or the run is not finished.
    """
    config = as_trained(config)
    trained = trained_student(config)
    # those of before splits were noted have no hash
    if trained.splits is not None and trained.splits != splits_hash(config):
        raise ValueError(
            f"run {config.name!r} was trained with other splits than those in {config.data.cache}, so nobody can tell "
            "whom it may be tested on: give the data.cache it was trained with"
        )
    if trained.reached < config.optim.steps:
        so_far = f"run {config.name!r} has come to step {trained.reached} of {config.optim.steps}"
        if not unfinished:
            raise ValueError(f"{so_far}: start `python training/train.py` again, it goes on; or ask with --unfinished")
        print(f"warning: {so_far}; this package is not what it will be in the end", file=sys.stderr)
    training = {
        **_reached(config, trained),
        "steps": config.optim.steps,
        "checkpoint": trained.checkpoint,
        "versions": {"python": trained.provenance["python"], **trained.provenance["packages"]},
        "before": before(config),
        "start_share": config.start_share,
        "seen": seen(config),
        "chosen_on": chosen_on(config),
        "configuration": read(config.folder).model_dump(mode="json"),
    }
    return _write(config, folder, trained.network, training)


def renew(config: Config, package: packages.ModelPackage, folder: Path) -> packages.ModelPackage:
    """Write a package that the run of all patients was exported to once more, with what has been measured since.

    For weights whose run is not kept: the same tensors, with the calibration, quality and card that `export` would give
    them now.

    Raises:
        ValueError: the package is of another configuration, but for the folds that it is measured in, or of patients
            other than those that are prepared.
    """
    training = package.card["training"]
    differing = differing_runs(Config.model_validate(training["configuration"]), config)
    differing = {key: pair for key, pair in differing.items() if key not in MEASURED_IN}
    if training["start_share"] != config.start_share:  # free in a run, but these weights have it in them
        differing["start_share"] = (training["start_share"], config.start_share)
    if training["seen"] != seen(config):
        differing["seen"] = (f"{len(training['seen'])} patients", "others, see data.cache")
    if differing:
        raise ValueError(
            f"{package.folder} was not exported from this configuration ({told(differing)}): give the one that it was "
            "trained with"
        )
    return _write(config, folder, package.network(), {**training, "configuration": config.model_dump(mode="json")})


def _write(config: Config, folder: Path, network: MSTKDNet, training: dict[str, Any]) -> packages.ModelPackage:
    folder.parent.mkdir(parents=True, exist_ok=True)
    record = record_of(config)
    calibration = calibration_of(record, config.fold)
    card = {
        "kind": "tumour",
        "name": f"mstkd-{config.size}-{config.name}",
        "version": "0.9.0",
        "spacing_mm": config.data.spacing,
        "thresholds": {**dict.fromkeys(REGIONS, HALF), **calibration.thresholds},
        "temperatures": calibration.temperatures,
        "calibration": calibration.curves,
        "mirror": config.mirror,
        "box": True,  # what is measured by this version has seen the brain's box alone
        "tile": config.tile and list(config.tile),
        "licence": "Research use only. The weights were trained on BraTS data, whose organisers allow research use and "
        "ask for the citations given; the code around them is Apache-2.0.",
        "data": " ".join(_data(config)),
        "intended_use": f"Research on {DATA[config.data.layout][1]}. Not a medical device, not for diagnosis or "
        "treatment.",
        "citation": list(CITATION),
        "quality": {"measured_on": [], "command": "not measured", "table": {}},
        "training": training,
    }
    # all of it is known before anything that is there is replaced
    with TemporaryDirectory(dir=folder.parent) as place:
        measured = _measured(config, packages.write(Path(place) / folder.name, network, card))
    if measured is not None:
        card["quality"] = {key: measured[key] for key in ("measured_on", "command", "table")}
        card["data"] += _measured_by(config)
    written = packages.write(folder, network, card)
    reliability = (record or measured or {}).get("reliability", {})
    model_card.write(folder, written, measured["rows"] if measured else [], reliability, record is not None)
    return written


def _measured(config: Config, package: packages.ModelPackage) -> dict[str, Any] | None:
    """The record of the run's own evaluation, or of those of its folds together; None if there is none."""
    if config.fold is None and config.data.folds:
        return evaluated_folds(config)
    path = config.folder / evaluate.FILE
    if not path.exists():
        return None
    evaluation = evaluate.stored_in(path)
    if not belongs(evaluation, package, path):
        return None
    return {**evaluation, "reliability": evaluate.reliability_in(evaluation, package)}


def _data(config: Config) -> list[str]:
    """What the weights have seen, as the splits say, in sentences; of runs before this one what differs from it."""
    data, parts = config.data, splits.read(config)
    parts_of = []
    if parts.training:
        parts_of.append(f"studies of {len(parts.training)} patients of {DATA[data.layout][0]}")
    if data.patches:
        pasted = identities({patch.patient for patch in patches.read(config)}, data)
        more = "further " if parts.training else ""
        parts_of.append(f"lesion patches of {len(pasted - identities(parts.training, data))} {more}BraTS 2020 patients")
    if data.synthetic:
        parts_of.append("synthetic studies")
    sentence = ", ".join(parts_of)
    seen_here = f"{sentence[0].upper()}{sentence[1:]}."
    before_it, kept = [], []
    if parts.validation:
        kept.append(f"Weights chosen on: {', '.join(parts.validation)}.")
    if parts.test:
        kept.append(f"Kept out of training: {', '.join(parts.test)}.")
    if parts.omitted:
        kept.append(f"Omitted from training: {', '.join(parts.omitted)}.")
    if config.init is not None:
        before_it.append(f'Started from {config.init.name}, whose card says: "{packages.load(config.init).data}"')
    if config.start is not None:
        theirs = [one for one in _data(earlier(config.start, config)) if one not in (seen_here, *kept)]
        before_it += [f"Went on from {config.start}.", *theirs]
    return [seen_here, *before_it, *kept]


def _measured_by(config: Config) -> str:
    """How a run of all patients can have been measured; nothing to say of a run that keeps its test patients apart."""
    folds = config.data.folds
    if config.fold is not None or not folds:
        return ""
    if len(folds) == 1:
        return f" Measured on {', '.join(folds[0])}, by weights of the same recipe without them."
    words = f" Measured in {len(folds)} folds, each patient by weights that have not learnt from them."
    its_own = _steps(before(config))
    for number in range(len(folds)):
        start = packages.load(config.of_fold(number).folder / "package").card["training"]["before"]
        if _steps(start) != its_own:
            words += f" Fold {number} went on from {model_card.chain(start)}."
    return words


def _steps(chain: Sequence[Mapping[str, Any]]) -> list[tuple[str, int]]:
    """What tells one start from another: folds may come from other commits, and packages differ in what they note."""
    return [(one["name"], one["step"]) for one in chain]


def before(config: Config) -> list[dict[str, Any]]:
    """What the weights were before this run, from the first on: names, steps, samples of a step, seeds and commits."""
    if config.init is not None:
        package = packages.load(config.init)
        training = package.card["training"]
        # packages of before something was noted say nothing of it
        reached = {key: training.get(key) for key in ("step", "samples_per_step", "commit")}
        one = {"name": package.name, "seed": training["configuration"]["seed"], **reached}
        return [*training.get("before", []), one]
    if config.start is not None:
        other = earlier(config.start, config)
        one = {"name": other.name, "seed": other.seed, **_reached(other, trained_student(other))}
        return [*before(other), one]
    return []


def _reached(config: Config, trained: Trained) -> dict[str, Any]:
    """How far a run has come, and by which code."""
    return {
        "step": trained.step,
        "samples_per_step": config.optim.batch * config.optim.accumulate * trained.processes,
        "commit": trained.provenance["commit"],
    }
