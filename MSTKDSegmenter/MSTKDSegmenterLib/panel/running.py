"""A run as the panel shows it: how far, which stage, how much longer, on which device."""

from __future__ import annotations

import time
from typing import Any, Callable

from slicer.i18n import tr as _

from ..engine.progress import Event

_SETTLED = 0.1
"""Share of the work after which the time that it took says something about the rest."""


class TimeLeft:
    """Estimates the rest of a job from the time that a share of it took.

    Counting begins with the first progress: before it PyTorch is loaded, which says nothing about the computation.

    Example::

        left = TimeLeft()
        left.reached(0.0)    # the job begins
        left.reached(0.25)   # 10 s later
        left.seconds()       # 30.0
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[float, float] | None = None
        self._end: float | None = None

    def reached(self, fraction: float) -> None:
        """The share of the job (0 to 1) that is done now."""
        now = self._clock()
        if self._first is None:
            self._first = now, fraction
        start, before = self._first
        if fraction - before >= _SETTLED:
            self._end = now + (now - start) * (1 - fraction) / (fraction - before)

    def seconds(self) -> float | None:
        """Seconds left, 0 if it takes longer than expected; None if it is too early to say."""
        return None if self._end is None else max(0.0, self._end - self._clock())


class Running:
    """Progress bar, stage, time left and Cancel; visible while something runs."""

    def __init__(self, ui: Any) -> None:
        import qt

        self._ui = ui
        self._left = TimeLeft()
        self._stopping = False
        self._timer = qt.QTimer()
        self._timer.setInterval(1000)
        self._timer.timeout.connect(self._show_time)

    def start(self) -> None:
        self._left = TimeLeft()
        self._stopping = False
        self._ui.progressBar.value = 0
        self._ui.stageLabel.text = _("Starting")
        self._ui.cancelButton.enabled = True
        self._ui.deviceLabel.visible = False
        self._ui.runningPanel.visible = True
        self._show_time()
        self._timer.start()

    def show(self, event: Event) -> None:
        """Show where the job stands, unless it has been asked to end."""
        if self._stopping:
            return
        if event.stage != "start":
            self._left.reached(event.fraction)
        self._ui.progressBar.value = round(100 * event.fraction)
        found_device = event.stage == "device" and event.fraction > 0
        said = "" if found_device else event.message
        self._ui.stageLabel.text = ": ".join(filter(None, [stage_name(event.stage), said]))
        if found_device:
            # what PyTorch calls it, what people call it, and why it was chosen
            name, _colon, reason = event.message.partition(": ")[2].partition(": ")
            self._ui.deviceLabel.text = _("Device: {name} ({reason})").format(name=name, reason=reason)
            self._ui.deviceLabel.visible = True
        self._show_time()

    def stopping(self) -> None:
        """The person has pressed Cancel, and the process has been asked to end."""
        self._stopping = True
        self._timer.stop()
        self._ui.cancelButton.enabled = False
        self._ui.stageLabel.text = _("Stopping")
        self._ui.timeLabel.text = ""

    def end(self) -> None:
        self._timer.stop()
        self._ui.runningPanel.visible = False

    def _show_time(self) -> None:
        self._ui.timeLabel.text = time_in_words(self._left.seconds())


def time_in_words(seconds: float | None) -> str:
    """ "about 20 s left", rounded so that it does not flicker; empty if nothing is known."""
    if seconds is None:
        return ""
    if seconds < 5:
        return _("a few seconds left")
    if seconds < 90:
        return _("about {seconds} s left").format(seconds=5 * round(seconds / 5))
    return _("about {minutes} min left").format(minutes=round(seconds / 60))


def stage_name(stage: str) -> str:
    """The stages that the engine reports, for the reader of the panel."""
    names = {
        "start": _("Starting"),
        "read": _("Reading"),
        "device": _("Choosing the device"),
        "load model": _("Loading the model"),
        "find the brain": _("Finding the brain"),
        "register": _("Aligning the sequences"),
        "harmonise": _("Preparing the sequences"),
        "predict": _("Segmenting"),
        "back to the reference": _("Placing the result"),
        "done": _("Finishing"),
    }
    return names.get(stage, stage)


def name_devices(selector: Any) -> None:
    """Readable names for the devices in a QComboBox, in the order in which the parameter node has them."""
    for index, name in enumerate((_("Automatic"), _("CUDA (NVIDIA GPU)"), _("MPS (Apple GPU)"), _("CPU"))):
        selector.setItemText(index, name)
