"""Label maps on the working grid."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid, resample
from MSTKDSegmenterLib.engine.regions import CLASSES, class_indices

BACKGROUND = CLASSES.index("background")


def class_map(labels: sitk.Image, grid: Grid, convention: str) -> np.ndarray:
    """Label map on another grid: each class resampled as a smooth indicator, the largest wins. uint8 (z, y, x).

    Raises:
        ValueError: a label value that the convention does not define.
    """
    indices = class_indices(sitk.GetArrayFromImage(labels), convention)
    scores = []
    for number in range(len(CLASSES)):
        indicator = sitk.GetImageFromArray((indices == number).astype(np.float32))
        indicator.CopyInformation(labels)
        outside = 1.0 if number == BACKGROUND else 0.0
        scores.append(sitk.GetArrayFromImage(resample(indicator, grid, default=outside, antialias=True)))
    return np.argmax(scores, axis=0).astype(np.uint8)
