"""Measure the trained folds of a run: `python training/crossvalidate.py --config training/configs/whole_boxes.yaml`.

Calibrates it (temperatures, thresholds, curves of probabilities), and writes its table, crossvalidation.md, below those
of other runs that were measured so before: `--against varied_lesions`. With runs of other patients it is compared, not
calibrated, on those that they share. `--learnt` measures the folds on those whom they have learnt from, too: the
difference is what they know by heart.
"""

import argparse
import sys

from mstkd_training.command import configuration, parser, run, show
from mstkd_training.crossvalidation import crossvalidate, learnt, read
from mstkd_training.files import write_text
from mstkd_training.ladder import by_heart, comparable, ladder, unlike


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    show(config)
    records = {name: read(config.runs / name) for name in arguments.against}
    records[config.name] = crossvalidate(config)
    for difference in unlike(records, config.name):
        print(f"warning: {difference}: what differs between them is not the recipe alone", file=sys.stderr)
    text = ladder(comparable(records, config.name))
    write_text(text, config.folder / "crossvalidation.md")
    print(text)
    if arguments.learnt:
        print(by_heart(records[config.name]["rows_without_calibration"], learnt(config)))


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument(
        "--against", action="append", default=[], metavar="RUN", help="name of a run; differences to the first given"
    )
    options.add_argument("--learnt", action="store_true", help="measure on the patients of the training too")
    run(main, options)
