"""Prepared data on disk: whole studies and lesion patches at the working resolution, one .npz each.

Arrays are (C, z, y, x) or (z, y, x) with axes along L, P, S; `origin` is the physical point (x, y, z; LPS, mm) of the
first voxel.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from monai.data import CacheDataset
from monai.transforms import Transform

from .cases import patient_of
from .config import DataConfig
from .files import atomically, write_text

FORMAT = 2
"""Goes up whenever the same files would be prepared differently."""


@dataclass
class Sample:
    """A piece of a patient: normalised sequences, brain and class indices on one grid."""

    patient: str
    image: np.ndarray  # float16 (4, z, y, x), channel order of engine.sequences
    brain: np.ndarray  # bool (z, y, x)
    labels: np.ndarray  # uint8 (z, y, x), indices into engine.regions.CLASSES
    origin: np.ndarray  # float (3,)


class Load(Transform):
    """Path of an .npz -> Sample."""

    def __call__(self, path: Path) -> Sample:
        with np.load(path) as arrays:
            return Sample(str(arrays["patient"]), *(arrays[k] for k in ("image", "brain", "labels", "origin")))


def claim(data: DataConfig) -> None:
    """Note in `<cache>/cache.json` how the cache is made; a cache that is made otherwise is refused.

    Raises:
        ValueError: what is there was made with other settings.
    """
    wanted = {"format": FORMAT, "layout": data.layout, "spacing_mm": data.spacing}
    path = data.cache / "cache.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
    else:
        found = {"format": 1} if (data.cache / "studies").exists() else wanted
    if found != wanted:
        raise ValueError(
            f"{data.cache} was prepared with {_told(found)}, this configuration wants {_told(wanted)}: give another "
            "data.cache, or remove that folder"
        )
    write_text(json.dumps(wanted) + "\n", path)


def save(sample: Sample, path: Path) -> None:
    """Write atomically, so that an interrupted run leaves no half file."""
    with atomically(path) as partial, open(partial, "wb") as stream:
        np.savez_compressed(stream, **vars(sample))


def samples(cache: Path, patients: Iterable[str], in_memory: float = 1.0) -> CacheDataset:
    """All prepared studies of the patients, by index, sorted by case; treat what it gives as read-only.

    The fingerprint says which cases there are: a file of a case that has been removed since lies there unread.

    Args:
        cache: with fingerprint.json and studies/<case>.npz, see `cases.patient_of`.
        in_memory: share of the studies that is read now and kept; the others are read each time.

    Raises:
        FileNotFoundError: a patient has no study there, or a study no file.
    """
    wanted = set(patients)
    cases = [name for name in cases_of(cache) if patient_of(name) in wanted]
    missing = sorted(wanted - {patient_of(name) for name in cases})
    paths = [cache / "studies" / f"{name}.npz" for name in cases]
    missing += [str(path) for path in paths if not path.exists()]
    if missing:
        raise FileNotFoundError(
            f"no prepared study of {', '.join(missing)} in {cache}: run `python training/prepare.py` with this "
            "configuration"
        )
    return CacheDataset(paths, Load(), cache_rate=in_memory, copy_cache=False, progress=False)


def cases_of(cache: Path) -> list[str]:
    """The names of the prepared cases, sorted, as fingerprint.json lists them.

    Raises:
        FileNotFoundError: it does not, or is not there.
    """
    path = cache / "fingerprint.json"
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if "names" not in content:
        raise FileNotFoundError(
            f"{path} lists no prepared cases: run `python training/prepare.py` with this configuration (what is "
            "prepared already is kept)"
        )
    return sorted(content["names"])


def read(folder: Path) -> list[Sample]:
    """All samples of a folder, sorted by file name.

    Raises:
        FileNotFoundError: there is none; `prepare.py` makes them.
    """
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise FileNotFoundError(
            f"no prepared data in {folder}: run `python training/prepare.py` with this configuration"
        )
    return [Load()(path) for path in paths]


def _told(settings: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in settings.items())
