"""Lesion-wise Dice and HD95 as BraTS 2023 defines them for adult glioma.

Rules of https://github.com/rachitsaluja/BraTS-2023-Metrics for the challenge "BraTS-GLI". Averaging over lesions
instead of voxels makes a missed second focus, or a false one, cost as much as the main tumour.

* Truth lesions: components (26 neighbours) of the truth dilated three times, so that fragments close together are one
  lesion; the lesion itself is the undilated truth in it.
* A found component belongs to every lesion whose own dilation it touches. A lesion is compared with all of its
  components together, a lesion without any scores Dice 0 and HD95 374 mm, and so does each component without a lesion.
* Lesions of up to 50 mm3 are not scored, but what was found there is no false lesion.

One difference: HD95 is the percentile over surface voxels (MONAI), theirs weights them by surface area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from .metrics import PENALTY, Scores, crop, dice, hd95, surface_distances

DILATION = 3
LEAST_VOLUME = 50.0  # mm3; BraTS counts voxels, of 1 mm3
NEIGHBOURS_18 = ndimage.generate_binary_structure(3, 2)
NEIGHBOURS_26 = ndimage.generate_binary_structure(3, 3)


def lesion_scores(found: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> Scores:
    """Mean Dice and HD95 (mm) over lesions, and how many of the scored ones there are, were missed and are false.

    Args:
        found, truth: bool (z, y, x), one region of one case.
        spacing: mm, z, y, x.
    """
    found, truth = crop(found, truth, margin=2 * DILATION + 1)
    lesions, count = ndimage.label(_dilate(truth), NEIGHBOURS_26)
    lesions[~truth] = 0
    components, found_count = ndimage.label(found, NEIGHBOURS_26)
    explained = np.zeros(found_count + 1, dtype=bool)
    explained[0] = True  # the background
    pairs: list[tuple[float, float]] = []
    missed = 0
    for number in range(1, count + 1):
        lesion = lesions == number
        own = np.zeros(found_count + 1, dtype=bool)
        own[components[_dilate(lesion)]] = True
        own[0] = False
        explained |= own
        if lesion.sum() * math.prod(spacing) <= LEAST_VOLUME:
            continue
        if own.any():
            answer = own[components]
            pairs.append((dice(answer, lesion), hd95(surface_distances(answer, lesion, spacing))))
        else:
            missed += 1
            pairs.append((0.0, PENALTY))
    scored, false = len(pairs), int((~explained).sum())
    pairs += [(0.0, PENALTY)] * false
    mean_dice, mean_hd95 = np.mean(pairs, axis=0).tolist() if pairs else (1.0, 0.0)
    return {
        "lesion_dice": mean_dice,
        "lesion_hd95": mean_hd95,
        "lesions": scored,
        "lesions_missed": missed,
        "lesions_false": false,
    }


def _dilate(mask: np.ndarray) -> np.ndarray:
    """Three steps of 18 neighbours, computed in the mask's own surroundings; the same as in the whole array."""
    result = np.zeros_like(mask)
    if not mask.any():
        return result
    (box,) = ndimage.find_objects(mask.astype(np.uint8))
    around = tuple(slice(max(one.start - DILATION, 0), one.stop + DILATION) for one in box)
    result[around] = ndimage.binary_dilation(mask[around], NEIGHBOURS_18, iterations=DILATION)
    return result
