"""Cutting a volume into overlapping tiles, and the weights with which their results are averaged."""

from __future__ import annotations

from itertools import product

import numpy as np

SMALLEST = 64
"""No side of a tile is made shorter than this many voxels: the network needs to see where in the brain it is."""

Tile = tuple[int, int, int]


def covering(shape: Tile, multiple: int) -> Tile:
    """The smallest (z, y, x) shape that holds ``shape`` and whose sides are multiples of ``multiple``."""
    z, y, x = (_rounded_up(side, multiple) for side in shape)
    return z, y, x


def smaller(tile: Tile, multiple: int) -> Tile | None:
    """The tile with its longest side halved, or None if every side is as short as it may get."""
    axis = int(np.argmax(tile))
    side = _rounded_up(max(SMALLEST, tile[axis] // 2), multiple)
    if side >= tile[axis]:
        return None
    halved = list(tile)
    halved[axis] = side
    return halved[0], halved[1], halved[2]


def places(shape: Tile, tile: Tile) -> list[tuple[slice, slice, slice]]:
    """Where tiles lie in a volume of ``shape``: neighbours overlap by at least half, the last ones end at the border.

    Raises:
        ValueError: a side of the tile is longer than the volume's (a programming error).
    """
    if any(side > length for side, length in zip(tile, shape)):
        raise ValueError(f"a tile of {tile} does not fit into a volume of {shape}; pad the volume first")
    starts = []
    for length, side in zip(shape, tile):
        inner = range(0, length - side, max(1, side // 2))
        starts.append([*inner, length - side])
    return [(slice(z, z + tile[0]), slice(y, y + tile[1]), slice(x, x + tile[2])) for z, y, x in product(*starts)]


def weights(tile: Tile) -> np.ndarray:
    """(z, y, x) float32: a Gaussian around the tile's centre, sigma an eighth of each side, never below 0.001.

    Near its border a tile has seen only half of the surroundings, so it has less say there than its neighbour.
    """
    axes = []
    for side in tile:
        offset = np.arange(side) - (side - 1) / 2
        axes.append(np.exp(-0.5 * (offset / (side / 8)) ** 2))
    z, y, x = axes
    gaussian = z[:, None, None] * y[None, :, None] * x[None, None, :]
    return np.maximum(gaussian, 1e-3).astype(np.float32)


def _rounded_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
