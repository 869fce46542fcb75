"""Where the brain is, on scans with or without skull, in any of the four sequences.

A small network looks at the image on a coarse isotropic grid along the image's own axes. It has only seen synthetic
images of random contrast (training/brain_mask.py), which is why it does not need to know the sequence.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import SimpleITK as sitk

from .background import background_value, shown
from .errors import UnusableInput
from .geometry import Grid, resample, working_grid
from .package import ModelPackage, default_folder, load

SMALLEST_BRAIN_ML = 100.0
"""Less than this is not a brain: a thick-slice stack that shows only its top still has more."""

LARGEST_BRAIN_ML = 2500.0
"""More than this is none either: the largest healthy ones have about 2000 ml."""

SAME_SHAPE_DICE = 0.87
"""A stripped brain agrees with what the network finds in it: Dice 0.957 and more in 56 BraTS images. Heads on zeros,
also those of which a stack shows only the top, stay at 0.78 or below (TCGA-FG-6692, BRAINIX)."""

AROUND_MM = 20.0
"""Background that is put around an image cropped to a stripped brain: the network does not know one that touches the
border, and found 60 % of it. Not around others: a head on zeros would look like a large brain."""

IN_AIR_MM = 100.0, 200.0
"""An image with skull and noisy air whose width, or length from front to back, lies between these is put into air: cut
off close to the brain, it lost a seventh of it, the outer shell (TCGA-FG-6692). Smaller ones show no whole brain."""


@dataclass(frozen=True)
class Brain:
    """mask: uint8 (0, 1) on the image's own grid. stripped: the image shows nothing but the brain already."""

    mask: sitk.Image
    stripped: bool

    @property
    def volume_ml(self) -> float:
        voxels = int(np.count_nonzero(sitk.GetArrayViewFromImage(self.mask)))
        return voxels * float(np.prod(self.mask.GetSpacing())) / 1000.0


def find_brain(image: sitk.Image, package: ModelPackage | None = None) -> Brain:
    """The brain (parenchyma, ventricles, fluid in the sulci) in one image of any sequence, orientation and spacing.

    Of an image that is skull-stripped already the mask is what the image shows, holes filled; otherwise it is the
    network's, with the border interpolated from the coarse grid.

    Args:
        image: 3-D scalar image in LPS (mm), any real pixel type, finite.
        package: a model package of kind "brain"; the one that ships if None.

    Raises:
        UnusableInput: no brain was found.
        PackageError: the model package cannot be used.
    """
    found, inside = _look(image, package)
    if inside is not None and _same_shape(inside, found):
        return Brain(sitk.BinaryFillhole(inside), stripped=True)
    return Brain(_on_image(found, image), stripped=False)


def network_mask(image: sitk.Image, package: ModelPackage | None = None) -> sitk.Image:
    """What the network finds, as a uint8 mask on the image's grid, whether or not the image is stripped already.

    Raises:
        As find_brain.
    """
    return _on_image(_look(image, package)[0], image)


def brain_mask(image: sitk.Image, package: ModelPackage | None = None) -> sitk.Image:
    """`find_brain(image).mask`: uint8, 1 in the brain, on the image's own grid."""
    return find_brain(image, package).mask


def standardise(volume: np.ndarray) -> np.ndarray:
    """Input of the brain network: (z, y, x) raw intensities, background 0 -> float32, 0 to 3, about 1 in the head.

    Divides by the mean of all voxels that are brighter than the mean, which neither the share of air in the image
    nor a few bright vessels change much. A volume without any positive value stays 0.
    """
    volume = np.clip(np.asarray(volume, dtype=np.float32), 0, None)
    bright = volume > volume.mean()
    level = float(volume[bright].mean()) if bright.any() else 1.0
    return np.clip(volume / level, 0, 3)


def _signal(image: sitk.Image) -> tuple[sitk.Image, sitk.Image | None]:
    """Float32 intensities from 0 up, and uint8 1 where a constant background ends; None if it is not constant."""
    values = sitk.Cast(image, sitk.sitkFloat32)
    background = background_value(image)
    if background is None:
        return values - _low(sitk.GetArrayViewFromImage(values)), None
    inside = shown(values, background)
    seen = sitk.GetArrayViewFromImage(values)[sitk.GetArrayViewFromImage(inside) > 0]
    # the background of a z-scored brain lies in the middle of its values; the network knows dark ones only
    low = min(background, _low(seen)) if seen.size else background
    return sitk.Mask(values - low, inside), inside


def _cropped(inside: sitk.Image) -> bool:
    """Whether what is shown reaches most sides of the image; that of a slab reaches two."""
    array = sitk.GetArrayViewFromImage(inside)
    return sum(bool(array.take(end, axis).any()) for axis in range(3) for end in (0, -1)) >= 4


def _low(values: np.ndarray) -> float:
    """The darkest intensity but for outliers, from a part of the values, which is enough."""
    return float(np.percentile(values.ravel()[::7], 0.5))


def _coarse(image: sitk.Image, grid: Grid) -> np.ndarray:
    """The float image on a coarse isotropic grid, (z, y, x); block means first, or smoothing would take seconds."""
    blocks = [max(1, int(0.5 * grid.spacing[0] / step)) for step in image.GetSpacing()]
    return sitk.GetArrayFromImage(resample(sitk.BinShrink(image, blocks), grid, antialias=True))


@dataclass(frozen=True)
class _Found:
    """probability (z, y, x) of brain on `grid`; region: the one solid part of it above `threshold`, bool."""

    grid: Grid
    probability: np.ndarray
    threshold: float
    region: np.ndarray


@lru_cache(maxsize=1)
def _shipped() -> ModelPackage:
    """The model that ships, read and built once: a study has several images, an evaluation many studies."""
    return load(default_folder("brain"), "brain")


def _look(image: sitk.Image, package: ModelPackage | None) -> tuple[_Found, sitk.Image | None]:
    """What the network finds, with as much around the image as it needs; and what the image shows, see `_signal`."""
    signal, inside = _signal(image)
    if inside is None:
        return _search(_in_air(signal), package), None
    return _search(signal, package, AROUND_MM if _cropped(inside) else 0.0), inside


def _in_air(signal: sitk.Image) -> sitk.Image:
    """With 0 on both sides where the image is narrow; not above and below, where most stacks end within the head.

    Slabs of sagittal or coronal slices, which end there, neither gain nor lose by it.
    """
    grid = Grid.of(signal)
    sides, (shortest, longest) = np.array(grid.size) * grid.spacing, IN_AIR_MM
    narrow = (shortest <= sides) & (sides < longest)
    narrow[np.abs(grid.axes[2]).argmax()] = False
    border = np.where(narrow, np.ceil((longest - sides) / 2 / grid.spacing), 0).astype(int).tolist()
    return sitk.ConstantPad(signal, border, border, 0.0)


def _search(signal: sitk.Image, package: ModelPackage | None, around: float = 0.0) -> _Found:
    import torch  # here, so that reading this module's constants does not cost the second that torch takes

    package = package or _shipped()
    network, spacing = package.network(), package.spacing
    everywhere = Grid.of(signal).empty_image(sitk.sitkUInt8) + 1
    grid = working_grid(everywhere, spacing, margin=around, multiple=network.multiple)
    volume = standardise(_coarse(signal, grid))
    with torch.inference_mode():
        probability = network(torch.from_numpy(volume)[None, None]).sigmoid()[0, 0].numpy()
    threshold = package.thresholds()["brain"]
    region = _solid(grid.image(probability > threshold))
    found_ml = float(region.sum()) * spacing**3 / 1000.0
    if not SMALLEST_BRAIN_ML <= found_ml <= LARGEST_BRAIN_ML:
        raise UnusableInput(
            f"Found {found_ml:.0f} ml of brain in the image, expected {SMALLEST_BRAIN_ML:.0f} to "
            f"{LARGEST_BRAIN_ML:.0f} ml. Check that it is an MRI of the head and that its orientation and voxel "
            "spacing are right."
        )
    return _Found(grid, probability, threshold, region)


def _solid(mask: sitk.Image) -> np.ndarray:
    """The largest connected part of a mask with its holes filled, bool (z, y, x)."""
    parts = sitk.RelabelComponent(sitk.ConnectedComponent(mask), sortByObjectSize=True)
    return sitk.GetArrayFromImage(sitk.BinaryFillhole(sitk.Cast(parts == 1, sitk.sitkUInt8))).astype(bool)


def _on_image(found: _Found, image: sitk.Image) -> sitk.Image:
    """The interpolated probability, thresholded on the image's grid: finer than interpolating the coarse region."""
    grown = sitk.BinaryDilate(found.grid.image(found.region), (1, 1, 1), sitk.sitkBox)
    near = sitk.GetArrayFromImage(grown).astype(bool)
    # holes of the region are brain, parts that do not hang on to it are not
    limit = np.float32(found.threshold)
    probability = np.where(
        found.region, np.maximum(found.probability, limit + np.float32(0.01)), np.minimum(found.probability, limit)
    )
    probability[~near] = 0.0
    fine = resample(found.grid.image(probability), Grid.of(image))
    return sitk.Cast(fine > found.threshold, sitk.sitkUInt8)


def _same_shape(inside: sitk.Image, found: _Found) -> bool:
    coarse = _coarse(sitk.Cast(inside, sitk.sitkFloat32), found.grid) > 0.5
    both = int((coarse & found.region).sum())
    return 2.0 * both > SAME_SHAPE_DICE * (int(coarse.sum()) + int(found.region.sum()))
