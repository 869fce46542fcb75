"""Measure the trained folds of a run: `python training/crossvalidate.py --config training/configs/rung_distilled.yaml`.

Calibrates it (temperatures, thresholds, curves of probabilities), and writes its table, crossvalidation.md, below those
of other runs that were measured so before: `--against rung_dropout`. With runs of other patients it is compared, not
calibrated, on those that they share.
"""

import argparse

from mstkd_training.command import configuration, parser, run, show
from mstkd_training.crossvalidation import crossvalidate, read
from mstkd_training.files import write_text
from mstkd_training.ladder import comparable, ladder


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    show(config)
    records = {name: read(config.runs / name) for name in arguments.against}
    records[config.name] = crossvalidate(config)
    text = ladder(comparable(records, config.name))
    write_text(text, config.folder / "crossvalidation.md")
    print(text)


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--against", action="append", default=[], metavar="RUN", help="name of a run; differences to the first given"
    )
    run(main, options)
