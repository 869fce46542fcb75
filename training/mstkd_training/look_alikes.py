"""Bright like tumour, but none: caps of the ventricles, white-matter lesions, vessels, choroid plexus, dura."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.ndimage import gaussian_filter

from .fields import smooth_field


def look_alikes(
    tissue: Mapping[str, np.ndarray], brain: np.ndarray, midline: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Shares of lesions and caps (bright on FLAIR) and of vessels (bright on T1ce), float32 (2, z, y, x).

    Args:
        tissue: share by name, see heads.CHANNELS.
        brain: bool (z, y, x).
        midline: mm to the left of the plane between the hemispheres.
    """
    shape = brain.shape
    vessels = _vessels(tissue, brain, midline, rng)
    caps = np.zeros(shape, np.float32)
    if rng.random() < 0.6:
        caps += _caps(tissue, rng)
    if rng.random() < 0.5:
        spots = smooth_field(shape, int(rng.integers(16, 36)), rng) - rng.uniform(2.2, 3.5)
        caps += np.clip(2 * spots, 0, 1) * tissue["white_matter"]
    return np.stack([np.clip(caps, 0, 1) * (1 - vessels), vessels])


def _caps(tissue: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """A rim of white matter around the ventricles, thicker here and there, mostly at their horns."""
    near = gaussian_filter(tissue["ventricle"], rng.uniform(0.8, 2.0))
    uneven = np.clip(0.5 + 0.6 * smooth_field(near.shape, 9, rng), 0, 1)
    return np.clip(near * rng.uniform(1.5, 5.0), 0, 1) * uneven * tissue["white_matter"]


def _vessels(
    tissue: Mapping[str, np.ndarray], brain: np.ndarray, midline: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    shape, fluid = brain.shape, tissue["csf"]
    first, second = smooth_field(shape, 18, rng), smooth_field(shape, 18, rng)
    tubes = np.exp(-(first**2 + second**2) / 0.12)  # where two random surfaces cross
    vessels = tubes * np.clip(rng.uniform(1.5, 4.0) * fluid, 0.05, 1)
    choroid = np.clip(2 * smooth_field(shape, 24, rng) - rng.uniform(1.5, 3.0), 0, 1) * tissue["ventricle"]
    surface = gaussian_filter(brain.astype(np.float32), 2.0)  # 0.5 at the surface, 1 inside
    dura = (
        np.clip(tissue["outside"] + fluid, 0, 1) * (surface < 0.65) * np.clip(smooth_field(shape, 14, rng) - 0.3, 0, 1)
    )
    sinus = np.exp(-((midline / 2.5) ** 2)) * (surface < 0.75) * _behind_or_above(brain)
    return np.clip(np.maximum.reduce([vessels, choroid, dura, sinus]), 0, 1) * rng.uniform(0.7, 1.0)


def _behind_or_above(brain: np.ndarray) -> np.ndarray:
    """The upper and the posterior half of the image, where the great sinuses run."""
    z, y, _ = (np.linspace(0, 1, side, dtype=np.float32) for side in brain.shape)
    return (np.maximum(z[:, None], y[None]) > 0.6)[:, :, None]
