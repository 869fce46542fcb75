"""Measure a run on its test studies: `python training/eval.py --config training/configs/dropout.yaml`.

With `--compare OTHER_RUN`, compare two runs that have been measured, patient by patient, instead.
"""

import shlex
import sys

from mstkd_training.command import parser
from mstkd_training.comparison import compare_runs
from mstkd_training.config import load
from mstkd_training.curves import draw
from mstkd_training.evaluate import evaluate, write
from mstkd_training.export import export
from mstkd_training.illustrate import illustrate
from mstkd_training.plots import heat_map
from mstkd_training.tables import table

if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--compare", metavar="RUN", help="name of another run, measured on the same studies")
    arguments = options.parse_args()
    config = load(arguments.config, arguments.overrides)
    print(config.model_dump_json(indent=2))
    if arguments.compare:
        print(compare_runs(config, arguments.compare))
        sys.exit()
    package = export(config, config.folder / "package")
    rows = evaluate(config, package)
    print(write(config, rows, package.sha256, shlex.join(["python", *sys.argv])))
    draw(config.folder / "tensorboard", f"Training of {config.name}", config.folder / "curves.png")
    heat_map(table(rows), f"Dice of {config.name}", config.folder / "heatmap.png")
    illustrate(config, {config.name: package}, rows, config.folder / "figure.png")
