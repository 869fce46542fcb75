"""Pictures of the panel in four states: `.venv/bin/python Testing/screenshots.py` -> Resources/Screenshots/panel-*.png.

The panel is the real one in the host (see host.py), so buttons and frames look a little different from Slicer's; words,
order and sizes are the same. Volumes are simulated (phantom.py), no patient is shown; the segmentation is computed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, Callable

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "MSTKDSegmenter"))

import host  # noqa: E402 - the library has to be on the path
import slicer  # noqa: E402
from PySide6 import QtCore, QtWidgets  # noqa: E402

FOLDER = REPOSITORY / "Resources" / "Screenshots"
WIDTH = 420
"""Pixels: about the width that the module panel of Slicer has at first."""
MARGIN = 16
LARGEST = 150_000
"""Bytes of a picture."""


def main(folder: Path = FOLDER, spacing: float = 1.0) -> list[Path]:
    """Write the pictures; ``spacing`` (mm) is that of the simulated study."""
    host.start()
    application = QtWidgets.QApplication.instance()
    application.setStyle("Fusion")
    import MSTKDSegmenter as module
    from MSTKDSegmenterLib.scene.volumes import add_volume
    from phantom import make_study

    slicer.mrmlScene.Clear()
    parent = host.panel_parent()
    widget = module.MSTKDSegmenterWidget(parent)
    widget.setup()
    widget.enter()
    folder.mkdir(parents=True, exist_ok=True)
    written = [_grab(parent.container, folder / "panel-nothing-loaded.png")]
    study = make_study(seed=3, spacing=spacing)
    for sequence in ("FLAIR", "T1", "T2"):
        add_volume(slicer.mrmlScene, study.images[sequence], f"Phantom {sequence}")
    _until(lambda: widget.ui.applyButton.enabled)
    written.append(_grab(parent.container, folder / "panel-recognised.png"))
    widget.ui.applyButton.click()
    _until(lambda: widget.ui.stageLabel.text.startswith("Segmenting") or widget._run is None)
    written.append(_grab(parent.container, folder / "panel-running.png"))
    _until(lambda: widget._run is None)
    written.append(_grab(parent.container, folder / "panel-finished.png"))
    widget.cleanup()
    return written


def _grab(panel: Any, path: Path) -> Path:
    """The panel as tall as its visible content."""
    panel.resize(WIDTH, 1600)
    panel.show()
    host.process_events(0.2)
    shown = [child for child in panel.findChildren(QtWidgets.QWidget) if child.isVisible() and child.layout() is None]
    bottom = max(child.mapTo(panel, child.rect().bottomLeft()).y() for child in shown)
    panel.grab(QtCore.QRect(0, 0, WIDTH, bottom + MARGIN)).save(str(path))
    if path.stat().st_size > LARGEST:
        raise RuntimeError(f"{path} has {path.stat().st_size:,} bytes, expected at most {LARGEST:,}.")
    return path


def _until(happened: Callable[[], bool], seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            raise RuntimeError("The panel did not come to the next state.")
        host.process_events()


if __name__ == "__main__":
    print(*main(), sep="\n")
