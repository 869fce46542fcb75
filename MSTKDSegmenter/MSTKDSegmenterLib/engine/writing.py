"""Image files, of which one that could not be written in full is an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .errors import UnusableInput
from .nifti_header import check_nifti
from .regions import REGIONS

PROBABILITIES = {region: f"probability_{region}.nrrd" for region in REGIONS}
"""Names of the files of probabilities."""
STEP = 1 / 4096
"""Between two probabilities that are told apart in the files."""


def write_image(image: sitk.Image, path: Path, compressed: bool = True) -> None:
    """Write an image as the path's ending says.

    Raises:
        OSError: it could not be written, or not all of it. ITK has another exception for the former, and for a NIfTI
            file that a full disk cut short, none.
    """
    try:
        sitk.WriteImage(image, str(path), useCompression=compressed)
        if path.name.endswith((".nii", ".nii.gz")):
            check_nifti(path)
    except UnusableInput as error:
        raise OSError(f"{path} was not written in full") from error
    except RuntimeError as error:
        raise OSError(f"{path} was not written: {str(error).splitlines()[-1]}") from error


def write_probability(probability: sitk.Image, path: Path) -> None:
    """Write rounded to STEP, so that it packs to a few per cent: the last bits of a network's output are noise.

    Raises:
        OSError: as write_image.
    """
    steps = np.round(np.clip(sitk.GetArrayViewFromImage(probability), 0, 1) / np.float32(STEP))
    rounded = sitk.GetImageFromArray(steps * np.float32(STEP))
    rounded.CopyInformation(probability)
    write_image(rounded, path)
