"""Train, or continue, a run: `python training/train.py --config training/configs/dropout.yaml [optim.steps=100]`.

Ctrl-C or SIGTERM writes a checkpoint and ends with the exit code 75 (under torchrun 1); the same command continues.
"""

import argparse

from mstkd_training.command import STOPPED, configuration, parser, run, show
from mstkd_training.trainer import Trainer


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    show(config)
    trainer = Trainer(config)
    trainer.resume()
    finished = trainer.fit()
    # of several processes the one that writes the checkpoint: torchrun ends the others once one has failed
    trainer.world.leave(0 if finished or not trainer.world.first else STOPPED)


if __name__ == "__main__":
    run(main, parser(__doc__, fold=True))
