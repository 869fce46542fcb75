"""Smooth things: random fields and a small Gaussian blur."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F


def smooth_field(shape: tuple[int, ...], cells: int, rng: np.random.Generator) -> np.ndarray:
    """Random field with about `cells` bumps along the longest side, mean 0, standard deviation about 1."""
    longest = max(shape)
    coarse = [max(2, round(cells * side / longest) + 1) for side in shape]
    noise = torch.from_numpy(rng.standard_normal([1, 1, *coarse], dtype=np.float32))
    field = F.interpolate(noise, size=shape, mode="trilinear", align_corners=True)[0, 0].numpy()
    return field * 1.5  # linear interpolation takes about a third of the spread away


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur, sigma in voxels up to 1."""
    kernel = torch.exp(-0.5 * (torch.arange(-3, 4) / sigma) ** 2)
    kernel = (kernel / kernel.sum()).float()
    volume = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    for axis in range(3):
        shape, padding = [1, 1, 1, 1, 1], [0, 0, 0]
        shape[2 + axis], padding[axis] = 7, 3
        volume = F.conv3d(volume, kernel.view(shape), padding=padding)
    return volume[0, 0].numpy()
