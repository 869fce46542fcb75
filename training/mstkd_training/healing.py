"""A head without its tumour: what it has on the other side in its place.

A student that meets the same few heads again and again learns whose tumour is where instead of what tumour looks like.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from MSTKDSegmenterLib.engine.geometry import bounding_box
from scipy.ndimage import distance_transform_edt

from .cache import Sample
from .class_map import BACKGROUND

MARGIN = 2
"""Voxels around the tumour that are replaced too: its border is not sharp."""


def healed(study: Sample, feather: float) -> Sample:
    """The study with healthy tissue of the other half of the brain, mirrored, in the place of its tumour.

    The plane between the halves is the middle of the brain's box: BraTS heads stand upright. Where the brain is wider
    than on the other side, the nearest tissue there is taken. Tumour whose mirrored place is (nearly) tumour itself
    stays with its label. A study without tumour comes back as it is.

    Args:
        feather: width of the blended seam in voxels.
    """
    if (study.labels == BACKGROUND).all():
        return study
    box = bounding_box(study.brain)
    image, labels = study.image.copy(), study.labels.copy()
    here, brain, tumour = image[(slice(None), *box)], study.brain[box], labels[box] != BACKGROUND
    near = distance_transform_edt(~tumour) <= MARGIN  # of this box the mirror image is the reversed array
    nearest = distance_transform_edt(~brain[..., ::-1], return_distances=False, return_indices=True)
    healthy = (brain & ~near)[..., ::-1][tuple(nearest)]
    replaced = near & brain & healthy
    # the seam lies in the margin; where the tumour was, there is nothing of it
    depth = distance_transform_edt(replaced | ~brain)
    weight = np.where(replaced & tumour, 1, np.clip(depth / feather, 0, 1) * replaced).astype(np.float32)
    other = here[..., ::-1][(slice(None), *nearest)]
    here += weight * (other.astype(np.float32) - here)
    labels[box][replaced] = BACKGROUND
    return replace(study, image=image, labels=labels)
