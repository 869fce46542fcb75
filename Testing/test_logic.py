"""The logic with real child processes, without a panel; the host stands in for the application."""

from __future__ import annotations

import csv
import json
import re
import time
from pathlib import Path

import host
import numpy as np
import pytest
import slicer
from MSTKDSegmenterLib import child
from MSTKDSegmenterLib.engine.errors import Cancelled
from stand_in import HEEDS, IN_ONE_CALL, write_worker

host.start()
from MSTKDSegmenterLib import dependencies  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib import logic as logic_module  # noqa: E402
from MSTKDSegmenterLib.self_test import made_up_volume  # noqa: E402
from scene_volumes import put_below, volume  # noqa: E402


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
    return made_up_volume(slicer.mrmlScene, "my FLAIR")


@pytest.fixture
def logic():
    return logic_module.MSTKDSegmenterLogic()


def bounds(node) -> np.ndarray:
    """Of a segmentation in the world, RAS: x from and to, and so on."""
    found = np.zeros(6)
    node.GetRASBounds(found)
    return found


def finished_after(change, logic, flair, stand_in):
    """The segmentation of a run during which something changed."""
    stand_in()
    run = logic.start({"FLAIR": flair})
    change()
    node = logic.finish(run).segmentation
    run.close()
    return node


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
        # voxels 1 to 8 of 4 mm along x, right is minus, then moved by 100
        assert bounds(node)[:2] == pytest.approx([100 - 8.5 * 4, 100 - 0.5 * 4], abs=2.01)
        transform.SetMatrixTransformToParent(shift(50.0))
        assert bounds(node)[:2] == pytest.approx([50 - 8.5 * 4, 50 - 0.5 * 4], abs=2.01)

    @pytest.mark.parametrize("distance", [0.05, 100.0])
    def test_the_segments_lie_on_a_volume_that_was_moved_meanwhile(self, logic, flair, stand_in, distance) -> None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        flair.SetAndObserveTransformNodeID(transform.GetID())
        node = finished_after(lambda: transform.SetMatrixTransformToParent(shift(distance)), logic, flair, stand_in)
        assert node.GetParentTransformNode() is transform
        assert bounds(node)[:2] == pytest.approx([distance - 8.5 * 4, distance - 0.5 * 4], abs=2.01)
        assert not any("while it was segmented" in line for line in logic.report["findings"])

    def test_they_go_under_a_transform_that_the_volume_was_put_under_meanwhile(self, logic, flair, stand_in) -> None:
        bent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLBSplineTransformNode")
        node = finished_after(lambda: flair.SetAndObserveTransformNodeID(bent.GetID()), logic, flair, stand_in)
        assert node.GetParentTransformNode() is bent

    def test_a_transform_that_was_hardened_meanwhile_changes_nothing(self, logic, flair, stand_in) -> None:
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        transform.SetMatrixTransformToParent(shift(100.0))
        flair.SetAndObserveTransformNodeID(transform.GetID())
        node = finished_after(flair.HardenTransform, logic, flair, stand_in)
        assert node.GetParentTransformNode() is None
        assert bounds(node)[:2] == pytest.approx([100 - 8.5 * 4, 100 - 0.5 * 4], abs=2.01)
        assert not any("while it was segmented" in line for line in logic.report["findings"])

    def test_a_volume_that_got_another_geometry_meanwhile_leaves_them_behind_and_that_is_said(
        self, logic, flair, stand_in
    ) -> None:
        node = finished_after(lambda: flair.SetOrigin(500, 0, 0), logic, flair, stand_in)
        assert bounds(node)[:2] == pytest.approx([-8.5 * 4, -0.5 * 4], abs=2.01)
        assert logic.report["findings"][0].startswith("'my FLAIR' got another place or geometry while it was segmented")
        assert json.loads(node.GetAttribute(logic_module.REPORT_ATTRIBUTE)) == logic.report

    def test_report_is_kept_and_stored_on_the_node(self, logic, flair, stand_in) -> None:
        stand_in()
        node = logic.segment({"FLAIR": flair}, device="cpu", model="some/folder")
        assert logic.report["inputs"]["FLAIR"]["source"] == "my FLAIR"
        assert logic.report["device"]["name"] == "cpu"
        assert logic.report["model"]["folder"] == str(Path("some/folder").absolute())
        assert json.loads(node.GetAttribute(logic_module.REPORT_ATTRIBUTE)) == logic.report

    def test_what_it_needs_on_the_disk_lies_where_slicer_keeps_temporary_files_and_goes(
        self, logic, flair, stand_in, tmp_path, monkeypatch
    ) -> None:
        stand_in()
        place = tmp_path / "chosen" / "in the settings"
        monkeypatch.setattr(slicer.app.content, "temporaryPath", str(place))
        run = logic.start({"FLAIR": flair})
        (folder,) = place.iterdir()
        assert {"FLAIR.nrrd"} < {path.name for path in folder.iterdir()}
        assert [path.name for path in folder.glob("*/job.json")] == ["job.json"]
        run.close()
        assert list(place.iterdir()) == []

    def test_a_place_for_temporary_files_that_cannot_be_used_is_named(
        self, logic, flair, tmp_path, monkeypatch
    ) -> None:
        (tmp_path / "file").touch()
        monkeypatch.setattr(slicer.app.content, "temporaryPath", str(tmp_path / "file"))
        with pytest.raises(RuntimeError, match=r"file, cannot be used \(File exists\)\. Choose another one"):
            logic.segment({"FLAIR": flair})

    def test_all_that_was_added_is_kept_in_the_result(self, logic, flair, stand_in) -> None:
        stand_in()
        node = logic.segment({"FLAIR": flair}, exclusive=True, probabilities=True)
        result = logic.result
        assert result.segmentation == node
        assert result.exclusive.GetSegmentation().GetSegmentIDs() == ("NCR", "ED", "ET")
        values = slicer.util.arrayFromVolume(result.probabilities["TC"])
        assert np.argwhere(values == 0.75).min(axis=0).tolist() == [2, 2, 2]
        assert (values.max(), np.count_nonzero(values)) == (0.75, 4 * 4 * 4)
        assert result.table.GetNumberOfRows() == 5

    def test_nothing_more_is_added_than_was_wanted(self, logic, flair, stand_in) -> None:
        stand_in()
        logic.segment({"FLAIR": flair})
        assert (logic.result.exclusive, logic.result.probabilities) == (None, {})
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1

    def test_a_region_that_is_not_reliable_is_marked(self, logic, flair, stand_in) -> None:
        stand_in()
        segmentation = logic.segment({"FLAIR": flair}).GetSegmentation()
        assert [segmentation.GetSegment(r).GetName() for r in ("WT", "TC", "ET")] == ["WT", "TC", "ET (not reliable)"]

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

    def test_a_node_in_place_of_a_dictionary_is_a_value_error_too(self, logic, flair) -> None:
        for given in (flair, [flair], "my FLAIR"):
            with pytest.raises(ValueError, match=r"Expected a volume node for one or more of FLAIR.*'FLAIR': node"):
                logic.segment(given)

    @pytest.mark.parametrize("kind", ["vtkMRMLSegmentationNode", "vtkMRMLSequenceNode", "vtkMRMLModelNode"])
    def test_what_is_no_volume_is_a_value_error_that_names_it(self, logic, kind) -> None:
        node = slicer.mrmlScene.AddNewNodeByClass(kind, "something")
        for given, told in ((node, rf"'something' \({kind}\)"), (node.GetID(), node.GetID())):
            with pytest.raises(ValueError, match=f"given as T2 is .*{told}.*, expected a scalar volume node"):
                logic.segment({"T2": given})

    def test_a_label_map_and_a_result_of_this_module_are_refused(self, logic, flair, stand_in) -> None:
        stand_in()
        logic.segment({"FLAIR": flair}, probabilities=True)
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
        for node in (logic.result.probabilities["WT"], labels):
            with pytest.raises(ValueError, match="is a label map or a result of this module"):
                logic.segment({"FLAIR": node})

    def test_the_same_volume_twice_is_a_value_error_that_names_it(self, logic, flair, stand_in) -> None:
        stand_in()
        with pytest.raises(ValueError, match=r"my FLAIR.*are the same image"):
            logic.segment({"FLAIR": flair, "T2": flair})

    def test_what_the_scene_knows_of_the_volumes_stands_in_the_report(self, logic, stand_in) -> None:
        stand_in()
        flair, t2 = volume("flair"), volume("T1 here", "T2")
        put_below(flair, "A", "20240101")
        put_below(t2, "A", "20240601")
        logic.segment({"FLAIR": flair, "T2": t2})
        wrong, late, _ = logic.report["findings"]
        assert "chosen as T2, but looks like T1" in wrong
        assert "152 days apart" in late
        reasons = {name: given["recognised_by"] for name, given in logic.report["inputs"].items()}
        assert "flair" in reasons["FLAIR"] and reasons["T2"] == "given as T2"

    def test_different_patients_are_refused_unless_that_is_said_to_be_wrong(self, logic, stand_in) -> None:
        stand_in()
        chosen = {"FLAIR": volume("flair"), "T2": volume("t2", "T2")}
        for node, patient in zip(chosen.values(), "AB"):
            put_below(node, patient, "20240101")
        with pytest.raises(ValueError, match=r"different patient IDs.*same_patient=True"):
            logic.segment(chosen)
        logic.segment(chosen, same_patient=True)
        assert "different patient IDs" in logic.report["findings"][0]

    def test_a_folder_without_a_model_is_a_value_error(self, logic, flair, tmp_path) -> None:
        with pytest.raises(ValueError, match=re.escape(str(tmp_path))):
            logic.segment({"FLAIR": flair}, model=tmp_path)

    def test_what_is_not_installed_is_a_runtime_error_with_the_way_to_get_it(self, logic, flair, monkeypatch) -> None:
        missing = [dependencies.Problem("safetensors", "safetensors>=0.4", "missing", "It is not installed.")]
        monkeypatch.setattr(dependencies, "problems", lambda: missing)
        with pytest.raises(RuntimeError, match=re.escape(dependencies.advice(missing))):
            logic.segment({"FLAIR": flair})


class Heard:
    """Notes what the callbacks of a run in the background are called with."""

    def __init__(self) -> None:
        self.events, self.results, self.errors = [], [], []
        self.callbacks = {
            "onProgress": self.events.append,
            "onFinished": self.results.append,
            "onFailed": self.errors.append,
        }

    def wait(self) -> None:
        until(lambda: self.results or self.errors)


class TestBackground:
    def test_it_returns_at_once_and_tells_about_progress_and_the_end(self, logic, flair, stand_in) -> None:
        stand_in("time.sleep(0.5)")
        heard = Heard()
        run = logic.segmentInBackground({"FLAIR": flair}, **heard.callbacks, exclusive=True, device="cpu")
        assert run.running
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
        heard.wait()
        assert [event.stage for event in heard.events] == ["start", "first"]
        assert heard.errors == []
        assert heard.results == [logic.result]
        assert logic.result.exclusive is not None
        assert logic.report["device"]["name"] == "cpu"
        assert run.closed

    def test_it_needs_no_callbacks_and_nobody_who_holds_it(self, flair, stand_in) -> None:
        stand_in()
        logic_module.MSTKDSegmenterLogic().segmentInBackground({"FLAIR": flair})
        until(lambda: slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1)
        assert logic_module._background == set()

    @pytest.mark.parametrize(
        ("body", "kind", "message"),
        [
            ("raise UnusableInput('No brain was found.')", ValueError, "No brain was found"),
            ("raise RuntimeError('no such kernel')", RuntimeError, "no such kernel"),
            ("os.kill(os.getpid(), 9)", RuntimeError, "memory runs out"),
        ],
        ids=["input", "failure", "crash"],
    )
    def test_a_failure_is_told_once_with_the_cause(self, logic, flair, stand_in, body, kind, message) -> None:
        stand_in(body)
        heard = Heard()
        run = logic.segmentInBackground({"FLAIR": flair}, **heard.callbacks)
        heard.wait()
        host.process_events(0.5)
        assert heard.results == []
        assert len(heard.errors) == 1
        assert isinstance(heard.errors[0], kind)
        assert message in str(heard.errors[0])
        assert run.closed

    def test_a_failure_that_nobody_listens_to_is_in_the_log(self, logic, flair, stand_in, caplog) -> None:
        stand_in("raise RuntimeError('no such kernel')")
        logic.segmentInBackground({"FLAIR": flair})
        until(lambda: "no such kernel" in caplog.text)

    def test_input_that_cannot_be_used_is_said_at_once(self, logic) -> None:
        heard = Heard()
        with pytest.raises(ValueError, match="Expected a volume node"):
            logic.segmentInBackground({}, **heard.callbacks)
        assert heard.errors == []

    @pytest.mark.parametrize("body", [HEEDS, IN_ONE_CALL], ids=["between two steps", "inside one long step"])
    def test_cancelling_ends_it_without_a_result(self, logic, flair, stand_in, body) -> None:
        stand_in(body)
        heard = Heard()
        run = logic.segmentInBackground({"FLAIR": flair}, **heard.callbacks)
        until(lambda: len(heard.events) == 2)
        run.cancel()
        heard.wait()
        assert isinstance(heard.errors[0], Cancelled)
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0

    def test_closing_it_ends_it_without_a_word(self, logic, flair, stand_in) -> None:
        stand_in(HEEDS)
        heard = Heard()
        run = logic.segmentInBackground({"FLAIR": flair}, **heard.callbacks)
        run.close()
        run.close()
        host.process_events(0.5)
        assert (heard.results, heard.errors) == ([], [])
        assert not run.running
        assert logic_module._background == set()

    @pytest.mark.parametrize("body", ["", HEEDS], ids=["finished, not yet fetched", "computing"])
    def test_closing_the_scene_ends_it_and_the_next_scene_stays_empty(self, logic, flair, stand_in, body) -> None:
        stand_in(body)
        heard = Heard()
        run = logic.segmentInBackground({"FLAIR": flair}, **heard.callbacks)
        while not body and run.child.running():
            time.sleep(0.05)
        slicer.mrmlScene.Clear()
        heard.wait()
        assert isinstance(heard.errors[0], Cancelled)
        assert "scene was closed" in str(heard.errors[0])
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0

    def test_an_input_that_is_deleted_meanwhile_does_not_cost_the_result(self, logic, flair, stand_in) -> None:
        stand_in("time.sleep(0.3)")
        heard = Heard()
        logic.segmentInBackground({"FLAIR": flair}, **heard.callbacks, probabilities=True)
        slicer.mrmlScene.RemoveNode(flair)
        heard.wait()
        assert heard.errors == []
        assert heard.results[0].segmentation.GetName() == "my FLAIR tumor"
        assert heard.results[0].segmentation.GetScene() == slicer.mrmlScene

    def test_two_runs_at_a_time_do_not_mix(self, logic, flair, stand_in) -> None:
        stand_in("time.sleep(0.2)")
        other = made_up_volume(slicer.mrmlScene, "the other")
        heard = [Heard(), Heard()]
        for one, node in zip(heard, (flair, other)):
            logic.segmentInBackground({"FLAIR": node}, **one.callbacks)
        for one in heard:
            one.wait()
        assert [one.results[0].segmentation.GetName() for one in heard] == ["my FLAIR tumor", "the other tumor"]


class TestBatch:
    """The script that the README gives for many studies."""

    @pytest.fixture
    def run(self, tmp_path, monkeypatch, stand_in):
        stand_in()
        readme = Path(__file__).resolve().parents[1] / "README.md"
        (script,) = (part for part in readme.read_text(encoding="utf-8").split("```python")[1:] if "import csv" in part)
        codes, cannot_save = [], set()

        def save(node, path) -> bool:
            return Path(path).parent.name not in cannot_save

        def load(path):
            if not Path(path).exists():
                raise RuntimeError(f"{path} is missing")
            return made_up_volume(slicer.mrmlScene, "flair")

        monkeypatch.setattr(slicer.util, "loadVolume", load, raising=False)
        monkeypatch.setattr(slicer.util, "saveNode", save, raising=False)
        monkeypatch.setattr(slicer.util, "exit", codes.append, raising=False)
        monkeypatch.chdir(tmp_path)

        def start(*cannot: str) -> tuple[list[int], list[list[str]]]:
            cannot_save.update(cannot)
            exec(script.partition("```")[0], {"slicer": slicer})
            return codes, list(csv.reader(Path("volumes.csv").open(newline="")))

        return start

    def test_it_has_a_row_for_each_study_with_its_volumes_or_with_what_went_wrong(self, run, tmp_path) -> None:
        for name in ("a", "b", "c"):
            (tmp_path / "studies" / name).mkdir(parents=True)
        for name in ("a", "c"):
            (tmp_path / "studies" / name / "flair.nii.gz").touch()
        codes, (head, *rows) = run("c")
        assert codes == [0]
        assert [row[:2] for row in rows] == [["a", "FLAIR"], ["b", ""], ["c", ""]]
        assert float(rows[0][2]) > 0
        assert "is missing" in rows[1][5]
        assert "was not written" in rows[2][5]
        assert {len(row) for row in (head, *rows)} == {6}

    def test_slicer_ends_whatever_happens(self, run) -> None:
        with pytest.raises(FileNotFoundError):
            run()
        assert slicer.util.exit.__self__ == [1]


def until(happened, seconds: float = 30.0) -> None:
    """Let the application run until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        host.process_events()


def shift(right: float):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, right)
    return matrix
