"""Intensity normalisation: the one definition that training and segmentation share."""

from __future__ import annotations

import numpy as np

from .errors import UnusableInput

CLIP = 4.5
"""Normalised values are kept within +-CLIP standard deviations."""

PERCENTILES = (0.05, 99.9)
"""Raw values beyond these percentiles of the brain are clipped first: a vessel or a spike must not set the scale."""


def normalise(volume: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Z-score of one sequence over the brain, clipped to +-CLIP, 0 outside the brain.

    With v the raw values in the brain clipped to their 0.05th and 99.9th percentile: (v - mean(v)) / std(v).
    The result does not depend on the scanner's units: normalise(a * x + b) equals normalise(x) for a > 0.

    Args:
        volume: (z, y, x) raw intensities of any real dtype and unit.
        brain: (z, y, x) bool, True in the brain, where this sequence has data.

    Returns:
        (z, y, x) float32, in standard deviations.

    Raises:
        ValueError: the shapes differ (a programming error).
        UnusableInput: the brain is empty, or the intensities in it are all equal or not finite.
    """
    if volume.shape != brain.shape:
        raise ValueError(f"The image has shape {volume.shape}, its brain mask {brain.shape}; they must be equal.")
    inside = np.asarray(brain, dtype=bool)
    values = volume[inside].astype(np.float32)
    if values.size == 0:
        raise UnusableInput(
            "The brain mask is empty, expected at least some brain voxels. Check that the image shows a head."
        )
    low, high = np.percentile(values, PERCENTILES)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UnusableInput(
            "The image holds NaN or infinite values in the brain, expected finite intensities. Export the image again."
        )
    values = np.clip(values, low, high)
    # float64 sums: a scanner's offset of thousands would swallow the spread in float32
    mean = float(values.mean(dtype=np.float64))
    deviation = float(values.std(dtype=np.float64))
    if deviation <= 1e-6 * max(abs(float(low)), abs(float(high))):
        raise UnusableInput(
            f"The image has the same intensity ({mean:g}) all over the brain, expected contrast between tissues. "
            "Check that the right file was chosen and was exported completely."
        )
    result = np.zeros(volume.shape, dtype=np.float32)
    result[inside] = np.clip((values - mean) / deviation, -CLIP, CLIP)
    return result
