"""Prepare the data of a configuration: `python training/prepare.py --config training/configs/dropout.yaml`."""

from mstkd_training.command import configuration
from mstkd_training.prepare import prepare

if __name__ == "__main__":
    prepare(configuration(__doc__))
