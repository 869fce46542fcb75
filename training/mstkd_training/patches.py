"""Lesion patches of further patients: from the archives to the working grid, each where it was cut out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid, bounding_box, resample
from MSTKDSegmenterLib.engine.sequences import SEQUENCES
from scipy.signal import fftconvolve
from tqdm import tqdm

from . import cache, splits
from .class_map import class_map
from .config import Config, DataConfig
from .files import archived

IMAGES, MASKS = "brats20_patches.npz.xz", "brats20_masks.npz.xz"
SPACING = (1.875, 1.875, 155 / 128)  # mm, x, y, z: the BraTS field of 240 x 240 x 155 mm on 128^3 voxels
CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
SCALE = 14.0  # stored int8 = z-score x 14
LABELS = "brats2021"  # convention of the archive's labels, whatever the studies beside it have


def check(data: DataConfig) -> None:
    """Whether the archives are there.

    Raises:
        FileNotFoundError: not both are.
    """
    missing = [name for name in (IMAGES, MASKS) if not (data.source / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"data.patches is true, but {data.source} has no {' and no '.join(missing)}: set data.patches=false"
        )


def prepare(data: DataConfig) -> None:
    """Write `<cache>/patches/*.npz`, unless all of them are there."""
    folder, marker = data.cache / "patches", data.cache / "patches.incomplete"
    if folder.exists() and not marker.exists():
        return
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for number, patch in enumerate(_placed(data)):
        cache.save(patch, folder / f"{number:04d}_{patch.patient}.npz")
    marker.unlink()


def read(config: Config) -> list[cache.Sample]:
    """The patches of all patients but those that test, validate or are omitted, under whatever name.

    Raises:
        FileNotFoundError: none are prepared.
    """
    apart = splits.kept_apart(config)
    return [patch for patch in cache.read(config.data.cache / "patches") if patch.patient not in apart]


def patients(data: DataConfig) -> set[str]:
    """Whose patches are prepared."""
    return {path.stem.split("_", 1)[1] for path in (data.cache / "patches").glob("*.npz")}


def _placed(data: DataConfig) -> Iterator[cache.Sample]:
    """The patches, each at its own place in the BraTS field.

    The archive does not say where a patch was cut out; matching its labels against the patient's whole label map does
    (least squares by FFT; the match is exact for every patch, and an inexact one is refused).
    """
    patches = archived(data.source / IMAGES)
    whole = archived(data.source / MASKS)
    rows = {patient: row for row, patient in enumerate(whole["patient"])}
    order = [CHANNELS.index(sequence) for sequence in SEQUENCES]
    valid = np.unpackbits(patches["valid"], axis=1).reshape(-1, 32, 32, 32).astype(bool)
    for number, patient in enumerate(tqdm(patches["patient"], desc="patches")):
        corner = locate(patches["labels"][number], valid[number], whole["labels"][rows[patient]])
        images = (patches["images"][number][order] * valid[number]).astype(np.float32) / SCALE
        yield _on_working_grid(str(patient), images, patches["labels"][number] * valid[number], corner, data)


def _on_working_grid(
    patient: str, images: np.ndarray, labels: np.ndarray, corner: tuple[int, int, int], data: DataConfig
) -> cache.Sample:
    """A patch (4, x, y, z) and its labels (x, y, z), cut out at voxel `corner`, with the spacing of the studies."""
    # the BraTS field starts at voxel centre (0, -239, 0) mm in LPS
    origin = (np.array(corner) + 0.5) * SPACING - 0.5 + (0.0, -239.0, 0.0)
    sides = np.array(labels.shape)
    source = Grid(labels.shape, SPACING, tuple(origin.tolist()), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    size = (sides * SPACING / data.spacing).astype(int)
    # the same middle
    first = origin + (sides * SPACING - size * data.spacing) / 2 + (data.spacing - np.array(SPACING)) / 2
    grid = Grid(tuple(size.tolist()), (data.spacing,) * 3, tuple(first.tolist()), source.direction)

    def resampled(array: np.ndarray, antialias: bool) -> np.ndarray:
        return sitk.GetArrayFromImage(resample(source.image(array.transpose(2, 1, 0)), grid, antialias=antialias))

    image = np.stack([resampled(channel, antialias=True) for channel in images])
    brain = resampled((images != 0).any(axis=0).astype(np.float32), antialias=False) > 0.5
    classes = class_map(source.image(labels.transpose(2, 1, 0)), grid, LABELS)
    return cache.Sample(patient, (image * brain).astype(np.float16), brain, classes, first)


def locate(patch: np.ndarray, valid: np.ndarray, whole: np.ndarray) -> tuple[int, int, int]:
    """Voxel of `whole` that the patch's first voxel comes from; may be negative where the patch sticks out.

    Raises:
        ValueError: the labels are nowhere in `whole`.
    """
    margin = patch.shape[0]
    box = bounding_box(whole != 0)
    low = [side.start - margin for side in box]
    field = np.pad(whole.astype(np.float32), margin)
    field = field[tuple(slice(side.start, side.stop + 2 * margin) for side in box)]
    inside = valid.astype(np.float32)
    wanted = patch.astype(np.float32) * inside
    flip = (slice(None, None, -1),) * 3
    distance = fftconvolve(field**2, inside[flip], "valid") - 2 * fftconvolve(field, wanted[flip], "valid")
    best = np.unravel_index(distance.argmin(), distance.shape)
    window = field[tuple(slice(k, k + margin) for k in best)]
    if np.any((window != patch) & valid):
        raise ValueError(
            "a patch's labels were found nowhere in its patient's label map: the archives do not belong together"
        )
    return tuple(int(a + b) for a, b in zip(low, best, strict=True))
