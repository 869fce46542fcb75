"""Train, or continue, a run: `python training/train.py --config training/configs/dropout.yaml [optim.steps=100]`."""

from mstkd_training.command import configuration
from mstkd_training.trainer import Trainer

if __name__ == "__main__":
    trainer = Trainer(configuration(__doc__))
    trainer.resume()
    trainer.fit()
