"""Scores of one region of one case: overlap, surface distances and volumes, on the native grid.

Masks are bool arrays (z, y, x) of one shape; spacing is in mm, in the same order z, y, x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional

import numpy as np
import torch
from monai.metrics.utils import get_edge_surface_distance
from MSTKDSegmenterLib.engine.geometry import bounding_box

PENALTY = 374.0
"""HD95 in mm where BraTS has nothing to measure: the diagonal of its field of 240 x 240 x 155 mm, 373.1, and a bit."""
TOLERANCES = (1, 2)
"""Tolerances of the surface Dice: how far apart in mm two surfaces may be and still count as the same."""

Scores = dict[str, Optional[float]]
"""Name of a metric -> value, None where the metric leaves the case out."""


def region_scores(found: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> Scores:
    """All scores of one region but the lesion-wise ones.

    HD95 comes in three conventions, because they rank methods differently as soon as a mask is empty. With D(A, B) the
    distances from the surface voxels of A (those with a face neighbour outside A) to the nearest of B, and P95 the 95th
    percentile with linear interpolation:

    ================== ==================== ================================ ==========
    HD95 in mm         official             brats                            excluded
    ================== ==================== ================================ ==========
    neither mask empty P95(D(A,B) + D(B,A)) max(P95(D(A,B)), P95(D(B,A)))    as "brats"
    both masks empty   0                    0                                left out
    one mask empty     0                    374                              left out
    ================== ==================== ================================ ==========

    official: the released code of MST-KDNet, which calls medpy's hd95: both directions are pooled before the
    percentile, and an empty answer is a perfect one. (It counts voxels; in BraTS they are 1 mm.) brats: the larger of
    both directions and 374 mm, as github.com/rachitsaluja/BraTS-2023-Metrics, which weights surface voxels by their
    area besides. excluded: the same distance over the cases in which it exists.
    """
    found, truth = crop(found, truth, margin=1)
    litre = math.prod(spacing) * 1e-3  # of one voxel, in ml
    true_ml, found_ml = truth.sum().item() * litre, found.sum().item() * litre
    scores: Scores = {
        "dice": dice(found, truth),
        "true_ml": true_ml,
        "found_ml": found_ml,
        "error_ml": found_ml - true_ml,
        "absolute_error_ml": abs(found_ml - true_ml),
        "error_percent": 100 * (found_ml - true_ml) / true_ml if true_ml else None,
    }
    if found.any() and truth.any():
        distances = surface_distances(found, truth, spacing)
        larger = hd95(distances)
        hausdorff: Scores = {"official": pooled_hd95(distances), "brats": larger, "excluded": larger}
        surface = {tolerance: surface_dice(distances, tolerance) for tolerance in TOLERANCES}
    else:
        both_empty = not (found.any() or truth.any())
        hausdorff = {"official": 0.0, "brats": 0.0 if both_empty else PENALTY, "excluded": None}
        surface = dict.fromkeys(TOLERANCES, 1.0 if both_empty else 0.0)
    scores |= {f"hd95_{convention}": value for convention, value in hausdorff.items()}
    return scores | {f"surface_dice_{tolerance}mm": value for tolerance, value in surface.items()}


def dice(found: np.ndarray, truth: np.ndarray) -> float:
    """2 |A and B| / (|A| + |B|); 1 if both are empty, 0 if one is."""
    total = found.sum().item() + truth.sum().item()
    return 2 * (found & truth).sum().item() / total if total else 1.0


def surface_distances(found: np.ndarray, truth: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distance in mm from each surface voxel of `found` to the surface of `truth`, and the other way; none is empty."""
    _, distances, _ = get_edge_surface_distance(
        torch.from_numpy(found), torch.from_numpy(truth), spacing=list(spacing), symmetric=True
    )
    there, back = distances
    return there.numpy(), back.numpy()


def hd95(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """The larger of the 95th percentiles of both directions (BraTS, MONAI)."""
    return max(np.percentile(one, 95).item() for one in distances)


def pooled_hd95(distances: tuple[np.ndarray, np.ndarray]) -> float:
    """The 95th percentile of the distances of both directions together (medpy, and so the released code)."""
    return np.percentile(np.concatenate(distances), 95).item()


def surface_dice(distances: tuple[np.ndarray, np.ndarray], tolerance: float) -> float:
    """Normalised surface Dice: share of both surfaces that lies within `tolerance` mm of the other one.

    (|{a in dA: d(a, dB) <= t}| + |{b in dB: d(b, dA) <= t}|) / (|dA| + |dB|), Nikolov et al., arXiv:1809.04430; surface
    voxels are counted (MONAI), where the paper weights surface elements by their area.
    """
    return np.mean(np.concatenate(distances) <= tolerance).item()


def crop(found: np.ndarray, truth: np.ndarray, margin: int) -> tuple[np.ndarray, np.ndarray]:
    """Both masks cut to the box around their union with a margin in voxels, as far as the arrays reach.

    Raises:
        ValueError: the masks are not on one grid.
    """
    if found.shape != truth.shape:
        raise ValueError(f"masks of shapes {found.shape} and {truth.shape} cannot be compared: they need the same grid")
    box = bounding_box(found | truth, margin)
    return np.ascontiguousarray(found[box]), np.ascontiguousarray(truth[box])
