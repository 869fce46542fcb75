"""What the working grid alone costs, of a simulated glioma at 4 mm."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import prepare
from mstkd_training.cases import ENDINGS, LABEL_MAP, Case, find_cases
from mstkd_training.ceiling import ceiling, document
from mstkd_training.config import DataConfig
from MSTKDSegmenterLib.engine.regions import REGIONS
from phantom import make_study

SCRIPT = Path(__file__).resolve().parents[1] / "training" / "ceiling.py"
NAME = "BraTS-GLI-00001-000"
VALUES = {"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    root = tmp_path_factory.mktemp("BraTS2023")
    study, folder = make_study(spacing=4.0), root / NAME
    folder.mkdir()
    for role, ending in ENDINGS["brats2023"].items():
        sitk.WriteImage(
            study.truth if role == LABEL_MAP else study.images[role], str(folder / f"{NAME}{ending}.nii.gz")
        )
    return DataConfig(source=root, layout="brats2023", spacing=8.0, patches=False, cache=root / "cache")


@pytest.fixture(scope="module")
def case(data: DataConfig) -> Case:
    (case,) = find_cases(data)
    return case


def test_it_is_the_dice_of_the_labels_that_are_learnt_brought_back_to_the_native_grid(
    case: Case, data: DataConfig
) -> None:
    (row,) = ceiling([case], data)
    prepared = prepare.read_study(case, data)
    truth = sitk.ReadImage(str(case.labels))
    labels = sitk.GetArrayFromImage(truth)
    for region, classes in REGIONS.items():
        learnt = np.isin(prepared.labels, [("NCR", "ED", "ET").index(name) for name in classes])
        image = sitk.GetImageFromArray(learnt.astype(np.float32))
        image.SetSpacing((8.0,) * 3)
        image.SetOrigin(prepared.origin.tolist())
        back = sitk.GetArrayFromImage(sitk.Resample(image, truth, sitk.Transform(), sitk.sitkLinear)) > 0.5
        true = np.isin(labels, VALUES[region])
        assert row[f"{region}_dice"] == pytest.approx(2 * (back & true).sum() / (back.sum() + true.sum()), abs=0.005)
        assert row[f"{region}_true_ml"] == pytest.approx(true.sum() * 4.0**3 / 1000)
        assert 0.1 < row[f"{region}_dice"] < 0.95


def test_a_finer_grid_costs_less(case: Case, data: DataConfig) -> None:
    (coarse,) = ceiling([case], data)
    (fine,) = ceiling([case], data.model_copy(update={"spacing": 4.0}))
    assert all(fine[f"{region}_dice"] > coarse[f"{region}_dice"] for region in REGIONS)


def test_the_table_names_each_study_with_its_volumes_and_the_mean() -> None:
    volumes = {f"{region}_true_ml": 12.34 for region in REGIONS}
    rows = [
        {"study": name, "patient": name, **{f"{region}_dice": dice for region in REGIONS}, **volumes}
        for name, dice in (("a", 0.9), ("b", 0.8))
    ]
    lines = document(rows, 2.0).splitlines()
    assert lines[0] == "| labels at 2 mm | WT | TC | ET |"
    assert lines[2] == "| a | 0.900 (12.3 ml) | 0.900 (12.3 ml) | 0.900 (12.3 ml) |"
    assert lines[-1].startswith("| mean | 0.850 [0.80, 0.90] |")


def test_the_command_prints_it(data: DataConfig, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text(f"name: tiny\ndata: {{source: {data.source}, layout: brats2023, spacing: 8.0, patches: false}}\n")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--config", str(config)], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("| labels at 8 mm | WT | TC | ET |")
    assert f"| {NAME} | 0." in done.stdout
