"""What a scanner does to an image: bias field, thick slices, noise, limited field of view, gamma."""

from __future__ import annotations

import numpy as np

from .fields import blur, smooth_field


def slice_matrices(
    count: int, spacing: float, thickness: float, distance: float, first: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thick slices along an axis of `count` voxels as matrices: (slices, count) to acquire, (count, slices) to undo.

    A slice is the mean of a Gaussian profile with full width `thickness` mm; slices lie `distance` mm apart from
    `first` mm on, and going back is linear interpolation. The third array says which voxels lie between slices.
    """
    voxels = np.arange(count) * spacing
    centres = np.arange(first, voxels[-1] + 1e-6, distance)
    sigma = np.hypot(thickness / 2.355, 0.3 * spacing)
    profile = np.exp(-0.5 * ((voxels[None] - centres[:, None]) / sigma) ** 2)
    profile /= profile.sum(axis=1, keepdims=True)
    position = (voxels - centres[0]) / distance
    weights = np.clip(1 - np.abs(np.clip(position, 0, len(centres) - 1)[:, None] - np.arange(len(centres))), 0, None)
    covered = (position >= -0.5) & (position <= len(centres) - 0.5)
    return profile.astype(np.float32), weights.astype(np.float32), covered


def acquire(image: np.ndarray, spacing: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """What a scanner does to a painted head: bias field, thick slices, noise, limited field of view, gamma.

    Returns the image on the same grid (0 outside the field of view) and the field of view, bool (z, y, x).
    """
    seen = np.ones(image.shape, dtype=bool)
    image = image * np.exp(rng.uniform(0.0, 0.35) * smooth_field(image.shape, int(rng.integers(1, 5)), rng))
    noise = rng.uniform(0.0, 0.08) if rng.random() < 0.7 else 0.0
    if rng.random() < 0.65:
        axis = int(rng.choice(3, p=(0.6, 0.2, 0.2)))
        distance = rng.uniform(max(1.0, spacing), 8.0)
        parts = slice_matrices(
            image.shape[axis], spacing, distance * rng.uniform(0.6, 1.0), distance, rng.uniform(0, distance)
        )
        acquired = np.tensordot(parts[0], image, axes=(1, axis))
        restored = np.tensordot(parts[1], rician(acquired, noise, rng), axes=(1, 0))
        image = np.moveaxis(restored, 0, axis)
        seen &= np.expand_dims(parts[2], [other for other in range(3) if other != axis])
    else:
        image = rician(image, noise, rng)
    if rng.random() < 0.3:
        image = blur(image, rng.uniform(0.3, 1.0))
    for axis, most in enumerate((0.3, 0.15, 0.12)):
        side = image.shape[axis]
        for end in range(2):
            if rng.random() < (0.35 if axis == 0 else 0.15):
                cut = int(rng.uniform(0, most) * side)
                place = slice(0, cut) if end == 0 else slice(side - cut, side)
                seen[tuple(place if other == axis else slice(None) for other in range(3))] = False
    top = float(image.max()) or 1.0
    image = top * (image / top) ** np.exp(rng.normal(0, 0.25))
    if rng.random() < 0.25:  # scanners and anonymisers often set the background to exactly zero
        image = np.where(image < rng.uniform(0.02, 0.08) * top, 0.0, image)
    return np.where(seen, image, 0.0).astype(np.float32), seen


def rician(image: np.ndarray, sigma: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude of a complex signal with Gaussian noise in both parts."""
    if sigma == 0.0:
        return image
    real = image + sigma * rng.standard_normal(image.shape, dtype=np.float32)
    return np.hypot(real, sigma * rng.standard_normal(image.shape, dtype=np.float32))
