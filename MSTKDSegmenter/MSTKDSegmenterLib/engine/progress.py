"""One stream of progress events, used alike by panel, console and command, and the request to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from .errors import Cancelled


@dataclass(frozen=True)
class Event:
    """Where a job stands: the stage's name, the share of the whole job done (0 to 1) and a line for the reader."""

    stage: str
    fraction: float
    message: str = ""


Progress = Callable[[Event], None]


class Job:
    """How one computation talks to whoever started it.

    Example::

        job = Job(progress=print, cancelled=stop_button.is_set)
        job.report("register", 0.2, "T2 onto T1ce")   # raises Cancelled once stop_button is set
    """

    def __init__(self, progress: Progress | None = None, cancelled: Callable[[], bool] | None = None) -> None:
        self._progress = progress
        self._cancelled = cancelled
        self._fraction = 0.0

    def report(self, stage: str, fraction: float, message: str = "") -> None:
        """Send an event, after checking for cancellation.

        A fraction outside 0 to 1, or behind one already reported, is moved to the nearest allowed value: a progress
        bar never runs backwards.

        Raises:
            Cancelled: the user asked to stop.
        """
        self.check()
        self._fraction = max(self._fraction, min(1.0, float(fraction)))
        if self._progress is not None:
            self._progress(Event(stage, self._fraction, message))

    def check(self) -> None:
        """Return at once, or raise ``Cancelled`` when the user asked to stop. Cheap: call it in every loop."""
        if self._cancelled is not None and self._cancelled():
            msg = "Stopped on request; nothing was written."
            raise Cancelled(msg)

    def part(self, start: float, end: float) -> Job:
        """A job for one stage: its own 0 to 1 is `start` to `end` of this one. Cancelling reaches it too.

        Example::

            predict(network, channels, job.part(0.5, 0.9))
        """

        def forward(event: Event) -> None:
            self.report(event.stage, start + (end - start) * event.fraction, event.message)

        return Job(forward, self._cancelled)
