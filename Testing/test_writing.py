"""Image files that are written in full, or else an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.writing import write_image, write_probability
from stand_in import MODULE_FOLDER

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np, SimpleITK as sitk
from MSTKDSegmenterLib.engine.writing import write_image
image = sitk.GetImageFromArray(np.random.default_rng(0).integers(0, 255, (60, 60, 60), dtype=np.uint8))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    write_image(image, Path(sys.argv[1]), compressed=sys.argv[1].endswith("gz"))
except OSError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a file's size is set as Linux does it")
@pytest.mark.parametrize("name", ["x.nii.gz", "x.nii", "x.nrrd"])
def test_a_file_that_was_cut_short_is_an_error_of_the_system_that_names_it(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / name)]
    told = subprocess.run(command, cwd=MODULE_FOLDER, capture_output=True, text=True, check=True).stdout
    assert told.startswith(f"{tmp_path / name} was not written")


@pytest.mark.parametrize("name", ["x.nii.gz", "x.nrrd"])
def test_what_was_written_is_the_image(tmp_path: Path, name: str) -> None:
    image = sitk.GetImageFromArray(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))
    image.SetOrigin((1, 2, 3))
    write_image(image, tmp_path / name)
    back = sitk.ReadImage(str(tmp_path / name))
    assert back.GetOrigin() == (1, 2, 3)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(image))


def test_probabilities_stay_between_0_and_1_and_hardly_change(tmp_path: Path) -> None:
    values = np.random.default_rng(1).uniform(-1e-6, 1 + 1e-6, (6, 7, 8)).astype(np.float32)
    values[0, 0, :2] = -1e-6, 1 + 1e-6
    image = sitk.GetImageFromArray(values)
    image.SetSpacing((1.0, 2.0, 3.0))
    write_probability(image, tmp_path / "p.nrrd")
    read = sitk.ReadImage(str(tmp_path / "p.nrrd"))
    assert read.GetSpacing() == (1.0, 2.0, 3.0)
    read = sitk.GetArrayFromImage(read)
    assert (read.min(), read.max()) == (0, 1)
    np.testing.assert_allclose(read, values, atol=0.0002)
