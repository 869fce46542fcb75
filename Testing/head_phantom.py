"""A small skull-stripped head in any contrast, reproducible from the number of the patient, and ways to move it."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid, resample

SPACING = 3.0
GRID = Grid((52, 60, 46), (SPACING,) * 3, (-78.0, -90.0, -60.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
BRIGHTNESS = {"FLAIR": (60, 100, 80, 20), "T1": (100, 70, 85, 30), "T1ce": (95, 75, 110, 25), "T2": (50, 70, 60, 120)}
"""Of four tissues, as far apart in the sequences as they are in patients."""


def head(sequence: str, patient: int = 0, lesion: bool = False) -> sitk.Image:
    """float32 on GRID, 0 outside the brain: an ellipsoid with patches of four tissues, smooth at 3 mm."""
    random = np.random.default_rng(patient)
    z, y, x = (np.moveaxis(GRID.physical(np.indices(GRID.shape)[::-1].transpose(1, 2, 3, 0)), -1, 0))[::-1]
    width, length, height = (64, 76, 56) * random.uniform(0.9, 1.05, 3)
    brain = (x / width) ** 2 + (y / length) ** 2 + ((z - 8) / height) ** 2 < 1 + 0.15 * np.sin(patient + y / 40)
    noise = sitk.SmoothingRecursiveGaussian(GRID.image(random.normal(size=GRID.shape).astype(np.float32)), 5.0)
    pattern = sitk.GetArrayFromImage(noise)
    tissue = np.digitize(pattern, np.quantile(pattern[brain], (0.35, 0.6, 0.85)))
    values = np.array(BRIGHTNESS[sequence], dtype=np.float32)[tissue]
    if lesion:
        values[(x - 25) ** 2 + (y - 20) ** 2 + (z - 15) ** 2 < 18**2] = {"T1": 50, "T1ce": 140}.get(sequence, 150)
    smooth = sitk.GetArrayFromImage(sitk.SmoothingRecursiveGaussian(GRID.image(values * brain), 2.0))
    return GRID.image(np.where(brain, smooth + random.normal(size=GRID.shape), 0).astype(np.float32))


def rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    """3x3 rotation matrix."""
    turn = sitk.VersorTransform((np.array(axis) / np.linalg.norm(axis)).tolist(), float(np.radians(degrees)))
    return np.array(turn.GetMatrix()).reshape(3, 3)


def rigid(degrees: float, axis: tuple[float, float, float], shift: tuple[float, float, float]) -> sitk.Euler3DTransform:
    """A motion about the middle of the head: degrees and mm."""
    transform = sitk.Euler3DTransform()
    transform.SetCenter([0.0, 0.0, 8.0])
    transform.SetMatrix(rotation(degrees, axis).ravel().tolist(), 1e-9)
    transform.SetTranslation(shift)
    return transform


def moved(image: sitk.Image, motion: sitk.Transform, grid: Grid = GRID) -> sitk.Image:
    """The image after the patient has moved: what was at p is at motion(p). Scanned on `grid`."""
    return resample(image, grid, transform=motion.GetInverse(), antialias=True)


def with_header(image: sitk.Image, matrix: np.ndarray, shift: tuple[float, float, float]) -> sitk.Image:
    """The same voxels with a header that places them at matrix @ p + shift instead of p."""
    grid = Grid.of(image)
    image = sitk.Image(image)
    image.SetOrigin((matrix @ grid.origin + shift).tolist())
    image.SetDirection((matrix @ grid.axes).ravel().tolist())
    return image


def relabelled(image: sitk.Image, order: tuple[int, int, int], flips: tuple[bool, bool, bool]) -> sitk.Image:
    """The same anatomy at the same place, stored with its axes permuted and reversed."""
    grid = Grid.of(image)
    array = sitk.GetArrayFromImage(image)
    last = np.array([n - 1 if flip else 0 for n, flip in zip(grid.size, flips)])
    signs = np.where(flips, -1, 1)
    array = array[tuple(slice(None, None, int(sign)) for sign in signs[::-1])]
    axes = (grid.axes * signs)[:, order]
    numpy_axes = [2 - axis for axis in order[::-1]]
    result = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(numpy_axes)))
    result.SetSpacing([grid.spacing[axis] for axis in order])
    result.SetOrigin(grid.physical(last).tolist())
    result.SetDirection(axes.ravel().tolist())
    return result
