"""The panel in the host, as a person uses it: opens it, chooses volumes, presses buttons, looks at what is shown."""

from __future__ import annotations

import time
from typing import Any, Callable

import host
import numpy as np
import slicer
from PySide6 import QtGui

host.start()
import MSTKDSegmenter as module  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib.self_test import made_up_volume  # noqa: E402

SEQUENCES = ("FLAIR", "T1", "T1ce", "T2")


class Panel:
    """One opened panel; ``ui`` are its widgets."""

    def __init__(self) -> None:
        self.parent = host.panel_parent()
        self.widget = module.MSTKDSegmenterWidget(self.parent)
        self.widget.setup()
        self.ui = self.widget.ui
        self.enter()

    def enter(self) -> None:
        """Come to the module."""
        self.parent.isEntered = True
        self.widget.enter()

    def exit(self) -> None:
        """Leave for another module."""
        self.parent.isEntered = False
        self.widget.exit()

    def reload(self) -> None:
        """Press the developer's button Reload."""
        self.widget.onReload()
        self.widget = self.parent.self()
        self.ui = self.widget.ui

    def close(self) -> None:
        self.widget.cleanup()
        self.parent.container.deleteLater()
        host.process_events(0.0)

    def selector(self, sequence: str) -> Any:
        return getattr(self.ui, f"selector{sequence}")

    def choose(self, sequence: str, name: str) -> None:
        self.selector(sequence).content.choose(name)

    def chosen(self) -> dict[str, str]:
        """Sequence -> name of the volume that its selector shows, without the missing ones."""
        nodes = {sequence: self.selector(sequence).currentNode() for sequence in SEQUENCES}
        return {sequence: node.GetName() for sequence, node in nodes.items() if node is not None}

    def shows(self, name: str) -> bool:
        """Whether a widget would be seen if the panel were on the screen."""
        return getattr(self.ui, name).content.isVisibleTo(self.parent.container)

    def said(self, label: str) -> str:
        """What a label says, without its formatting."""
        return _plain(getattr(self.ui, label).text)

    def tip(self, widget: str) -> str:
        """What a tooltip says, without its formatting."""
        return _plain(getattr(self.ui, widget).toolTip)

    def finish(self) -> None:
        """Wait until nothing runs any more."""
        until(lambda: not self.shows("runningPanel"))


def _plain(text: str) -> str:
    document = QtGui.QTextDocument()
    document.setHtml(text)
    return document.toPlainText()


def until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let the application run until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        host.process_events()


def settle() -> None:
    """Let timers of the panel run out."""
    host.process_events(0.25)


def add_volume(name: str) -> Any:
    """A made-up head with values of its own in the scene."""
    node = made_up_volume(slicer.mrmlScene, name)
    values = slicer.util.arrayFromVolume(node)
    values += (values > 0) * np.random.default_rng(len(name) + ord(name[-1])).normal(0, 5, values.shape)
    return node


def segmentations() -> list[Any]:
    return slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
