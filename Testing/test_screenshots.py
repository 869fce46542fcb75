"""The script that takes the pictures of the panel for the README."""

from __future__ import annotations

import screenshots
from MSTKDSegmenterLib import child
from PySide6 import QtGui
from stand_in import write_worker


def test_it_writes_a_picture_of_each_state_that_fits_into_the_panel(tmp_path, monkeypatch) -> None:
    worker = write_worker(tmp_path / "worker.py", "job.report('predict', 0.6)\ntime.sleep(2)")
    monkeypatch.setattr(child, "WORKER", worker)
    paths = screenshots.main(tmp_path, spacing=4.0)
    assert [path.name for path in paths] == [
        "panel-nothing-loaded.png",
        "panel-recognised.png",
        "panel-running.png",
        "panel-finished.png",
    ]
    pictures = [QtGui.QImage(str(path)) for path in paths]
    assert {picture.width() for picture in pictures} == {screenshots.WIDTH}
    heights = [picture.height() for picture in pictures]
    assert heights == sorted(heights)
