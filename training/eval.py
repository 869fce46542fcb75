"""Measure a run on its held-out studies: `python training/eval.py --config training/configs/dropout.yaml`."""

from mstkd_training.command import configuration
from mstkd_training.evaluate import evaluate, markdown, write
from mstkd_training.export import export

if __name__ == "__main__":
    config = configuration(__doc__)
    package = export(config, config.folder / "package")
    rows = evaluate(config, package)
    write(config, rows, package.sha256)
    print(markdown(rows))
