"""What a library that knows no exceptions writes to stderr, kept from the user and handed to the caller."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

_STDERR = 2


@contextmanager
def complaints() -> Iterator[list[str]]:
    """The lines that are written to stderr inside the ``with``, by compiled code too; the list is full at its end.

    The stderr of the whole process is turned away, so keep it short. Where there is none, as in programs without a
    console on Windows, or no place for a temporary file, stderr is left alone and the list stays empty.
    """
    lines: list[str] = []
    with ExitStack() as opened:
        try:
            file = opened.enter_context(tempfile.TemporaryFile())
            kept = os.dup(_STDERR)
        except OSError:
            yield lines
            return
        os.dup2(file.fileno(), _STDERR)
        try:
            yield lines
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            file.seek(0)
            lines += file.read().decode("utf-8", "replace").splitlines()
