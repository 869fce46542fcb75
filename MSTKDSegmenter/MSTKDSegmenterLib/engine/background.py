"""The constant background of an image: what of its grid shows nothing, and what of it was never measured."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from .geometry import Grid

FAINT = 0.01
"""Of the brightness of what an image shows: splines and windowed sincs leave ringing around it, mostly weaker. None of
the 14 BraTS studies loses a voxel by it."""

_MOST_FACES = 4

THIN_MM = 3.0
"""Half the width of zeros that are anatomy (bone, fluid, the noise between them set to zero), not padding."""


def background_value(image: sitk.Image) -> float | None:
    """The one value that at least half of the image's outermost voxels have, or None: real air is noisy.

    Most of its faces have to show that value, or faint ringing about it: empty slices at the ends of a stack are two,
    and many voxels where slices are thick.
    """
    faces = _faces(image)
    values, counts = np.unique(np.concatenate(faces), return_counts=True)
    most = values[counts.argmax()]
    if 2 * counts.max() < sum(face.size for face in faces):
        return None
    value = float(most)
    if _on_most(faces, value, 0.0) or _on_most(faces, value, _faint(_distance(image, value))):
        return value
    return None


def _padding_value(image: sitk.Image) -> float | None:
    """The background, or else the value that one whole face has: of slices that were not measured."""
    background = background_value(image)
    whole = [face[0] for face in _faces(image) if (face == face[0]).all()]
    return float(whole[0]) if background is None and whole else background


def _on_most(faces: list[np.ndarray], value: float, limit: float) -> bool:
    alike = (np.abs(face.astype(np.float64) - value) <= limit for face in faces)
    return sum(2 * np.count_nonzero(one) >= one.size for one in alike) >= _MOST_FACES


def _faces(image: sitk.Image) -> list[np.ndarray]:
    array = sitk.GetArrayViewFromImage(image)
    return [np.take(array, end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]


def shown(image: sitk.Image, background: float) -> sitk.Image:
    """uint8, 1 where the image differs from its background by more than interpolation leaves there.

    Args:
        image: 3-D, any real pixel type.
        background: its value, see `background_value`.
    """
    distance = _distance(image, background)
    return sitk.Cast(distance > _faint(distance), sitk.sitkUInt8)


def _distance(image: sitk.Image, background: float) -> sitk.Image:
    return sitk.Abs(sitk.Cast(image, sitk.sitkFloat32) - background)


def _faint(distance: sitk.Image) -> float:
    values = sitk.GetArrayViewFromImage(distance)
    bright = values[values > values.mean()]
    return FAINT * float(bright.mean()) if bright.size else 0.0


def measured(image: sitk.Image) -> sitk.Image:
    """uint8, 1 but in padding: constant background from the image's border inwards, where resampling had no data.

    Zeros in thin paths are none, nor are those with something measured all around.

    Args:
        image: 3-D with skull, any real pixel type; of a stripped brain, all around it is like padding.
    """
    grid, background = Grid.of(image), _padding_value(image)
    if background is None:
        return grid.empty_image(sitk.sitkUInt8) + 1
    # on blocks of half that width, or fine images would take tens of seconds
    blocks = [max(1, int(THIN_MM / 2 / step)) for step in grid.spacing]
    radius = [round(THIN_MM / (step * block)) for step, block in zip(grid.spacing, blocks)]
    # beyond the border all is padding: a layer along it counts, however thin
    around = [(side + 1) * block for side, block in zip(radius, blocks)]
    beyond = [side + -size % block for side, size, block in zip(around, grid.size, blocks)]
    outside = sitk.ConstantPad(shown(image, background) == 0, around, beyond, 1)
    empty = sitk.BinShrink(sitk.Cast(outside, sitk.sitkFloat32), blocks) == 1
    thick = sitk.GrayscaleDilate(sitk.GrayscaleErode(empty, radius, sitk.sitkBox), radius, sitk.sitkBox)
    # the first part that is met, at the corner
    padding = sitk.Expand(sitk.ConnectedComponent(thick) == 1, blocks, sitk.sitkNearestNeighbor)
    inside = sitk.RegionOfInterest(padding == 0, grid.size, around)
    return grid.image(sitk.GetArrayViewFromImage(inside))
