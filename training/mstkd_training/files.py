"""Files that are there whole or not at all, and the compressed archives that data come in."""

from __future__ import annotations

import io
import lzma
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A path beside the target to write to, which is moved there in the end; after an exception nothing is left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # with the process's number: several may make the same file
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(text: str, path: Path) -> None:
    with atomically(path) as partial:
        partial.write_text(text, encoding="utf-8")


def archived(path: Path, *keys: str) -> dict[str, np.ndarray]:
    """The arrays of an .npz.xz, all if none are named."""
    with np.load(io.BytesIO(lzma.decompress(path.read_bytes()))) as arrays:
        return {key: arrays[key] for key in keys or arrays}
