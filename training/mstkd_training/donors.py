"""Pasted lesions that are not the same each time: of another size, on the other side, of another contrast.

A few hundred lesions, each met a hundred times, teach little more than themselves, and hardly any of them is small.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MSTKDSegmenterLib.engine.geometry import bounding_box
from scipy.ndimage import affine_transform

from .cache import Sample

SIZES = (0.6, 1.2)
"""Least and largest factor on a lesion's sides; its logarithm is uniform between them."""
CONTRAST, BRIGHTNESS = 0.15, 0.2
"""Most that a sequence's contrast (a factor of 1 and this) and brightness (in its z-scores) change."""


def varied(donor: Sample, head: Sample, rng: np.random.Generator, spacing: float) -> Sample:
    """The donor scaled about its middle, mirrored to the other side of `head` half of the time, each sequence changed.

    Args:
        head: what it will be pasted into; the plane that it is mirrored about is the middle of this brain's box.
        spacing: of both, mm.
    """
    donor = scaled(donor, float(np.exp(rng.uniform(*np.log(SIZES)))), spacing)
    if rng.random() < 0.5:
        box = bounding_box(head.brain)[2]
        donor = mirrored(donor, head.origin[0] + spacing * (box.start + box.stop - 1) / 2, spacing)
    count = len(donor.image)
    factor = rng.uniform(1 - CONTRAST, 1 + CONTRAST, count)[:, None, None, None].astype(np.float32)
    offset = rng.uniform(-BRIGHTNESS, BRIGHTNESS, count)[:, None, None, None].astype(np.float32)
    return replace(donor, image=(donor.image * factor + offset) * donor.brain)


def scaled(donor: Sample, factor: float, spacing: float) -> Sample:
    """With sides `factor` times as long, about the same middle; images linearly, labels by the nearest voxel."""
    before = np.array(donor.labels.shape)
    after = np.maximum(np.rint(before * factor).astype(int), 1)
    first = (before - 1) / 2 - (after - 1) / 2 / factor

    def moved(array: np.ndarray, order: int) -> np.ndarray:
        return affine_transform(
            array, np.full(3, 1 / factor), first, tuple(after), order=order, mode="nearest", prefilter=False
        )

    return replace(
        donor,
        image=np.stack([moved(channel.astype(np.float32), 1) for channel in donor.image]),
        brain=moved(donor.brain.astype(np.uint8), 0).astype(bool),
        labels=moved(donor.labels, 0),
        origin=donor.origin + spacing * ((before - 1) / 2 - (after - 1) / 2)[::-1],
    )


def mirrored(donor: Sample, middle: float, spacing: float) -> Sample:
    """On the other side of the plane x = `middle` (mm, LPS)."""
    origin = donor.origin.copy()
    origin[0] = 2 * middle - (origin[0] + spacing * (donor.labels.shape[2] - 1))
    return replace(
        donor, image=donor.image[..., ::-1], brain=donor.brain[..., ::-1], labels=donor.labels[..., ::-1], origin=origin
    )
