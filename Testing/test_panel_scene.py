"""The panel and the scene: closed while running, saved and restored through MRML, reloaded, without a main window."""

from __future__ import annotations

import sys

import host
import pytest
import slicer
import vtk
from MSTKDSegmenterLib import child
from panel_driver import Panel, add_volume, segmentations, settle, until
from stand_in import HEEDS, write_worker


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()
    host.errors.clear()


@pytest.fixture
def panel():
    panel = Panel()
    yield panel
    panel.close()


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes the logic start a worker with another computation."""

    def use(body: str = "") -> None:
        monkeypatch.setattr(child, "WORKER", write_worker(tmp_path / "worker.py", body))

    return use


class TestClosing:
    def test_it_ends_the_run_and_nothing_comes_into_the_next_scene(self, panel, stand_in) -> None:
        stand_in(HEEDS)
        add_volume("case1_flair")
        until(lambda: panel.ui.applyButton.enabled)
        panel.ui.applyButton.click()
        until(lambda: panel.ui.progressBar.value == 25)
        slicer.mrmlScene.Clear()
        add_volume("case2_t1")
        panel.finish()
        assert segmentations() == []
        assert "scene was closed" in panel.said("messageLabel")
        assert host.errors == []
        assert panel.chosen() == {"T1": "case2_t1"}

    def test_it_empties_the_panel_and_forgets_own_choices(self, panel) -> None:
        add_volume("something")
        panel.choose("T2", "something")
        slicer.mrmlScene.Clear()
        settle()
        assert panel.chosen() == {}
        assert panel.ui.originT2.text == ""
        assert not panel.ui.applyButton.enabled
        add_volume("case2_t2")
        until(lambda: panel.chosen() == {"T2": "case2_t2"})
        assert panel.ui.originT2.text == "recognised"

    def test_it_works_while_another_module_is_open(self, panel) -> None:
        add_volume("something")
        panel.choose("T2", "something")
        panel.exit()
        slicer.mrmlScene.Clear()
        add_volume("case2_t2")
        panel.enter()
        assert panel.chosen() == {"T2": "case2_t2"}


class TestSaving:
    @pytest.fixture
    def saved(self, panel, stand_in, tmp_path):
        """A scene with choices by hand, options and a result, saved and closed."""
        stand_in()
        for name in ("case1_flair", "case1_t1", "something"):
            add_volume(name)
        until(lambda: len(panel.chosen()) == 2)
        panel.choose("T2", "something")
        panel.choose("T1", "missing")
        panel.ui.deviceSelector.content.setCurrentText("CPU")
        panel.ui.samePatientBox.checked = True
        panel.ui.modelFolder.currentPath = ""
        panel.ui.applyButton.click()
        panel.finish()
        assert slicer.mrmlScene.WriteToMRB(str(tmp_path / "scene.mrb"))
        slicer.mrmlScene.Clear()
        settle()
        assert not panel.shows("resultsSection")
        return tmp_path / "scene.mrb"

    def test_choices_options_and_result_come_back(self, panel, saved) -> None:
        assert slicer.mrmlScene.ReadFromMRB(str(saved))
        settle()
        assert panel.chosen() == {"FLAIR": "case1_flair", "T2": "something"}
        origins = {name: getattr(panel.ui, f"origin{name}").text for name in ("FLAIR", "T1", "T2")}
        assert origins == {"FLAIR": "recognised", "T1": "your choice", "T2": "your choice"}
        assert panel.ui.deviceSelector.currentText == "CPU"
        assert panel.ui.samePatientBox.checked
        assert not panel.ui.exclusiveBox.checked

    def test_a_scene_that_is_added_leaves_the_choices_and_the_result_of_this_one(self, panel, saved) -> None:
        for name in ("case2_flair", "case2_t1", "case2_t1ce"):
            add_volume(name)
        until(lambda: len(panel.chosen()) == 3)
        panel.ui.applyButton.click()
        panel.finish()
        before, own = panel.chosen(), panel.ui.resultSelector.currentNode()
        panel.ui.exclusiveBox.checked = panel.ui.probabilitiesBox.checked = True
        assert slicer.mrmlScene.ReadFromMRB(str(saved))
        settle()
        assert slicer.util.getNode("case1_flair")
        assert panel.chosen() == before
        assert panel.ui.originFLAIR.text == "recognised"
        assert not panel.ui.samePatientBox.checked
        assert panel.ui.deviceSelector.currentText == "Automatic"
        assert panel.ui.exclusiveBox.checked and panel.ui.probabilitiesBox.checked
        assert panel.ui.resultSelector.currentNode() is own
        assert own.GetDisplayNode().GetVisibility()

    @pytest.mark.parametrize("opened", ["before", "after"])
    def test_what_was_edited_after_it_was_loaded_is_known_as_well(self, panel, saved, opened) -> None:
        if opened == "after":
            panel.widget.cleanup()  # it notices nothing any more
        assert slicer.mrmlScene.ReadFromMRB(str(saved))
        settle()
        later = Panel() if opened == "after" else None
        node, value = segmentations()[0], vtk.reference("")
        painted = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation("WT", painted)
        assert node.GetSegmentation().GetSegment("WT").GetTag("DICOM.SegmentAlgorithmType", value)
        assert str(value) == "AUTOMATIC"
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(painted, node, "WT")
        assert node.GetSegmentation().GetSegment("WT").GetTag("DICOM.SegmentAlgorithmType", value)
        assert str(value) == "SEMIAUTOMATIC"
        if later is not None:
            later.close()

    def test_the_result_is_shown_again_with_its_report_and_its_table(self, panel, saved) -> None:
        assert slicer.mrmlScene.ReadFromMRB(str(saved))
        settle()
        assert panel.ui.resultSelector.currentNode().GetName() == segmentations()[0].GetName()
        assert panel.ui.sourceLabel.text.startswith("From FLAIR+T2 with")
        panel.ui.tableButton.click()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        assert slicer.mrmlScene.GetNodeByID(selection.GetActiveTableID()).GetCellText(0, 0) == "WT"

    def test_a_panel_that_is_opened_after_the_scene_was_loaded_shows_the_same(self, panel, saved) -> None:
        panel.exit()
        assert slicer.mrmlScene.ReadFromMRB(str(saved))
        later = Panel()
        assert later.chosen() == {"FLAIR": "case1_flair", "T2": "something"}
        assert later.shows("resultContents")
        later.close()


class TestReload:
    @pytest.fixture
    def modules(self):
        """What was imported comes back after the test, for those that imported it before."""
        before = {name: one for name, one in sys.modules.items() if name.startswith("MSTKDSegmenter")}
        yield
        for name in [name for name in sys.modules if name.startswith("MSTKDSegmenter")]:
            del sys.modules[name]
        sys.modules.update(before)

    def test_the_new_panel_has_new_code_and_the_old_choices(self, panel, modules) -> None:
        add_volume("something")
        panel.choose("T2", "something")
        old = sys.modules["MSTKDSegmenterLib.panel.choices"]
        panel.reload()
        assert sys.modules["MSTKDSegmenterLib.panel.choices"] is not old
        assert panel.chosen() == {"T2": "something"}
        assert panel.ui.originT2.text == "your choice"

    def test_it_ends_a_run(self, panel, stand_in, modules) -> None:
        stand_in(HEEDS)
        add_volume("case1_flair")
        until(lambda: panel.ui.applyButton.enabled)
        panel.ui.applyButton.click()
        run = panel.widget._run
        panel.reload()
        assert run.closed
        settle()
        assert segmentations() == []


class TestWithoutMainWindow:
    @pytest.fixture(autouse=True)
    def no_window(self, monkeypatch):
        monkeypatch.setattr(host, "main_window", None)

    def test_the_panel_can_be_opened_and_left(self, stand_in) -> None:
        panel = Panel()
        panel.exit()
        panel.close()

    def test_a_result_is_shown_and_what_needs_a_window_is_disabled(self, panel, stand_in) -> None:
        stand_in()
        add_volume("case1_flair")
        until(lambda: panel.ui.applyButton.enabled)
        panel.ui.applyButton.click()
        panel.finish()
        assert panel.shows("resultContents")
        assert not panel.ui.editButton.enabled
        assert not panel.ui.tableButton.enabled
        assert panel.ui.reportButton.enabled
