"""From studies on disk to a segmentation with one's own student, by the commands that training/README.md names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import SimpleITK as sitk
import yaml

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import checkpoint
from mstkd_training.cases import ENDINGS, LABEL_MAP
from mstkd_training.command import STOPPED, UNUSABLE
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from phantom import make_study

TRAINING = Path(__file__).resolve().parents[1] / "training"
STUDIES = ("BraTS-GLI-00001-000", "BraTS-GLI-00002-000", "BraTS-GLI-00003-000")
PATIENTS = tuple(name.rsplit("-", 1)[0] for name in STUDIES)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three simulated gliomas at 4 mm, named like BraTS 2023."""
    root = tmp_path_factory.mktemp("BraTS2023")
    for seed, name in enumerate(STUDIES):
        study, folder = make_study(seed=seed, spacing=4.0), root / name
        folder.mkdir()
        for role, ending in ENDINGS["brats2023"].items():
            image = study.truth if role == LABEL_MAP else study.images[role]
            sitk.WriteImage(image, str(folder / f"{name}{ending}.nii.gz"))
    return root


@pytest.fixture
def preset(source: Path, tmp_path: Path) -> Path:
    values = {
        "name": "tiny", "runs": str(tmp_path / "runs"), "device": "cpu",
        "network": {"width": 8, "blocks": [1, 1, 1, 1], "transformer": {"depth": 2, "width": 16, "mlp": 16}},
        "data": {
            "source": str(source), "layout": "brats2023", "cache": str(tmp_path / "cache"), "spacing": 8.0,
            "patches": False, "held_out": [PATIENTS[0]], "validation": [PATIENTS[1]],
        },
        "augment": {"crop": [32, 32, 32], "shift": [1, 1, 1]},
        "terms": {"adversarial": {"weight": 0}},
        "validation": {"every": 1000, "subsets": 1},
        "optim": {"steps": 6, "warm_up": 1, "threads": 1, "bf16": False},
    }  # fmt: skip
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def call(*command: object) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)], env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_studies_become_a_model_that_segments_through_an_interruption(
    preset: Path, source: Path, tmp_path: Path
) -> None:
    run, package = tmp_path / "runs" / "tiny", tmp_path / "package"
    assert "1 to train with, 1 to validate with, 1 to test with" in call(TRAINING / "prepare.py", "--config", preset)

    train = [sys.executable, str(TRAINING / "train.py"), "--config", str(preset)]
    process = subprocess.Popen(train, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (run / "terms.jsonl").exists():
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == STOPPED
    interrupted = checkpoint.load(run / "checkpoint.pt")["step"]
    unfinished = subprocess.run(
        [sys.executable, str(TRAINING / "eval.py"), "--config", str(preset)],
        env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert unfinished.returncode == UNUSABLE
    assert f"has come to step {interrupted} of " in unfinished.stderr
    assert f"from step {interrupted}" in call(*train[1:])

    assert "| FLAIR+T1+T1ce+T2 |" in call(TRAINING / "eval.py", "--config", preset)
    for name in ("evaluation.csv", "evaluation.md", "heatmap.png", "figure.png", "curves.png"):
        assert (run / name).stat().st_size > 0
    call(TRAINING / "export.py", "--config", preset, "--output", package)
    quality = json.loads((package / "model.json").read_text())["quality"]
    assert quality["measured_on"] == [STUDIES[0]]
    assert list(quality["table"]) == [subset_name(subset) for subset in SUBSETS]

    flair = source / STUDIES[0] / f"{STUDIES[0]}{ENDINGS['brats2023']['FLAIR']}.nii.gz"
    out = tmp_path / "out"
    call("-m", "MSTKDSegmenterLib.cli", "segment", "--flair", flair, "--model", package, "-o", out)
    report = json.loads((out / "report.json").read_text())
    assert report["model"]["sha256"] == json.loads((package / "model.json").read_text())["weights"]["sha256"]
    assert sitk.ReadImage(str(out / "labels.nii.gz")).GetSize() == sitk.ReadImage(str(flair)).GetSize()
