"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
