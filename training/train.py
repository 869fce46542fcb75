"""Train, or continue, a run: `python training/train.py --config training/configs/dropout.yaml [optim.steps=100]`."""

import argparse

from mstkd_training.command import configuration, parser, run, show
from mstkd_training.trainer import Trainer


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    show(config)
    trainer = Trainer(config)
    trainer.resume()
    trainer.fit()


if __name__ == "__main__":
    run(main, parser(__doc__, fold=True))
