"""Image files, of which one that could not be written in full is an error."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk

from .errors import UnusableInput
from .nifti_header import check_nifti


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
