"""Checkpoint -> model package that the engine loads, with what was measured for exactly these weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.network import SIZES, MSTKDNet, build
from torch.optim.swa_utils import AveragedModel

from .config import Config

HALF = {"WT": 0.5, "TC": 0.5, "ET": 0.5}
CITATION = (
    "S. Zhu et al., Bridging the Gap in Missing Modalities: Leveraging Knowledge Distillation and Style Matching for "
    "Brain Tumor Segmentation, MICCAI 2025, arXiv:2507.22626",
    "U. Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 Benchmark on Brain Tumor Segmentation, arXiv:2107.02314",
    "B. H. Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS), IEEE TMI 34(10), 2015",
    "S. Bakas et al., Advancing The Cancer Genome Atlas glioma MRI collections, Scientific Data 4:170117, 2017",
)


def student(config: Config) -> MSTKDNet:
    """The averaged (EMA) student of a run's checkpoint, in evaluation mode.

    Raises:
        FileNotFoundError: the run has no checkpoint yet; train first.
    """
    path = config.folder / "checkpoint.pt"
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint at {path}: run `python training/train.py` with this configuration first"
        )
    average = AveragedModel(build(SIZES[config.size]))
    average.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["average"])
    return average.module.eval()


def export(config: Config, folder: Path) -> packages.ModelPackage:
    """Write the run's student as a package; its quality table is the run's evaluation, if that is of these weights."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    network = student(config)
    card = {
        "kind": "tumour",
        "name": f"mstkd-{config.size}-{config.name}",
        "version": "0.1.0",
        "spacing_mm": config.data.spacing,
        "thresholds": HALF,
        "licence": "Research use only. The weights were trained on BraTS data, whose organisers allow research use and "
        "ask for the citations given; the code around them is Apache-2.0.",
        "data": f"Eleven BraTS 2019-2021 glioma studies and 448 lesion patches of 368 BraTS 2020 patients. "
        f"Kept out of training and measured on: {', '.join(config.data.held_out)}.",
        "intended_use": "Research on pre-operative adult glioma. Not a medical device, not for diagnosis or treatment.",
        "citation": list(CITATION),
        "quality": {"measured_on": [], "command": "not measured", "table": {}},
        "training": json.loads((config.folder / "config.json").read_text()),
    }
    written = packages.write(folder, network, card)
    path = config.folder / "evaluation.json"
    if not path.exists():
        return written
    evaluation = json.loads(path.read_text())
    if evaluation["sha256"] != written.sha256:
        print(f"{path} was measured on other weights and is left out: run `python training/eval.py` again")
        return written
    card["quality"] = {key: evaluation[key] for key in ("measured_on", "command", "table")}
    return packages.write(folder, network, card)
