"""The demonstration, `make demo`: two of four sequences are hidden, the shipped model segments what is left.

The study is simulated (phantom.py), so the truth is known. Everything is written to demo/.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from figure import draw, make_scene, read_segments
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.regions import regions_of
from phantom import make_study
from surface import NoRenderingError

FOLDER = Path(__file__).resolve().parents[1] / "demo"
GIVEN = ("FLAIR", "T2")


def dice(first: np.ndarray, second: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|); 1 if both are empty."""
    total = np.count_nonzero(first) + np.count_nonzero(second)
    return 2 * np.count_nonzero(first & second) / total if total else 1.0


def run_command(paths: dict[str, Path], output: Path) -> float:
    """`mstkd segment` as a user would run it; returns how long it took, in seconds."""
    command = [str(Path(sys.executable).parent / "mstkd"), "segment"]
    for sequence in GIVEN:
        command += [f"--{sequence.lower()}", str(paths[sequence])]
    command += ["-o", str(output), "--force", "--quiet"]
    shown = " ".join(_short(part) for part in command)
    print(f"$ {shown}", flush=True)
    start = time.perf_counter()
    code = subprocess.run(command, check=False).returncode
    if code:
        sys.exit(code)  # the command has said why
    return time.perf_counter() - start


def main() -> int:
    start = time.perf_counter()
    study = make_study()
    paths = study.write(FOLDER / "study")
    print(f"A simulated glioma in the MNI152 brain: {', '.join(study.images)} ({time.perf_counter() - start:.0f} s)")
    print(f"Hidden from the model: {', '.join(s for s in study.images if s not in GIVEN)}")
    seconds = run_command(paths, FOLDER / "result")
    report = json.loads((FOLDER / "result" / "report.json").read_text(encoding="utf-8"))
    segments = read_segments(FOLDER / "result" / "segmentation.seg.nrrd")
    grid = Grid.of(study.truth)
    truth = {name: grid.image(mask) for name, mask in regions_of(_array(study.truth), "brats2023").items()}
    voxel = float(np.prod(grid.spacing)) / 1000  # ml
    notes = {}
    print(f"\nDone in {seconds:.1f} s. Against the truth:\n")
    print("region   Dice   found (ml)   truth (ml)")
    for name, mask in truth.items():
        found, real = _array(segments[name]).astype(bool), _array(mask).astype(bool)
        score = dice(found, real)
        notes[name] = f"Dice {score:.2f}"
        print(f"{name:6}{score:7.2f}{voxel * found.sum():13.1f}{voxel * real.sum():13.1f}")
    print("\nA simulation: it shows that the path works, not how good the model is on patients.")
    scene = make_scene({s: study.images[s] for s in GIVEN}, segments, truth)
    try:
        draw(
            scene,
            FOLDER / "demo.png",
            f"Segmented from {' + '.join(GIVEN)} alone",
            notes,
            f"Simulated glioma (MNI152 anatomy); model {report['model']['name']} {report['model']['version']}, "
            f"{seconds:.1f} s on {report['device']['name']}. Dashed: the known truth. Research use only.",
        )
    except NoRenderingError as error:
        print(error, file=sys.stderr)
        return 1
    for path in (*sorted((FOLDER / "result").iterdir()), FOLDER / "demo.png"):
        print(_short(str(path)))
    return 0


def _array(image: sitk.Image) -> np.ndarray:
    return sitk.GetArrayFromImage(image)


def _short(path: str) -> str:
    """Relative to the checkout, where the path lies in it."""
    root = FOLDER.parent
    return str(Path(path).relative_to(root)) if path.startswith(f"{root}/") else path


if __name__ == "__main__":
    sys.exit(main())
