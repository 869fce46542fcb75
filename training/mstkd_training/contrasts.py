"""How bright each tissue is in FLAIR, T1, T1ce and T2: values of real studies, jittered within their order.

Units are standard deviations of the brain, the network's own: the priors are means and spreads (between and within
studies) of the normalised intensities of nine training studies; pure tissues, which thick voxels mix, lie a little
further out than what was measured there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from MSTKDSegmenterLib.engine.sequences import SEQUENCES

from .heads import TISSUES as HEALTHY

TUMOUR = ("NCR", "ED", "ET", "cavity")
TISSUES = (*HEALTHY, "outside", "cap", "vessel", *TUMOUR)
"""What a voxel may be a mixture of. cap: bright rim of the ventricles; vessel: also choroid plexus, dura, sinus."""

# Tissue -> mean in FLAIR, T1, T1ce, T2; texture (standard deviation within a study) in the same order.
_PRIOR: dict[str, tuple[tuple[float, float, float, float], tuple[float, float, float, float]]] = {
    "white_matter": ((-0.2, 0.75, 0.6, -0.6), (0.14, 0.11, 0.14, 0.1)),
    "white_matter_lesion": ((1.8, 0.0, 0.0, 0.9), (0.4, 0.3, 0.3, 0.4)),
    "cortex": ((0.5, -0.05, -0.2, 0.15), (0.2, 0.14, 0.2, 0.18)),
    "deep_grey": ((0.1, 0.35, 0.2, -0.35), (0.2, 0.16, 0.18, 0.15)),
    "stem": ((-0.2, 0.65, 0.45, -0.45), (0.2, 0.16, 0.2, 0.16)),
    "cerebellum": ((0.1, -0.1, -0.05, 0.0), (0.2, 0.16, 0.2, 0.16)),
    "ventricle": ((-1.6, -1.8, -1.3, 3.8), (0.3, 0.2, 0.25, 0.5)),
    "csf": ((-1.2, -1.2, -0.8, 3.0), (0.5, 0.35, 0.5, 0.9)),
    "outside": ((-1.2, -1.3, 0.4, -0.8), (0.7, 0.7, 1.2, 0.7)),
    "cap": ((2.2, 0.1, 0.1, 0.9), (0.3, 0.2, 0.2, 0.3)),
    "vessel": ((-0.5, -0.4, 5.5, -0.8), (0.4, 0.5, 1.0, 0.4)),
    "NCR": ((1.7, -0.35, -0.25, 2.2), (0.9, 0.3, 0.35, 0.9)),
    "ED": ((2.65, 0.12, -0.12, 1.5), (0.45, 0.25, 0.25, 0.4)),
    "ET": ((1.85, 0.0, 2.8, 1.35), (0.6, 0.3, 0.75, 0.45)),
    "cavity": ((-1.2, -1.8, -1.4, 3.2), (0.5, 0.3, 0.4, 0.5)),
}
# Standard deviation between studies, in the same order; _USUAL_SPREAD for the other tissues.
_SPREAD: dict[str, tuple[float, float, float, float]] = {
    "ventricle": (0.6, 0.5, 0.5, 0.7),
    "csf": (0.5, 0.4, 0.4, 0.7),
    "outside": (0.7, 0.7, 0.7, 0.7),
    "vessel": (0.5, 0.7, 1.0, 0.5),
    "NCR": (1.0, 0.45, 0.6, 0.7),
    "ED": (0.5, 0.3, 0.3, 0.35),
    "ET": (1.0, 0.45, 0.7, 0.5),
    "cavity": (0.5, 0.4, 0.4, 0.6),
}
_USUAL_SPREAD = (0.14, 0.14, 0.14, 0.14)
MARGIN = 0.2
ORDER: dict[str, tuple[tuple[str, str], ...]] = {
    "FLAIR": (("ED", "cortex"), ("ED", "white_matter"), ("cortex", "csf"), ("white_matter", "ventricle")),
    "T1": (("white_matter", "cortex"), ("cortex", "csf"), ("white_matter", "ED"), ("white_matter", "NCR")),
    "T1ce": (
        ("white_matter", "cortex"),
        ("ET", "white_matter"),
        ("ET", "ED"),
        ("ET", "NCR"),
        ("vessel", "white_matter"),
    ),
    "T2": (("ventricle", "ED"), ("ED", "white_matter"), ("NCR", "white_matter"), ("cortex", "white_matter")),
}
"""Pairs (brighter, darker) that hold in every study whose contrast is not random, by at least MARGIN."""


@dataclass(frozen=True)
class Contrast:
    """mean, texture: float32 (4, len(TISSUES)), sequences in channel order, in standard deviations of the brain."""

    mean: np.ndarray
    texture: np.ndarray
    random: bool


def draw_contrast(rng: np.random.Generator, random: float) -> Contrast:
    """Brightness of all tissues in the four sequences.

    Args:
        random: probability that the healthy tissues get any brightness; tumour then keeps its usual difference to
            white matter, or nobody could tell what is labelled.
    """
    mean, texture = (np.array([_PRIOR[name][k] for name in TISSUES]).T for k in range(2))
    spread = np.array([_SPREAD.get(name, _USUAL_SPREAD) for name in TISSUES]).T
    texture = texture * np.exp(rng.normal(0, 0.25, texture.shape))
    if rng.random() < random:
        tumour = np.isin(TISSUES, TUMOUR)
        drawn = rng.uniform(-2.0, 2.0, mean.shape)
        white = TISSUES.index("white_matter")
        drawn[:, tumour] = drawn[:, white, None] + (mean[:, tumour] - mean[:, white, None]) * rng.uniform(0.6, 1.4)
        return Contrast(drawn.astype(np.float32), texture.astype(np.float32), random=True)
    t1, t1ce = SEQUENCES.index("T1"), SEQUENCES.index("T1ce")
    while True:
        jitter = rng.normal(0, 1, mean.shape)
        jitter[t1ce] = 0.7 * jitter[t1] + 0.7 * jitter[t1ce]  # the same sequence, but for the contrast agent
        strength = np.exp(rng.normal(0, 0.12, (len(SEQUENCES), 1)))
        drawn = mean * strength + jitter * spread
        if ordered(drawn):
            return Contrast(drawn.astype(np.float32), texture.astype(np.float32), random=False)


def ordered(mean: np.ndarray) -> bool:
    """Whether ORDER holds for means (4, len(TISSUES))."""
    return all(
        mean[number, TISSUES.index(brighter)] >= mean[number, TISSUES.index(darker)] + MARGIN
        for number, sequence in enumerate(SEQUENCES)
        for brighter, darker in ORDER[sequence]
    )
