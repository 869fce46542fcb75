"""Write a run's student as a model package: `python training/export.py --config ... --output FOLDER`."""

from pathlib import Path

from mstkd_training.command import parser
from mstkd_training.config import load
from mstkd_training.export import export

if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--output", type=Path, required=True, help="package folder to write")
    options = arguments.parse_args()
    package = export(load(options.config, options.overrides), options.output)
    print(f"{package.folder}: {package.name} {package.version}, sha256 {package.sha256}")
