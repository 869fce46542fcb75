"""Prepare the data of a configuration: `python training/prepare.py --config training/configs/dropout.yaml`."""

import argparse

from mstkd_training.command import configuration, parser, run, show
from mstkd_training.prepare import prepare


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    show(config)
    prepare(config)


if __name__ == "__main__":
    run(main, parser(__doc__))
