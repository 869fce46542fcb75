"""A request to stop, heard at any time: the same for the command and for the worker process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from .engine.errors import Cancelled

GRACE = 1.0
"""Seconds the job gets to stop by itself, which it does between two computations, before it is ended from outside."""

STOPPED = "Stopped on request; nothing was written."


class Stop:
    """While it is entered: listens for SIGTERM, SIGINT, SIGHUP and further ways to be told, and ends the process if it
    has not stopped by itself after GRACE. To be entered in the main thread. SIGHUP stays ignored after `nohup`.

    One long computation in C keeps Python's own signal handlers waiting, and an exception out of one may hit a library
    that is just being imported. So a thread listens, and the job asks `requested.is_set`.

    Args:
        last_words: called just before the process is ended.
        ways: functions that return once a stop is asked for; each waits in a thread of its own.

    Attributes:
        scratch: a folder that goes with the process, if it is ended.
        made: folders that were made for it, the innermost first; they go with it if nothing else is in them.
    """

    def __init__(self, last_words: Callable[[], None], ways: Sequence[Callable[[], object]] = ()) -> None:
        self.requested = threading.Event()
        self.scratch: Path | None = None
        self.made: list[Path] = []
        self._last_words = last_words
        self._lock = threading.Lock()
        self._done = False
        self._ways = tuple(ways)

    def __enter__(self) -> Stop:
        heard, self._wakeup = os.pipe()
        if os.name == "posix":  # elsewhere a pipe cannot be, and need not be
            os.set_blocking(self._wakeup, False)
        # C code writes the number of the signal there at once, whichever thread it reaches and whatever Python is at
        self._before = signal.set_wakeup_fd(self._wakeup)
        self._handlers = {n: signal.signal(n, lambda *_: None) for n in _signals()}
        for way in (*self._ways, lambda: os.read(heard, 1)):
            threading.Thread(target=self._end_when, args=(way,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._done = True
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wakeup)  # the thread that listens there ends

    @contextlib.contextmanager
    def last_step(self) -> Iterator[None]:
        """What must happen whole or not at all; a request that comes later is too late.

        Raises:
            Cancelled: a stop has been asked for.
        """
        with self._lock:
            if self.requested.is_set():
                raise Cancelled(STOPPED)
            yield
            self._done = True

    def clean_up(self) -> None:
        """Remove the scratch folder, and what was made for it and is empty."""
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
        for folder in self.made:
            with contextlib.suppress(OSError):  # not empty: somebody else uses it, or there are results
                folder.rmdir()

    def _end_when(self, way: Callable[[], object]) -> None:
        way()
        self.requested.set()
        time.sleep(GRACE)
        with self._lock:
            if self._done:
                return
            self._last_words()
            self.clean_up()
            os._exit(1)


def _signals() -> list[signal.Signals]:
    numbers = [signal.SIGTERM, signal.SIGINT]
    if os.name == "posix" and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    return numbers
