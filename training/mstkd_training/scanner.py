"""What lies between a brain and its four normalised images: position, bias field, resolution, noise, response."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from .acquisition import rician, slice_matrices
from .fields import blur, smooth_field

_LEVEL, _SCALE = 0.55, 0.13
"""Raw intensity of the average brain voxel and of one standard deviation: where 0 is, for the bias field and noise."""
# How often a sequence comes in thick slices, as published gliomas do; the T1ce is mostly a volume scan.
_THICK = {"FLAIR": 0.5, "T1": 0.5, "T1ce": 0.25, "T2": 0.5}
_MISALIGNED = 0.5


def scan(image: np.ndarray, sequence: str, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """(z, y, x) in standard deviations of the brain -> raw intensities of arbitrary scale, not negative."""
    if rng.random() < _MISALIGNED:
        image = _misaligned(image, spacing, rng)
    image = np.clip(_LEVEL + _SCALE * image, 0.01, None)
    image *= np.exp(rng.uniform(0.0, 0.14) * smooth_field(image.shape, int(rng.integers(1, 4)), rng))
    noise = _SCALE * float(np.exp(rng.uniform(np.log(0.02), np.log(0.2))))
    if rng.random() < _THICK[sequence]:
        image = _thick(image, spacing, noise, rng)
    else:
        if rng.random() < 0.4:
            image = blur(image, rng.uniform(0.3, 0.7))
        image = rician(image, noise, rng)
    if rng.random() < 0.1:
        image = _ringing(image, rng)
    return image ** np.float32(np.exp(rng.normal(0, 0.12)))


def _thick(image: np.ndarray, spacing: float, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Acquired in slices of 3 to 6.5 mm, mostly axial ones, and brought back."""
    axis = int(rng.choice(3, p=(0.8, 0.1, 0.1)))
    distance = rng.uniform(3.0, 6.5)
    acquire, restore, _ = slice_matrices(
        image.shape[axis], spacing, distance * rng.uniform(0.7, 1.0), distance, rng.uniform(0, distance)
    )
    slices = rician(np.tensordot(acquire, image, axes=(1, axis)), noise, rng)
    return np.moveaxis(np.tensordot(restore, slices, axes=(1, 0)), 0, axis)


def _misaligned(image: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Shifted by up to 1 mm and turned by up to 2 degrees."""
    angles = np.deg2rad(rng.uniform(-2, 2, 3) / np.sqrt(3))
    turn = np.reshape(sitk.Euler3DTransform((0.0, 0.0, 0.0), *angles).GetMatrix(), (3, 3))
    sides = np.array(image.shape[::-1])
    matrix = turn * sides[None] / sides[:, None]  # grid_sample counts every axis from -1 to 1
    shift = rng.uniform(-1, 1, 3) / np.sqrt(3) / (spacing * sides / 2)
    theta = torch.from_numpy(np.column_stack([matrix, shift]).astype(np.float32))[None]
    grid = F.affine_grid(theta, [1, 1, *image.shape], align_corners=False)
    volume = torch.from_numpy(np.ascontiguousarray(image))[None, None]
    return F.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False)[0, 0].numpy()


def _ringing(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gibbs: the highest spatial frequencies along one axis are missing."""
    axis = int(rng.integers(1, 3))
    waves = np.fft.rfft(image, axis=axis)
    kept = np.arange(waves.shape[axis]) < rng.uniform(0.55, 0.8) * waves.shape[axis]
    waves *= kept.reshape([-1 if other == axis else 1 for other in range(3)])
    return np.clip(np.fft.irfft(waves, n=image.shape[axis], axis=axis), 0, None).astype(np.float32)
