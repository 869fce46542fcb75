"""Whole-head label maps as anatomy for synthetic images: tissue classes and the definition of the brain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import bounding_box

from .label_maps import Arrays, prepared

# FreeSurfer codes, and 5xx for what lies outside the brain (the maps that SynthSeg was trained with).
TISSUES: dict[str, tuple[int, ...]] = {
    "air": (0,),
    "white_matter": (2, 41, 85),
    "white_matter_lesion": (25, 57),
    "cortex": (3, 42),
    "deep_grey": (10, 11, 12, 13, 17, 18, 26, 28, 49, 50, 51, 52, 53, 54, 58, 60, 136, 137, 163, 164),
    "brain_stem": (16,),
    "cerebellum_white": (7, 46),
    "cerebellum_cortex": (8, 47),
    "ventricle": (4, 5, 14, 15, 43, 44, 72),
    "vessel": (30, 62),
    "csf": (24,),
    "spinal_cord": (512,),
    "optic": (502, 508, 530),
    "eye": (506,),
    "soft_tissue": (507,),
    "skin": (511,),
    "sinus": (514,),
    "bone": (515,),
    "marrow": (516,),
    "mucosa": (509,),
}
NAMES = tuple(TISSUES)
AIR = NAMES.index("air")
BRAIN_TISSUES = NAMES[1:10]
# Labels that may lie between gyri: what closing adds to the brain is taken from these only.
_FLUID = ("csf", "sinus")
# Sulci and cisterns up to about twice this width (mm) count as brain, the wider space under the skull does not.
_CLOSING_MM = 5.0
_MARGIN_MM = 8


@dataclass(frozen=True)
class Anatomy:
    """One head on an isotropic grid with axes L, P, S; arrays are (z, y, x).

    tissue: uint8 index into NAMES. brain: float32 0..1, the share of the voxel that is brain. spacing: mm.
    """

    name: str
    tissue: np.ndarray
    brain: np.ndarray
    spacing: float


def brain_region(tissue: np.ndarray) -> np.ndarray:
    """The brain as skull stripping leaves it: (z, y, x) tissue indices at 1 mm -> bool.

    Parenchyma, ventricles and the fluid in sulci and cisterns (a morphological closing of 5 mm), without holes; not
    the wide space under the skull, the optic nerves, the sinuses along the skull or the spinal cord.
    """
    parenchyma = np.isin(tissue, [NAMES.index(name) for name in BRAIN_TISSUES])
    image = sitk.GetImageFromArray(parenchyma.astype(np.uint8))
    components = sitk.RelabelComponent(sitk.ConnectedComponent(image), sortByObjectSize=True)
    parenchyma = sitk.GetArrayViewFromImage(components) == 1
    dilated = _distance_to(parenchyma) <= _CLOSING_MM
    closed = _distance_to(~dilated) > _CLOSING_MM
    fluid = np.isin(tissue, [NAMES.index(name) for name in _FLUID])
    region = parenchyma | (closed & (fluid | (tissue == AIR)))
    filled = sitk.BinaryFillhole(sitk.GetImageFromArray(region.astype(np.uint8)))
    return sitk.GetArrayFromImage(filled).astype(bool)


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Distance in voxels to the nearest True voxel, 0 or less inside."""
    image = sitk.GetImageFromArray(mask.astype(np.uint8))
    return sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(image, squaredDistance=False))


def anatomy_from_labels(labels: sitk.Image, name: str, factor: int = 2) -> Anatomy:
    """A 1 mm label map (any axis order) as anatomy of `factor` mm: most frequent tissue, mean brain share.

    Raises:
        ValueError: the map is not 1 mm isotropic, or holds codes that TISSUES does not name.
    """
    tissue = _crop(tissue_map(labels, name), factor)
    brain = brain_region(tissue)
    blocks = [side // factor for side in tissue.shape]
    count = np.zeros(blocks, dtype=np.uint8)
    winner = np.zeros(blocks, dtype=np.uint8)
    for index in range(len(NAMES)):
        votes = _block_sum(tissue == index, factor)
        better = votes > count
        winner[better], count[better] = index, votes[better]
    share = _block_sum(brain, factor).astype(np.float32) / factor**3
    return Anatomy(name, winner, share, float(factor))


def tissue_map(labels: sitk.Image, name: str) -> np.ndarray:
    """Codes of a 1 mm label map (any axis order) -> uint8 indices into NAMES, (z, y, x) with axes S, P, L.

    Raises:
        ValueError: the map is not 1 mm isotropic, or holds codes that TISSUES does not name.
    """
    if not np.allclose(labels.GetSpacing(), 1.0, atol=1e-3):
        raise ValueError(f"label map {name} has spacing {labels.GetSpacing()} mm, expected 1 mm in each direction")
    codes = sitk.GetArrayFromImage(sitk.DICOMOrient(labels, "LPS")).astype(np.int32)
    table = np.full(max(max(TISSUES.values(), key=max)) + 1, 255, dtype=np.uint8)
    for index, members in enumerate(TISSUES.values()):
        table[list(members)] = index
    known = (codes >= 0) & (codes < len(table))
    tissue = table[np.where(known, codes, 0)]
    tissue[~known] = 255
    if (tissue == 255).any():
        unknown = np.unique(codes[tissue == 255])
        raise ValueError(f"label map {name} holds unknown codes {unknown.tolist()}; add them to anatomy.TISSUES")
    return tissue


def _crop(tissue: np.ndarray, multiple: int) -> np.ndarray:
    """The box around everything that is not air, with a margin, sides made multiples of `multiple`."""
    box = bounding_box(tissue != AIR, _MARGIN_MM)
    return tissue[tuple(slice(b.start, b.start + (b.stop - b.start) // multiple * multiple) for b in box)]


def _block_sum(mask: np.ndarray, factor: int) -> np.ndarray:
    z, y, x = (side // factor for side in mask.shape)
    return mask.reshape(z, factor, y, factor, x, factor).sum(axis=(1, 3, 5), dtype=np.uint8)


def load_anatomies(archive: Path, cache: Path) -> list[Anatomy]:
    """All label maps of a tar archive at 2 mm, sorted by name. The first call takes a minute and fills `cache`.

    Raises:
        FileNotFoundError: there is no such archive.
    """

    def prepare(image: sitk.Image, name: str) -> Arrays:
        anatomy = anatomy_from_labels(image, name)
        return {"tissue": anatomy.tissue, "brain": anatomy.brain, "spacing": np.array(anatomy.spacing)}

    maps = prepared(archive, cache, prepare)
    return [Anatomy(name, arrays["tissue"], arrays["brain"], float(arrays["spacing"])) for name, arrays in maps]
