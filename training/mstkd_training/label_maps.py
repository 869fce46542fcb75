"""An archive of whole-head label maps, each prepared once and kept."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .files import atomically

Arrays = dict[str, np.ndarray]


def prepared(archive: Path, cache: Path, prepare: Callable[[sitk.Image, str], Arrays]) -> Iterator[tuple[str, Arrays]]:
    """Name and prepared arrays of every label map of a tar archive, sorted by name.

    Args:
        cache: folder in which the arrays are kept, one .npz per map; the first call fills it.
        prepare: from an image and its name.

    Raises:
        FileNotFoundError: there is no such archive.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive) as tar, tempfile.TemporaryDirectory() as folder:
        for member in tar:
            name = Path(member.name).name.split(".")[0]
            kept = cache / f"{name}.npz"
            if not member.isfile() or kept.exists():
                continue
            path = Path(folder) / Path(member.name).name
            path.write_bytes(tar.extractfile(member).read())
            arrays = prepare(sitk.ReadImage(str(path)), name)
            with atomically(kept) as partial, open(partial, "wb") as stream:  # several processes may come here at once
                np.savez_compressed(stream, **arrays)
    for path in sorted(cache.glob("*.npz")):
        with np.load(path) as arrays:
            yield path.stem, {key: arrays[key] for key in arrays}
