"""From what a network says of a voxel to how often that was true, in patients whom such a network had not learnt from.

Networks that are trained for overlap are surer than they ought to be. So a package may have curves, measured in a
cross-validation: for each region one for subsets with T1ce and one for those without, where nobody sees enhancement.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

Curve = Sequence[Sequence[float]]
"""Points (said, true), both from 0 to 1 and rising, straight lines between them; level before and after."""

AS_SAID: Curve = ((0.0, 0.0), (1.0, 1.0))
"""That of a network which is taken at its word."""

WITH, WITHOUT = GROUPS = ("with T1ce", "without T1ce")
"""Groups of subsets that have a curve each."""


def group(subset: Iterable[str]) -> str:
    """The one of GROUPS that a subset of sequences belongs to."""
    return WITH if "T1ce" in subset else WITHOUT


def calibrated(probability: np.ndarray, curve: Curve, outer: np.ndarray | None = None) -> np.ndarray:
    """How often what a network says of a region was true.

    Args:
        probability: (z, y, x), 0 to 1, as the network says.
        outer: the calibrated probability of the region around it, which it does not exceed: each region has its own
            curve, and a voxel of the core is one of the whole tumour too.

    Returns:
        float32 (z, y, x), an array of its own.
    """
    said, true = np.array(curve, dtype=np.float64).T
    result = np.empty(probability.shape, dtype=np.float32)
    for plane, values in zip(result, probability):  # one at a time: interp computes in float64
        plane[:] = np.interp(values, said, true)
    return result if outer is None else np.minimum(result, outer, out=result)


def calibrated_number(probability: float, curve: Curve) -> float:
    """The same of a single number, such as a threshold."""
    said, true = zip(*curve)
    return float(np.interp(probability, said, true))
