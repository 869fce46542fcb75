"""Label maps from an archive: each prepared once, whatever the order in the archive."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training.anatomy import load_anatomies
from mstkd_training.label_maps import prepared


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Two maps, in the wrong order; the second is a brain of 32 mm."""
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[16:48, 16:48, 16:48] = 2
    path = tmp_path / "maps.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        for name, array in (("b", labels), ("a", labels // 2)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
            tar.add(tmp_path / f"{name}.nii.gz", f"maps/{name}.nii.gz")
    return path


def test_every_map_is_prepared_once_and_comes_back_in_the_order_of_the_names(archive: Path, tmp_path: Path) -> None:
    seen: list[str] = []

    def prepare(image: sitk.Image, name: str) -> dict[str, np.ndarray]:
        seen.append(name)
        return {"largest": sitk.GetArrayFromImage(image).max()}

    for _ in range(2):
        found = {name: int(arrays["largest"]) for name, arrays in prepared(archive, tmp_path / "cache", prepare)}
        assert found == {"a": 1, "b": 2}
        assert list(found) == ["a", "b"]
    assert seen == ["b", "a"]
    with pytest.raises(FileNotFoundError):
        list(prepared(tmp_path / "nothing.tar", tmp_path / "cache", prepare))


def test_an_interrupted_preparation_leaves_nothing_that_looks_whole(archive: Path, tmp_path: Path) -> None:
    def prepare(image: sitk.Image, name: str) -> dict[str, np.ndarray]:
        if name == "a":
            raise KeyboardInterrupt
        return {"x": np.ones(1)}

    with pytest.raises(KeyboardInterrupt):
        list(prepared(archive, tmp_path / "cache", prepare))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["b.npz"]


def test_anatomies_are_the_same_when_they_are_read_again(tmp_path: Path) -> None:
    labels = np.zeros((64, 64, 64), np.uint8)
    labels[16:48, 16:48, 16:48] = 2
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "head.nii.gz"))
    with tarfile.open(tmp_path / "maps.tar", "w") as tar:
        tar.add(tmp_path / "head.nii.gz", "head.nii.gz")
    first, second = (load_anatomies(tmp_path / "maps.tar", tmp_path / "cache")[0] for _ in range(2))
    assert (first.name, first.spacing) == ("head", 2.0) == (second.name, second.spacing)
    assert np.array_equal(first.tissue, second.tissue)
    assert first.brain.sum() * 8 == pytest.approx(32**3, rel=0.01)
