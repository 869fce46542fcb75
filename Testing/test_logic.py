"""The logic with real child processes, without a panel; the host stands in for the application."""

from __future__ import annotations

import json
import re

import host
import numpy as np
import pytest
import slicer
from MSTKDSegmenterLib import child
from stand_in import HEEDS, write_worker

host.start()
import MSTKDSegmenter as module  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib import dependencies  # noqa: E402
from MSTKDSegmenterLib import logic as logic_module  # noqa: E402


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes the logic start a worker with another computation."""

    def use(body: str = "") -> None:
        monkeypatch.setattr(child, "WORKER", write_worker(tmp_path / "worker.py", body))

    return use


@pytest.fixture
def flair():
    return module.madeUpVolume(slicer.mrmlScene, "my FLAIR")


@pytest.fixture
def logic():
    return logic_module.MSTKDSegmenterLogic()


class TestLogic:
    def test_it_returns_a_segmentation_node_beside_its_reference(self, logic, flair, stand_in) -> None:
        stand_in()
        node = logic.segment({"FLAIR": flair})
        assert node.GetSegmentation().GetSegmentIDs() == ("WT", "TC", "ET")
        assert node.GetScene() == slicer.mrmlScene
        assert node.GetName() == "my FLAIR tumor"
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) == flair
        sizes = [
            int(slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, s).astype(bool).sum()) for s in ("WT", "TC")
        ]
        assert sizes == [6 * 7 * 8, 4 * 4 * 4]

    def test_the_segments_lie_in_the_world_where_a_transformed_volume_is_shown(self, logic, flair, stand_in) -> None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(shift(100.0))
        flair.SetAndObserveTransformNodeID(transform.GetID())
        stand_in()
        node = logic.segment({"FLAIR": flair})
        bounds = np.zeros(6)
        node.GetRASBounds(bounds)
        # voxels 1 to 8 of 4 mm along x, right is minus, then moved by 100
        assert bounds[:2] == pytest.approx([100 - 8.5 * 4, 100 - 0.5 * 4], abs=2.01)

    def test_report_is_kept_and_stored_on_the_node(self, logic, flair, stand_in) -> None:
        stand_in()
        node = logic.segment({"FLAIR": flair}, device="cpu", model="some/folder")
        assert logic.report["inputs"]["FLAIR"]["source"] == "my FLAIR"
        assert (logic.report["device"]["name"], logic.report["model"]["folder"]) == ("cpu", "some/folder")
        assert json.loads(node.GetAttribute(logic_module.REPORT_ATTRIBUTE)) == logic.report

    def test_progress_arrives_in_order(self, logic, flair, stand_in) -> None:
        stand_in("job.report('second', 0.5, 'half')")
        events = []
        logic.segment({"FLAIR": flair}, progress=events.append)
        assert [(event.stage, event.fraction) for event in events] == [("start", 0.0), ("first", 0.25), ("second", 0.5)]

    def test_no_files_stay_behind(self, logic, flair, stand_in, tmp_path, monkeypatch) -> None:
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(logic_module.tempfile, "tempdir", str(tmp_path / "temporary"))
        stand_in()
        logic.segment({"FLAIR": flair})
        stand_in("raise UnusableInput('no')")
        with pytest.raises(ValueError, match="no"):
            logic.segment({"FLAIR": flair})
        assert list((tmp_path / "temporary").iterdir()) == []

    def test_an_interrupt_in_the_console_ends_the_process(self, logic, flair, stand_in, monkeypatch) -> None:
        stand_in(HEEDS)
        runs = []
        start = logic.start
        monkeypatch.setattr(logic, "start", lambda *given: runs.append(start(*given)) or runs[-1])

        def interrupt(event) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            logic.segment({"FLAIR": flair}, progress=interrupt)
        assert not runs[0].child.running()

    def test_a_failure_is_a_runtime_error_with_the_cause(self, logic, flair, stand_in) -> None:
        stand_in("raise RuntimeError('no such kernel')")
        with pytest.raises(RuntimeError, match="no such kernel"):
            logic.segment({"FLAIR": flair})

    @pytest.mark.parametrize("volumes", [{}, {"FLAIR": None}, {"T1c": "flair"}], ids=["none", "no node", "misspelt"])
    def test_a_wrong_choice_of_volumes_is_a_value_error_that_says_what_is_expected(self, logic, flair, volumes) -> None:
        given = {name: flair if node == "flair" else node for name, node in volumes.items()}
        with pytest.raises(ValueError, match="Expected a volume node for one or more of FLAIR, T1, T1ce, T2"):
            logic.segment(given)

    def test_the_same_volume_twice_is_a_value_error_that_names_it(self, logic, flair, stand_in) -> None:
        stand_in()
        with pytest.raises(ValueError, match=r"my FLAIR.*are the same image"):
            logic.segment({"FLAIR": flair, "T2": flair})

    def test_a_folder_without_a_model_is_a_value_error(self, logic, flair, tmp_path) -> None:
        with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
            logic.segment({"FLAIR": flair}, model=tmp_path)

    def test_what_is_not_installed_is_a_runtime_error_with_the_way_to_get_it(self, logic, flair, monkeypatch) -> None:
        missing = [dependencies.Problem("safetensors", "safetensors>=0.4", "missing", "It is not installed.")]
        monkeypatch.setattr(dependencies, "problems", lambda: missing)
        with pytest.raises(RuntimeError, match=re.escape(dependencies.advice(missing))):
            logic.segment({"FLAIR": flair})


def shift(right: float):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, right)
    return matrix
