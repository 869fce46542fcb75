"""Write synthetic glioma studies in the layout of BraTS 2021, and a contact sheet of them.

python training/synthetic.py --count 20 --output data/synthetic --sheet data/synthetic/sheet.png
python training/synthetic.py --count 8 --sheet sheet.png                    # the picture alone

Study number k depends on --seed and k alone. To train with such studies they need not be written: data.synthetic=0.3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mstkd_training import ingredients, study_files
from mstkd_training.command import run
from mstkd_training.heads import SPACING
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]


def main(arguments: argparse.Namespace) -> None:
    if not (arguments.output or arguments.sheet):
        raise ValueError("nothing to do: give --output FOLDER, --sheet PNG or both")
    made = ingredients.read(arguments.data, arguments.cache, arguments.without)
    shown = {}
    for number in tqdm(range(arguments.count), desc="studies"):
        study = made.study((arguments.seed, number))
        name = f"Synthetic_{arguments.seed}_{number:05d}"
        if arguments.output:
            study_files.write(study, arguments.output / name, SPACING)
        if arguments.sheet:
            shown[f"{number}: {study.patient.removeprefix('synthetic, ')}"] = study
    if arguments.sheet:
        study_files.contact_sheet(shown, arguments.sheet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data", help="holds the archives")
    parser.add_argument("--cache", type=Path, default=ROOT / "cache" / "synthetic", help="where heads are kept")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", nargs="*", default=(), help="patients whose tumour shapes are not to be used")
    parser.add_argument("--output", type=Path, help="folder for the studies")
    parser.add_argument("--sheet", type=Path, help="PNG of all of them")
    run(main, parser)
