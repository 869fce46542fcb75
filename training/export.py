"""Write a run's student as a model package: `python training/export.py --config ... --output FOLDER`.

With `--package FOLDER`, write a package that it was exported to before once more, where the run is not kept: the same
weights, with what has been measured since.
"""

import argparse
from pathlib import Path

from mstkd_training.command import configuration, parser, run
from mstkd_training.export import export, renew
from MSTKDSegmenterLib.engine.package import load


def main(arguments: argparse.Namespace) -> None:
    config = configuration(arguments)
    if arguments.package:
        package = renew(config, load(arguments.package), arguments.output)
    else:
        package = export(config, arguments.output, arguments.unfinished)
    print(f"{package.folder}: {package.name} {package.version}, sha256 {package.sha256}")


if __name__ == "__main__":
    options = parser(__doc__, fold=True)
    options.add_argument("--output", type=Path, required=True, help="package folder to write")
    options.add_argument("--unfinished", action="store_true", help="of a run that has not come to its last step")
    options.add_argument("--package", type=Path, metavar="FOLDER", help="an earlier export of it, in place of the run")
    run(main, options)
