"""Where a head lies on the grid of a synthetic image; the same for all that is sampled there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from .anatomy import Anatomy


@dataclass(frozen=True)
class Placement:
    """Where each voxel of the image grid lies in the anatomy: coordinates for torch's grid_sample, (1, z, y, x, 3).

    coarser: how many anatomy voxels go into one image voxel along each axis.
    """

    coordinates: torch.Tensor
    coarser: float

    def sample(self, volumes: list[np.ndarray]) -> list[np.ndarray]:
        """Volumes on the anatomy's grid, linearly interpolated onto the image grid; 0 outside."""
        if self.coarser > 1.75:  # or tissue between the samples would be lost
            volumes = [_mean_of_three(volume) for volume in volumes]
        stack = torch.from_numpy(np.stack(volumes).astype(np.float32))[None]
        moved = F.grid_sample(stack, self.coordinates, mode="bilinear", padding_mode="zeros", align_corners=True)
        return list(moved[0].numpy())


def _mean_of_three(volume: np.ndarray) -> np.ndarray:
    """Mean over 3 x 3 x 3 voxels, near enough to the 2 x 2 x 2 of an image of twice the spacing, without its shift."""
    for axis in range(3):
        before, after = np.roll(volume, 1, axis), np.roll(volume, -1, axis)  # the rims are air: wrapping does no harm
        volume = (before + volume + after) * np.float32(1 / 3)
    return volume


def draw_placement(
    anatomy: Anatomy, size: tuple[int, int, int], spacing: float, rng: np.random.Generator, jitter_mm: float = 30.0
) -> Placement:
    """A head turned up to 25 degrees about each axis, scaled 0.8 to 1.2, mirrored half of the time, bent elastically.

    The brain's centre lies within `jitter_mm` of the centre of the image grid of `size` (z, y, x) voxels.
    """
    axes = [torch.linspace(-(side - 1) / 2, (side - 1) / 2, side) * spacing for side in size]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    matrix = np.diag(1.0 / (rng.uniform(0.82, 1.18) * rng.uniform(0.95, 1.05, 3)))
    for axis, angle in enumerate(np.deg2rad(rng.uniform(-25, 25, 3))):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[first, first] = turn[second, second] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    if rng.random() < 0.5:
        matrix[2] *= -1
    points = points @ torch.from_numpy(matrix.T.astype(np.float32))
    bend = torch.from_numpy(rng.standard_normal((1, 3, *(int(rng.integers(3, 7)) for _ in range(3))), dtype=np.float32))
    bend = F.interpolate(bend, size=size, mode="trilinear", align_corners=True)[0].permute(1, 2, 3, 0)
    points = points + bend * float(rng.uniform(0.0, 4.0))
    shape = torch.tensor(anatomy.brain.shape)
    weights = [anatomy.brain.sum(axis=tuple(o for o in range(3) if o != axis)) for axis in range(3)]
    centre = [float((np.arange(len(w)) * w).sum() / w.sum()) for w in weights]
    shift = rng.uniform(-1, 1, 3) * jitter_mm / anatomy.spacing
    voxels = points / anatomy.spacing + torch.tensor([c + s for c, s in zip(centre, shift)], dtype=torch.float32)
    return Placement((2 * voxels / (shape - 1) - 1).flip(-1)[None].float(), coarser=spacing / anatomy.spacing)
