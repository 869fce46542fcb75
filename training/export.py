"""Write a run's student as a model package: `python training/export.py --config ... --output FOLDER`."""

import argparse
from pathlib import Path

from mstkd_training.command import configuration, parser, run
from mstkd_training.export import export


def main(arguments: argparse.Namespace) -> None:
    package = export(configuration(arguments), arguments.output, arguments.unfinished)
    print(f"{package.folder}: {package.name} {package.version}, sha256 {package.sha256}")


if __name__ == "__main__":
    options = parser(__doc__, fold=True)
    options.add_argument("--output", type=Path, required=True, help="package folder to write")
    options.add_argument("--unfinished", action="store_true", help="of a run that has not come to its last step")
    run(main, options)
