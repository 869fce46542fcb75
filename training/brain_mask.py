"""Train, export and measure the network that finds the brain; it learns from synthetic images only.

python training/brain_mask.py --train                 # about 40 minutes on one idle core; goes on where it was stopped
python training/brain_mask.py --export --evaluate     # write the model package, measure it, note that in it
python training/brain_mask.py --evaluate              # measure the package that ships
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mstkd_training.anatomy import load_anatomies
from mstkd_training.brain_evaluation import export, measure
from mstkd_training.brain_training import BrainTraining, quick_allocation
from mstkd_training.command import run
from MSTKDSegmenterLib.engine import package as packages

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: argparse.Namespace) -> None:
    anatomies = load_anatomies(arguments.data / "label_maps.tar.xz", arguments.run / "anatomy")
    if arguments.train:
        quick_allocation()
        BrainTraining(arguments.run, arguments.steps).fit(anatomies, arguments.minutes)
    if arguments.export:
        trained = BrainTraining(arguments.run, arguments.steps)
        note = {"note": arguments.note} if arguments.note else {}
        export(trained.average, arguments.package, {"steps": trained.step, **note})
    if arguments.evaluate:
        package = packages.load(arguments.package, "brain")
        quality = measure(package, anatomies, arguments.data)
        export(package.network(), arguments.package, package.card["training"], quality)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, default=ROOT.parent / "shared" / "data", help="holds label_maps.tar.xz, ..."
    )
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "brain", help="folder of checkpoint and cache")
    parser.add_argument("--package", type=Path, default=ROOT / "MSTKDSegmenter" / "Resources" / "Models" / "brain-mask")
    parser.add_argument("--steps", type=int, default=8000, help="steps of the whole schedule")
    parser.add_argument("--minutes", type=float, default=600.0, help="stop training after this time")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--export", action="store_true")
    parser.add_argument("--evaluate", action="store_true")
    parser.add_argument("--note", help="with --export: what model.json shall say about the training")
    run(main, parser)
