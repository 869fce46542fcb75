"""What is tried inside Slicer: the real logic and panel with the model that ships, on a small made-up head.

Run by CTest (Testing/CMakeLists.txt) and by the button Reload and Test; without a main window as well. Nothing is
replaced by a stand-in; what is not installed is a reason to skip, as tests install nothing.
"""

from __future__ import annotations

import json
import sys
import time
import unittest
from typing import Any, Callable

import slicer

from . import dependencies

PATIENCE = 300
"""Seconds that a segmentation may take on a busy machine."""


class SelfTest:
    """The tests, for a class that is a TestCase too and says in ``makeLogic`` what is tested."""

    def runTest(self, **_: Any) -> None:  # noqa: N802
        """All of them, for the button: to the base class a skipped one is a failure, after which it stops."""
        found = unittest.TextTestRunner(sys.stdout).run(unittest.defaultTestLoader.loadTestsFromTestCase(type(self)))
        wrong = [test.id().rpartition(".")[2] for test, _traceback in (*found.failures, *found.errors)]
        if wrong:
            raise AssertionError(f"{len(wrong)} of {found.testsRun} tests failed: {', '.join(wrong)}")

    def setUp(self) -> None:
        slicer.mrmlScene.Clear()
        self.logic = self.makeLogic()

    def tearDown(self) -> None:
        slicer.mrmlScene.Clear()

    def test_one_sequence_gives_three_segments(self) -> None:
        self._need_packages()
        events = []
        flair = made_up_volume(slicer.mrmlScene, "FLAIR")
        node = self.logic.segment({"FLAIR": flair}, device="cpu", progress=events.append)
        self.assertEqual(tuple(node.GetSegmentation().GetSegmentIDs()), ("WT", "TC", "ET"))
        self.assertEqual(node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()), flair)
        self.assertEqual(json.loads(node.GetAttribute("MSTKDSegmenter.report"))["subset"], "FLAIR")
        self.assertEqual(events[-1].fraction, 1.0)

    def test_two_grids_give_segments_probabilities_and_a_table(self) -> None:
        self._need_packages()
        volumes = {
            "FLAIR": made_up_volume(slicer.mrmlScene, "FLAIR"),
            "T1ce": made_up_volume(slicer.mrmlScene, "T1ce", spacing=3.0),
        }
        self.logic.segment(volumes, device="cpu", exclusive=True, probabilities=True)
        result = self.logic.result
        self.assertEqual(tuple(result.exclusive.GetSegmentation().GetSegmentIDs()), ("NCR", "ED", "ET"))
        self.assertEqual(sorted(result.probabilities), ["ET", "TC", "WT"])
        for volume in result.probabilities.values():
            low, high = volume.GetImageData().GetScalarRange()
            self.assertTrue(0 <= low <= high <= 1, f"{volume.GetName()}: {low} to {high}")
        self.assertEqual(result.table.GetNumberOfRows(), 5)
        self.assertGreater(result.report["volumes_ml"]["WT"], 0)
        self.assertGreaterEqual(result.report["volumes_ml"]["WT"], result.report["volumes_ml"]["TC"])
        self.assertEqual(self._inputs(), ["FLAIR", "T1ce"])

    def test_unusable_input_says_what_to_do(self) -> None:
        with self.assertRaisesRegex(ValueError, "Expected a volume node for one or more of FLAIR"):
            self.logic.segment({})
        self._need_packages()
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        with self.assertRaisesRegex(ValueError, "'empty' holds no voxels"):
            self.logic.segment({"T2": empty})

    def test_a_run_in_the_background_calls_back(self) -> None:
        self._need_packages()
        events, results, errors = [], [], []
        flair = made_up_volume(slicer.mrmlScene, "FLAIR")
        self.logic.segmentInBackground(
            {"FLAIR": flair}, onProgress=events.append, onFinished=results.append, onFailed=errors.append, device="cpu"
        )
        self.assertEqual((events, results, errors), ([], [], []))
        self._wait(lambda: results or errors)
        self.assertEqual(errors, [])
        self.assertEqual(results[0].segmentation.GetScene(), slicer.mrmlScene)
        self.assertTrue(events)

    def test_a_run_that_is_cancelled_adds_nothing(self) -> None:
        self._need_packages()
        results, errors = [], []
        flair = made_up_volume(slicer.mrmlScene, "FLAIR")
        run = self.logic.segmentInBackground(
            {"FLAIR": flair}, onFinished=results.append, onFailed=errors.append, device="cpu"
        )
        run.cancel()
        self._wait(lambda: results or errors)
        self.assertEqual(results, [])
        self.assertIn("Stopped", str(errors[0]))
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 0)

    def test_the_panel_segments_what_it_recognises(self) -> None:
        self._need_packages()
        widget = slicer.util.getModuleWidget("MSTKDSegmenter")
        shown = getattr(widget.parent, "isEntered", False)  # by Reload and Test: it is to stay as it is
        widget.enter()
        try:
            flair = made_up_volume(slicer.mrmlScene, "patient FLAIR")
            self._wait(lambda: widget.ui.selectorFLAIR.currentNode() == flair)
            self._wait(lambda: widget.ui.applyButton.enabled)
            widget.ui.applyButton.click()
            self.assertFalse(widget.ui.applyButton.enabled)
            self._wait(lambda: widget.ui.applyButton.enabled)
            self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode"), 1)
            node = widget.ui.resultSelector.currentNode()
            self.assertEqual(node.GetName(), "patient FLAIR tumor")
            self.assertIn("ml", widget.ui.volumeMlWT.text)
        finally:
            if not shown:
                widget.exit()

    def _need_packages(self) -> None:
        problems = dependencies.problems()
        if problems:
            self.skipTest(dependencies.advice(problems))

    def _inputs(self) -> list[str]:
        """Names of the volumes that are not the module's own output."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        return [node.GetName() for node in nodes if not node.GetAttribute("MSTKDSegmenter.output")]

    def _wait(self, happened: Callable[[], Any]) -> None:
        """Let the application run until something has happened."""
        deadline = time.monotonic() + PATIENCE
        while not happened():
            self.assertLess(time.monotonic(), deadline, f"it did not happen within {PATIENCE} s")
            slicer.app.processEvents()
            time.sleep(0.02)


def made_up_volume(scene: Any, name: str, spacing: float = 4.0) -> Any:
    """A skull-stripped head of ellipsoids with a bright lesion, 192 x 192 x 160 mm, voxels of ``spacing`` mm."""
    import numpy as np

    from .engine.geometry import Grid
    from .scene.volumes import add_volume

    size = [round(length / spacing) for length in (192, 192, 160)]
    # the centre stays where it is, whatever the spacing
    x, y, z = (spacing * (np.arange(count) - (count - 1) / 2) for count in size)
    z, y, x = z[:, None, None], y[None, :, None], x[None, None, :]
    values = np.zeros(size[::-1], dtype=np.float32)
    brain = (x / 68) ** 2 + (y / 84) ** 2 + (z / 64) ** 2 < 1
    values[brain] = np.random.default_rng(7).normal(100, 10, int(brain.sum()))
    values[(x - 28) ** 2 + (y - 20) ** 2 + z**2 < 20**2] += 80
    origin = tuple((4 * (length / 4 - 1) - spacing * (count - 1)) / 2 for length, count in zip((192, 192, 160), size))
    grid = Grid(tuple(size), (spacing,) * 3, origin, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))
    return add_volume(scene, grid.image(values), name)
