"""Measure a run on its test studies: `python training/eval.py --config training/configs/dropout.yaml --fold 0`.

With `--compare OTHER_RUN`, compare two runs that have been measured, patient by patient, instead. With
`--package FOLDER name=theirs`, measure that package on the configuration's test studies, under a name of its own, and
write its model card there.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from pathlib import Path

from mstkd_training import model_card
from mstkd_training.command import configuration, parser, run, show
from mstkd_training.comparison import compare_runs
from mstkd_training.continuity import as_trained
from mstkd_training.curves import draw, logged
from mstkd_training.evaluate import evaluate, read, reliability, to_measure, write
from mstkd_training.export import export
from mstkd_training.illustrate import illustrate
from mstkd_training.plots import heat_map
from mstkd_training.tables import table
from MSTKDSegmenterLib.engine.package import Quality


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    if not arguments.package:
        config = as_trained(config)
    show(config)
    if arguments.compare:
        print(compare_runs(config, arguments.compare))
        return
    own = config.folder / "package"
    package = to_measure(arguments.package, config) if arguments.package else export(config, own, arguments.unfinished)
    rows = evaluate(config, package)
    found = reliability(config, package)
    print(write(config, rows, package, shlex.join(["python", *sys.argv]), found))
    if arguments.package:
        # its card, but with what has just been measured
        record = read(config.folder)
        quality = Quality(tuple(record["measured_on"]), record["command"], record["table"])
        model_card.write(config.folder, replace(package, quality=quality), rows, found)
    heat_map(table(rows), f"Dice of {config.name}", config.folder / "heatmap.png")
    illustrate(config, {config.name: package}, rows, config.folder / "figure.png")
    # last: a run may be measured where its log has not been copied to
    if logged(config.folder / "tensorboard"):
        draw(config.folder / "tensorboard", f"Training of {config.name}", config.folder / "curves.png")


if __name__ == "__main__":
    options = parser(__doc__, fold=True)
    options.add_argument("--package", type=Path, metavar="FOLDER", help="measure this package, not a run's student")
    options.add_argument("--unfinished", action="store_true", help="measure a run that has not come to its last step")
    options.add_argument("--compare", metavar="RUN", help="name of another run, measured on the same studies")
    run(main, options)
