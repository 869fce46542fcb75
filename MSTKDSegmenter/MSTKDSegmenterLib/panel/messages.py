"""What went wrong, and what has to be installed first: in the panel in words, with a popup for failures only."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from .. import dependencies
from ..engine.errors import Cancelled
from .marks import paragraphs, show_icon


class Messages:
    """The line about missing packages at the top, and the line under Apply."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        show_icon(ui.installIcon, "Information")

    def show_packages(self) -> None:
        """Look whether packages are missing, and say so if they are."""
        problems = dependencies.problems()
        self._ui.installNote.visible = bool(problems)
        if problems:
            self._ui.installLabel.text = _("Not installed yet: {packages}. They are needed to segment.").format(
                packages=", ".join(problem.requirement for problem in problems)
            )
            self._ui.installLabel.toolTip = paragraphs([dependencies.advice(problems)])

    def fail(self, error: Exception) -> None:
        """Say what went wrong. Nothing pops up if it was the person who stopped it."""
        stopped = isinstance(error, Cancelled)
        show_icon(self._ui.messageIcon, "Information" if stopped else "Stop")
        self._ui.messageLabel.text = paragraphs([str(error)])
        self._ui.messageNote.visible = True
        if not stopped:
            slicer.util.errorDisplay(str(error), windowTitle=_("MSTKD Segmenter"))

    def clear(self) -> None:
        self._ui.messageNote.visible = False
