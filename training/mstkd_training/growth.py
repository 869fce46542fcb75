"""Growth of a glioma by diffusion and proliferation (Fisher and Kolmogorov), the shape that no data set gave.

du/dt = div(D grad u) + rho u (1 - u), u the cell density 0..1; D is about ten times larger in white than in grey matter
(Swanson et al., A quantitative model for differential motility of gliomas in grey and white matter, Cell Prolif. 2000)
and 0 in fluid and outside the brain, across whose borders nothing flows.
"""

from __future__ import annotations

import numpy as np

from .fields import smooth_field

GREY = 0.1
"""Diffusion in grey matter, as a share of that in white matter."""
FRONT = 0.1
"""Density that counts as tumour when its volume is measured."""
_STEP = 0.15  # D dt / h^2 in pure white matter; above 1/6 the explicit scheme would be unstable
_FASTEST = 0.5  # rho dt; the explicit scheme overshoots beyond 1. It limits `width` to half a voxel or more
_MOST_STEPS = 400
_REACH_MM = 72.0  # of the box that is simulated, around the seeds


def grow(
    white: np.ndarray,
    grey: np.ndarray,
    seeds: np.ndarray,
    spacing: float,
    width: float,
    volume: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Cell density when the tumour has reached a volume, or has no more room.

    Args:
        white, grey: shares per voxel, float32 (z, y, x).
        seeds: voxels where it starts, (n, 3).
        spacing: mm.
        width: sqrt(D / rho) in white matter, mm: how far cells wander before they multiply.
        volume: of what is denser than FRONT, ml.
        rng: D varies by a smooth random factor, so that the front is not too regular.

    Returns:
        float32 (z, y, x).
    """
    reach = int(_REACH_MM / spacing)
    low = np.maximum(seeds.min(axis=0) - reach, 0)
    box = tuple(slice(a, b) for a, b in zip(low, seeds.max(axis=0) + reach + 1))
    white, grey, whole = white[box], grey[box], np.zeros(white.shape, np.float32)
    speed = np.exp(0.5 * np.clip(smooth_field(white.shape, 14, rng) - 1, -4, 0))
    diffusion = (_STEP * np.clip(white + GREY * grey, 0, 1) * speed).astype(np.float32)
    rate = np.where(white + grey > 0.3, np.float32(min(_STEP * (spacing / width) ** 2, _FASTEST)), np.float32(0))
    conduct = [_between(diffusion, axis) for axis in range(3)]
    u = np.zeros_like(white)
    u[tuple((seeds - low).T)] = 1.0
    wanted = volume * 1000 / spacing**3
    for step in range(_MOST_STEPS):
        if step % 4 == 0 and np.count_nonzero(u > FRONT) >= wanted:
            break
        change = rate * u * (1 - u)
        for axis, across in enumerate(conduct):
            flow = across * np.diff(u, axis=axis)
            change[_part(slice(None, -1), axis)] += flow
            change[_part(slice(1, None), axis)] -= flow
        u += change
    whole[box] = u
    return whole


def _between(diffusion: np.ndarray, axis: int) -> np.ndarray:
    """D at the faces between voxels: the harmonic mean, 0 where either side is fluid."""
    one, other = diffusion[_part(slice(None, -1), axis)], diffusion[_part(slice(1, None), axis)]
    return 2 * one * other / (one + other + np.float32(1e-9))


def _part(which: slice, axis: int) -> tuple[slice, ...]:
    return tuple(which if other == axis else slice(None) for other in range(3))
