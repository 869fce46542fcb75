"""Random-contrast MR images from anatomy (the idea of SynthSeg and SynthStrip), reproducible from a seed.

Three steps that can be used apart: `draw_contrast` + `paint` (anatomy -> intensities, with lesions), `Placement`
(where the head lies on the image grid; the same for all sequences of one study) and `acquire` (what a scanner does).
Arrays are (z, y, x) float32 with axes S, P, L; lengths are mm; intensities about 0 to 1 before `acquire`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .acquisition import acquire
from .anatomy import AIR, BRAIN_TISSUES, NAMES, Anatomy
from .fields import smooth_field
from .placement import draw_placement

KINDS = ("random", "T1", "T1ce", "T2", "FLAIR")

# Typical brightness per tissue, brightest tissue of the head = 1: T1, T1ce, T2, FLAIR. Rounded from clinical scans.
_TYPICAL: dict[str, tuple[float, float, float, float]] = {
    "air": (0.0, 0.0, 0.0, 0.0),
    "white_matter": (0.55, 0.50, 0.35, 0.42),
    "white_matter_lesion": (0.42, 0.40, 0.55, 0.68),
    "cortex": (0.40, 0.40, 0.48, 0.52),
    "deep_grey": (0.46, 0.44, 0.38, 0.46),
    "brain_stem": (0.50, 0.46, 0.38, 0.44),
    "cerebellum_white": (0.54, 0.48, 0.36, 0.42),
    "cerebellum_cortex": (0.42, 0.42, 0.45, 0.50),
    "ventricle": (0.15, 0.14, 0.95, 0.12),
    "vessel": (0.25, 0.90, 0.15, 0.20),
    "csf": (0.17, 0.16, 0.90, 0.15),
    "spinal_cord": (0.48, 0.46, 0.38, 0.42),
    "optic": (0.50, 0.55, 0.45, 0.45),
    "eye": (0.18, 0.17, 0.95, 0.25),
    "soft_tissue": (0.45, 0.50, 0.35, 0.40),
    "skin": (0.60, 0.60, 0.45, 0.50),
    "sinus": (0.25, 0.85, 0.30, 0.25),
    "bone": (0.08, 0.08, 0.06, 0.06),
    "marrow": (0.70, 0.65, 0.45, 0.45),
    "mucosa": (0.45, 0.70, 0.75, 0.65),
}
# Tissues that are a mixture in reality (fat and muscle, diploe and cortical bone): a second brightness in patches.
_MIXED = {"soft_tissue": 0.95, "skin": 0.95, "bone": 0.55, "marrow": 0.25, "mucosa": 0.1, "optic": 0.9}
# Oedema, enhancing rim and core against white matter, in the order T1, T1ce, T2, FLAIR.
_LESION = {"oedema": (-0.12, -0.10, 0.35, 0.40), "rim": (-0.08, 0.45, 0.25, 0.30), "core": (-0.25, -0.22, 0.50, 0.10)}


@dataclass(frozen=True)
class Contrast:
    """Brightness of each tissue in one image: per index of anatomy.NAMES a mean, and a second mean for patches."""

    kind: str
    mean: np.ndarray
    patch: np.ndarray
    patch_share: np.ndarray
    texture: np.ndarray


@dataclass(frozen=True)
class Lesion:
    """depth is 1 at the lesion's centre, 0 at its rim and negative outside, (z, y, x) on the anatomy's grid."""

    depth: np.ndarray
    core: float
    rim: float


@dataclass(frozen=True)
class Sample:
    """image: (z, y, x) float32, raw intensities of arbitrary scale. brain: (z, y, x) float32, share of brain 0..1."""

    image: np.ndarray
    brain: np.ndarray
    description: str


def draw_contrast(rng: np.random.Generator, kind: str | None = None) -> Contrast:
    """Brightness of all tissues. `kind` None: random half of the time, otherwise like one of the four sequences."""
    if kind is None:
        kind = "random" if rng.random() < 0.5 else str(rng.choice(KINDS[1:]))
    count = len(NAMES)
    brain = np.array([name in BRAIN_TISSUES for name in NAMES])
    if kind == "random":
        mean = rng.uniform(0.0, 1.0, count)
        patch = np.where(brain, mean + rng.normal(0, 0.08, count), rng.uniform(0.0, 1.0, count))
        share = np.where(rng.random(count) < 0.5, rng.uniform(0.1, 0.6, count), 0.0)
        texture = rng.uniform(0.0, 0.15, count)
    else:
        column = KINDS.index(kind) - 1
        typical = np.array([_TYPICAL[name][column] for name in NAMES])
        spread = np.where(brain, 0.05, 0.12)
        mean = typical * rng.uniform(0.8, 1.2, count) + rng.normal(0, 1, count) * spread
        patch = np.array([_MIXED.get(name, value) for name, value in zip(NAMES, typical)])
        # Fat is bright or, where it was suppressed, dark.
        patch = patch * (rng.uniform(0.05, 0.4) if rng.random() < 0.2 else rng.uniform(0.6, 1.3))
        patch = np.where(brain, mean, patch)
        share = np.array([rng.uniform(0.1, 0.8) if name in _MIXED else 0.0 for name in NAMES])
        texture = rng.uniform(0.0, 0.06, count)
    mean[AIR] = rng.uniform(0.0, 0.2) if rng.random() < 0.1 else 0.0
    patch[AIR], share[AIR], texture[AIR] = mean[AIR], 0.0, 0.0
    return Contrast(kind, np.clip(mean, 0, None), np.clip(patch, 0, None), share, texture)


def draw_lesions(anatomy: Anatomy, rng: np.random.Generator) -> list[Lesion]:
    """None to three blobs of 6 to 30 mm radius around brain voxels, lobulated, often touching the cortex."""
    lesions = []
    inside = np.argwhere(anatomy.brain > 0.5)
    for _ in range(rng.choice(4, p=(0.35, 0.4, 0.15, 0.1))):
        centre = inside[rng.integers(len(inside))]
        radius = rng.uniform(6.0, 30.0) / anatomy.spacing * rng.uniform(0.7, 1.4, 3)
        z, y, x = (
            ((np.arange(side) - c) / r).astype(np.float32) ** 2
            for side, c, r in zip(anatomy.brain.shape, centre, radius)
        )
        distance = np.sqrt(z[:, None, None] + y[:, None] + x)
        depth = 1.0 - distance + 0.2 * smooth_field(anatomy.brain.shape, 8, rng)
        lesions.append(Lesion(depth, core=rng.uniform(0.3, 1.2), rim=rng.uniform(0.1, 0.3)))
    return lesions


def paint(anatomy: Anatomy, contrast: Contrast, lesions: list[Lesion], rng: np.random.Generator) -> np.ndarray:
    """The head in this contrast on the anatomy's grid, before any acquisition effect."""
    tissue, shape = anatomy.tissue, anatomy.tissue.shape
    fine = rng.standard_normal(shape, dtype=np.float32)
    medium = smooth_field(shape, 24, rng)
    # The share of a smooth field that lies above a threshold; the field is close enough to normal for this.
    quantiles = (0, 0.02, 0.16, 0.5, 0.84, 1), (9, 2.0, 1.0, 0.0, -1.0, -3)
    threshold = np.interp(contrast.patch_share, *quantiles).astype("f4")
    mean, patch = contrast.mean.astype("f4"), contrast.patch.astype("f4")
    image = np.where(medium > threshold[tissue], patch[tissue], mean[tissue])
    image += contrast.texture.astype("f4")[tissue] * (0.6 * fine + 0.6 * smooth_field(shape, 12, rng))
    for lesion in lesions:
        _paint_lesion(image, anatomy, contrast, lesion, rng)
    return np.clip(image, 0, None)


def _paint_lesion(
    image: np.ndarray, anatomy: Anatomy, contrast: Contrast, lesion: Lesion, rng: np.random.Generator
) -> None:
    if contrast.kind == "random":
        oedema, rim, core = rng.uniform(0.0, 1.1, 3)
    else:
        column = KINDS.index(contrast.kind) - 1
        base = contrast.mean[NAMES.index("white_matter")]
        factor = rng.uniform(0.4, 1.4, 3)
        oedema, rim, core = (
            max(0.0, base + _LESION[part][column] * f) for part, f in zip(("oedema", "rim", "core"), factor)
        )
    brain = anatomy.brain > 0.5
    for value, depth in ((oedema, 0.0), (rim, lesion.core - lesion.rim), (core, lesion.core)):
        region = brain & (lesion.depth > max(depth, 0.0))
        image[region] = value + 0.3 * (image[region] - image[region].mean()) if region.any() else 0.0


def synthesise(
    anatomy: Anatomy, size: tuple[int, int, int], spacing: float, seed: int, stripped: float = 0.2
) -> Sample:
    """One random image of this head and where its brain is. Equal arguments give equal arrays.

    Args:
        anatomy: the head.
        size: (z, y, x) voxels of the image.
        spacing: its isotropic voxel size in mm.
        seed: of everything that is random.
        stripped: the share of images in which all but the brain has been removed already.
    """
    rng = np.random.default_rng(seed)
    contrast = draw_contrast(rng)
    lesions = draw_lesions(anatomy, rng)
    painted = paint(anatomy, contrast, lesions, rng)
    placement = draw_placement(anatomy, size, spacing, rng)
    image, brain = placement.sample([painted, anatomy.brain])
    is_stripped = rng.random() < stripped
    image, seen = acquire(image, spacing, rng)
    brain = np.where(seen, np.clip(brain, 0, 1), 0.0).astype(np.float32)
    if is_stripped:
        image = np.where(brain > rng.uniform(0.05, 0.6), image, 0.0).astype(np.float32)
    return Sample(image, brain, f"{contrast.kind}, {len(lesions)} lesions{', stripped' if is_stripped else ''}")
