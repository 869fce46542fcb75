"""Raw data -> cache: whole studies and lesion patches on the working grid, harmonised by the engine itself."""

from __future__ import annotations

import io
import lzma
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.geometry import Grid, resample
from MSTKDSegmenterLib.engine.harmonise import harmonise
from MSTKDSegmenterLib.engine.regions import CLASSES, class_indices
from MSTKDSegmenterLib.engine.sequences import SEQUENCES
from MSTKDSegmenterLib.engine.study import study_from_files
from scipy.signal import fftconvolve
from tqdm import tqdm

from . import cache
from .config import Config

PATCH_SPACING = (1.875, 1.875, 155 / 128)  # mm, x, y, z: the BraTS field of 240 x 240 x 155 mm on 128^3 voxels
PATCH_CHANNELS = ("T1", "T1ce", "T2", "FLAIR")
PATCH_SCALE = 14.0  # stored int8 = z-score x 14
BACKGROUND = CLASSES.index("background")
SUFFIX = {"FLAIR": "flair", "T1": "t1", "T1ce": "t1ce", "T2": "t2"}
MULTIPLE = 8


def prepare(config: Config) -> None:
    """Write `<cache>/studies/*.npz` and `<cache>/patches/*.npz`; what is already there is kept."""
    data = config.data
    with tarfile.open(data.source / "brats_cases.tar.xz") as archive, tempfile.TemporaryDirectory() as scratch:
        archive.extractall(scratch, filter="data")
        for folder in tqdm(sorted(Path(scratch, "cases").iterdir()), desc="studies"):
            target = data.cache / "studies" / f"{folder.name}.npz"
            if not target.exists():
                cache.save(read_study(folder, data.spacing, data.convention), target)
    if (data.cache / "patches").exists() and not (data.cache / "patches.incomplete").exists():
        return
    marker = data.cache / "patches.incomplete"
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    for number, patch in enumerate(read_patches(data.source, data.spacing, data.convention)):
        cache.save(patch, data.cache / "patches" / f"{number:04d}_{patch.patient}.npz")
    marker.unlink()


def class_map(labels: sitk.Image, grid: Grid, convention: str) -> np.ndarray:
    """Label map on another grid: each class resampled as a smooth indicator, the largest wins. uint8 (z, y, x)."""
    indices = class_indices(sitk.GetArrayFromImage(labels), convention)
    scores = []
    for number in range(len(CLASSES)):
        indicator = sitk.GetImageFromArray((indices == number).astype(np.float32))
        indicator.CopyInformation(labels)
        outside = 1.0 if number == BACKGROUND else 0.0
        scores.append(sitk.GetArrayFromImage(resample(indicator, grid, default=outside, antialias=True)))
    return np.argmax(scores, axis=0).astype(np.uint8)


def read_study(folder: Path, spacing: float, convention: str) -> cache.Sample:
    """A BraTS folder `<id>/<id>_{flair,t1,t1ce,t2,seg}.nii`, through the engine's own way in."""
    name = folder.name
    study = study_from_files({sequence: folder / f"{name}_{SUFFIX[sequence]}.nii" for sequence in SEQUENCES})
    harmonised = harmonise(study, spacing, MULTIPLE)
    labels = class_map(sitk.ReadImage(str(folder / f"{name}_seg.nii")), harmonised.grid, convention)
    return cache.Sample(
        name, harmonised.channels.astype(np.float16), harmonised.brain, labels, np.array(harmonised.grid.origin)
    )


def read_patches(source: Path, spacing: float, convention: str) -> Iterator[cache.Sample]:
    """The lesion patches, each at its own place in the BraTS field.

    The archive does not say where a patch was cut out; matching its labels against the patient's whole label map does
    (least squares by FFT; the match is exact for every patch, and an inexact one is refused).
    """
    patches = _load(source / "brats20_patches.npz.xz")
    whole = _load(source / "brats20_masks.npz.xz")
    rows = {patient: row for row, patient in enumerate(whole["patient"])}
    order = [PATCH_CHANNELS.index(sequence) for sequence in SEQUENCES]
    valid = np.unpackbits(patches["valid"], axis=1).reshape(-1, 32, 32, 32).astype(bool)
    for number, patient in enumerate(tqdm(patches["patient"], desc="patches")):
        corner = _locate(patches["labels"][number], valid[number], whole["labels"][rows[patient]])
        # stored arrays are x, y, z; the BraTS field starts at voxel centre (0, -239, 0) mm in LPS
        origin = (np.array(corner) + 0.5) * PATCH_SPACING - 0.5 + (0.0, -239.0, 0.0)
        source_grid = Grid((32, 32, 32), PATCH_SPACING, tuple(origin.tolist()), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        size = tuple(int(32 * step / spacing) for step in PATCH_SPACING)
        first = (
            origin
            + (32 * np.array(PATCH_SPACING) - np.array(size) * spacing) / 2
            + (spacing - np.array(PATCH_SPACING)) / 2
        )
        grid = Grid(size, (spacing,) * 3, tuple(first.tolist()), source_grid.direction)
        volumes = (patches["images"][number][order] * valid[number]).astype(np.float32) / PATCH_SCALE
        brain = source_grid.image((volumes != 0).any(axis=0).transpose(2, 1, 0).astype(np.float32))
        labels = source_grid.image((patches["labels"][number] * valid[number]).transpose(2, 1, 0))
        image = [
            sitk.GetArrayFromImage(resample(source_grid.image(v.transpose(2, 1, 0)), grid, antialias=True))
            for v in volumes
        ]
        inside = sitk.GetArrayFromImage(resample(brain, grid)) > 0.5
        yield cache.Sample(
            str(patient), (np.stack(image) * inside).astype(np.float16), inside,
            class_map(labels, grid, convention), first,
        )  # fmt: skip


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as arrays:
        return {key: arrays[key] for key in arrays}


def _locate(patch: np.ndarray, valid: np.ndarray, whole: np.ndarray) -> tuple[int, int, int]:
    """Voxel of `whole` that the patch's first voxel comes from; may be negative where the patch sticks out."""
    margin = patch.shape[0]
    box = np.argwhere(whole)
    low = np.maximum(box.min(0) - margin, -margin)
    high = np.minimum(box.max(0) + margin, np.array(whole.shape) + margin)
    field = np.pad(whole.astype(np.float32), margin)
    field = field[tuple(slice(a + margin, b + margin + 1) for a, b in zip(low, high, strict=True))]
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
