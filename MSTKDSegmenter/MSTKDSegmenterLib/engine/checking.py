"""Whether an image can be a head MRI at all, and its values made safe to compute with."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .errors import UnusableInput
from .geometry import Grid, nearest_rotation, shear

SPACING_MM = (0.1, 12.0)
"""Voxel sizes of head MRI: below is a micrometre or metre mix-up, above no anatomy is left."""
FIELD_OF_VIEW_MM = (60.0, 600.0)
"""Extent along each axis: less than the first holds no brain, more than the second is no scanner's."""
_MOST_VOXELS = 2**29
_LEAST_FINITE = 0.05
"""Share of the voxels that must be numbers: a NaN background around a brain is common, a NaN image is not usable."""
_PADDING_SHARE = 0.001
_ABSURD_VALUE = 1e30
_PADDING_MAXIMA = (32767.0, 63536.0, 65535.0)
_FEW_VALUES = 8
_STRAIGHT = 1e-5
"""Cosine between two axes that are stored as perpendicular in all formats."""
_ROUNDED = 1e-3
"""Cosine that comes from directions of three digits; over a head of 250 mm it is 0.25 mm."""


def check_image(image: sitk.Image, name: str, not_finite: int = 0) -> tuple[sitk.Image, list[str]]:
    """``image`` as 3-D float32 with finite values and padding set to 0, and notes about what was changed or is odd.

    A 4-D image of one frame counts as 3-D. The input image is not changed. ``not_finite`` is the number of voxels that
    were NaN or infinite in the file and that its reader has set to 0.

    Raises:
        UnusableInput: 2-D, 4-D, colour or complex; voxel size or extent absurd; nothing in it. ``name`` is in the text.
    """
    image = _one_frame(image, name)
    _check_geometry(image, name)
    notes: list[str] = []
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    _replace_not_finite(values, not_finite, name, notes)
    _replace_padding(values, name, notes)
    lowest, highest = float(values.min()), float(values.max())
    if lowest == highest:
        what = "all voxels are 0" if lowest == 0 else f"all voxels have the same value, {lowest:g}"
        msg = f"{name} is empty: {what}. Give the image itself, not a blank or failed export."
        raise UnusableInput(msg)
    sample = values.ravel()[:: max(1, values.size // 200_000)]
    if np.unique(sample).size <= _FEW_VALUES:
        notes.append(f"{name} holds only a few different values, as a label map does; check that it is an MRI.")
    checked = sitk.GetImageFromArray(values)
    checked.CopyInformation(image)
    _straighten(checked, name, notes)
    return checked, notes


def _one_frame(image: sitk.Image, name: str) -> sitk.Image:
    size = image.GetSize()
    if image.GetNumberOfComponentsPerPixel() > 1:
        msg = (
            f"{name} has {image.GetNumberOfComponentsPerPixel()} values per voxel (colour, vectors or time points); "
            "expected one. Export the MRI itself as a scalar volume."
        )
        raise UnusableInput(msg)
    if "complex" in image.GetPixelIDTypeAsString():
        msg = f"{name} is complex-valued; expected a magnitude image. Export the magnitude."
        raise UnusableInput(msg)
    frames = int(np.prod(size[3:]))
    if frames > 1:
        msg = (
            f"{name} is {len(size)}-D with size {_by(size)}; expected one 3-D image. "
            "Split it into one file per sequence and give the one that is meant."
        )
        raise UnusableInput(msg)
    if len(size) < 3 or min(size[:3]) < 2:
        msg = f"{name} is 2-D, its size is {_by(size)}; expected a volume. Give the whole series, not one slice."
        raise UnusableInput(msg)
    if len(size) > 3:
        image = sitk.Extract(image, [*size[:3], *[0] * (len(size) - 3)])
    return image


def _straighten(image: sitk.Image, name: str, notes: list[str]) -> None:
    """Take the rotation that is nearest to slightly sheared axes, in place: not all formats could hold the others."""
    axes = Grid.of(image).axes
    cosine = shear(axes)
    if cosine > _STRAIGHT:
        image.SetDirection(nearest_rotation(axes).ravel().tolist())
    if cosine > _ROUNDED:
        notes.append(straightened(name, np.degrees(np.arcsin(cosine))))


def straightened(name: str, degrees: float) -> str:
    """A note that the axes of an image were this far from right angles and are no longer."""
    return f"{name}: its axes are {degrees:.2f} degrees from right angles; the nearest straight grid was taken."


def _check_geometry(image: sitk.Image, name: str) -> None:
    size, spacing = np.array(image.GetSize()), np.array(image.GetSpacing())
    if np.prod(size, dtype=float) > _MOST_VOXELS:
        msg = f"{name} has {_by(size)} voxels, more than any head MRI; check the file or resample it."
        raise UnusableInput(msg)
    if not np.all(np.isfinite(spacing)) or spacing.min() < SPACING_MM[0] or spacing.max() > SPACING_MM[1]:
        msg = (
            f"{name}: the voxel size is {_by(spacing)} mm, expected {SPACING_MM[0]:g} to {SPACING_MM[1]:g} mm. "
            "Export the image again with its voxel size in mm."
        )
        raise UnusableInput(msg)
    extent = size * spacing
    if extent.min() < FIELD_OF_VIEW_MM[0] or extent.max() > FIELD_OF_VIEW_MM[1]:
        msg = (
            f"{name} measures {_by(extent)} mm, expected {FIELD_OF_VIEW_MM[0]:g} to {FIELD_OF_VIEW_MM[1]:g} mm "
            "per axis. A head MRI is needed, with its voxel size in mm, not a slab or a crop."
        )
        raise UnusableInput(msg)
    direction = np.array(image.GetDirection()).reshape(3, 3)
    placed = np.all(np.isfinite(direction)) and np.all(np.isfinite(image.GetOrigin()))
    if not placed or not np.allclose(direction.T @ direction, np.eye(3), atol=1e-2):
        msg = (
            f"{name}: its axes are not at right angles or its position is no number (direction "
            f"{np.round(direction, 3).tolist()}, origin {image.GetOrigin()}). Resample it to a straight grid first."
        )
        raise UnusableInput(msg)


def _replace_not_finite(values: np.ndarray, replaced: int, name: str, notes: list[str]) -> None:
    bad = ~(np.abs(values) < _ABSURD_VALUE)
    count = replaced + int(np.count_nonzero(bad))
    if count == 0:
        return
    if count > (1 - _LEAST_FINITE) * values.size:
        msg = f"{name} is full of NaN or infinite values ({count} of {values.size} voxels). Export the image again."
        raise UnusableInput(msg)
    values[bad] = 0
    notes.append(f"{name}: {count} voxels ({count / values.size:.2%}) were NaN or infinite and are taken as 0.")


def _replace_padding(values: np.ndarray, name: str, notes: list[str]) -> None:
    """Set to 0 what stands for "outside the scan": one value far away from all others, as -32768 or 65535."""
    lowest, highest = float(values.min()), float(values.max())
    if lowest < 0 and lowest == round(lowest):
        others = values[values > lowest]
        apart = others.size > 0 and (others.min() >= 0 or (lowest <= -1000 and others.min() > lowest / 10))
        if apart:
            _zero(values, lowest, name, notes)
    if highest in _PADDING_MAXIMA:
        others = values[values < highest]
        if others.size > 0 and others.max() < highest / 2:
            _zero(values, highest, name, notes)


def _zero(values: np.ndarray, padding: float, name: str, notes: list[str]) -> None:
    where = values == padding
    count = int(np.count_nonzero(where))
    if count < _PADDING_SHARE * values.size:
        return
    values[where] = 0
    notes.append(f"{name}: {count} voxels ({count / values.size:.2%}) have the padding value {padding:g}, taken as 0.")


def _by(numbers: np.ndarray | tuple[int, ...]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
