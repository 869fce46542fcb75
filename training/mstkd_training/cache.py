"""Prepared data on disk: whole studies and lesion patches at the working resolution, one .npz each.

Arrays are (C, z, y, x) or (z, y, x) with axes along L, P, S; `origin` is the physical point (x, y, z; LPS, mm) of the
first voxel.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass
class Sample:
    """A piece of a patient: normalised sequences, brain and class indices on one grid."""

    patient: str
    image: np.ndarray  # float16 (4, z, y, x), channel order of engine.sequences
    brain: np.ndarray  # bool (z, y, x)
    labels: np.ndarray  # uint8 (z, y, x), indices into engine.regions.CLASSES
    origin: np.ndarray  # float (3,)


def save(sample: Sample, path: Path) -> None:
    """Write atomically, so that an interrupted run leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".part")
    with open(partial, "wb") as stream:
        np.savez_compressed(stream, **vars(sample))
    os.replace(partial, path)


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
    samples = []
    for path in paths:
        with np.load(path) as arrays:
            samples.append(Sample(str(arrays["patient"]), *(arrays[k] for k in ("image", "brain", "labels", "origin"))))
    return samples
