"""Measure what the working grid alone costs: `python training/ceiling.py --config training/configs/whole_boxes.yaml`.

Every study's labels go to the grid that the network works on and back, as images and answers do; no network takes part.
Another grid: `data.spacing=1`.
"""

import argparse

from mstkd_training.cases import find_cases
from mstkd_training.ceiling import ceiling, document
from mstkd_training.command import configuration, parser, run
from tqdm import tqdm


def main(arguments: argparse.Namespace) -> None:
    data = configuration(arguments).data
    print(document(ceiling(tqdm(find_cases(data), desc="studies"), data), data.spacing))


if __name__ == "__main__":
    run(main, parser(__doc__))
