"""The panel from Apply to the result; the process is real, only its computation is replaced."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from types import SimpleNamespace

import host
import pytest
import slicer
import vtk
from MSTKDSegmenterLib import child
from MSTKDSegmenterLib.engine.progress import Event
from MSTKDSegmenterLib.scene.attributes import REPORT_ATTRIBUTE
from panel_driver import Panel, add_volume, segmentations, settle, until
from stand_in import HEEDS, IN_ONE_CALL, write_worker

host.start()
from MSTKDSegmenterLib.panel import running  # noqa: E402 - only the host makes it importable


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()
    for record in (host.errors, host.selected, host.opened, host.answers):
        record.clear()
    host.views.layout = 3


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


@pytest.fixture
def ready(panel, stand_in):
    """A panel with a FLAIR and a T1 chosen, whose worker does nothing."""
    stand_in()
    for name in ("case1_flair", "case1_t1"):
        add_volume(name)
    until(lambda: len(panel.chosen()) == 2)
    return panel


@pytest.fixture
def finished(ready):
    ready.ui.applyButton.click()
    ready.finish()
    return ready


class TestProgress:
    def test_a_run_shows_its_stage_its_share_and_the_device_with_the_reason(self, ready, stand_in) -> None:
        stand_in("job.report('device', 0.3, 'cpu: CPU: no CUDA device found')\ntime.sleep(1)")
        assert not ready.shows("runningPanel")
        ready.ui.applyButton.click()
        assert ready.shows("runningPanel")
        assert not ready.ui.applyButton.enabled
        assert "running" in ready.tip("applyButton")
        until(lambda: ready.ui.progressBar.value == 30)
        assert ready.ui.stageLabel.text == "Choosing the device"
        assert ready.ui.deviceLabel.text == "Device: CPU (no CUDA device found)"
        ready.finish()
        assert ready.ui.applyButton.enabled
        assert ready.shows("deviceLabel")
        assert host.errors == []

    def test_it_says_how_long_it_will_take(self, ready, stand_in) -> None:
        stand_in("time.sleep(0.5)\njob.report('predict', 0.5, 'part 1 of 2')\ntime.sleep(1)")
        ready.ui.applyButton.click()
        until(lambda: ready.ui.stageLabel.text == "Segmenting: part 1 of 2")
        assert ready.ui.timeLabel.text == "a few seconds left"
        ready.finish()

    def test_the_options_reach_the_computation(self, ready, stand_in) -> None:
        ready.ui.deviceSelector.content.setCurrentText("CPU")
        ready.ui.exclusiveBox.checked = True
        ready.ui.probabilitiesBox.checked = True
        ready.ui.applyButton.click()
        ready.finish()
        regions, classes = segmentations()
        assert json.loads(regions.GetAttribute(REPORT_ATTRIBUTE))["device"]["name"] == "cpu"
        assert classes.GetSegmentation().GetSegmentIDs() == ("NCR", "ED", "ET")
        names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
        assert [name[-2:] for name in names if "probability" in name] == ["WT", "TC", "ET"]

    def test_a_run_goes_on_while_another_module_is_open(self, ready, stand_in) -> None:
        stand_in("time.sleep(0.5)")
        ready.ui.applyButton.click()
        ready.exit()
        ready.finish()
        assert len(segmentations()) == 1
        ready.enter()
        assert ready.chosen() == {"FLAIR": "case1_flair", "T1": "case1_t1"}
        assert ready.shows("resultContents")


class TestTimeLeft:
    @pytest.fixture
    def clock(self):
        return SimpleNamespace(now=0.0)

    @pytest.fixture
    def left(self, clock):
        return running.TimeLeft(lambda: clock.now)

    def test_it_follows_from_the_time_that_a_share_took(self, left, clock) -> None:
        clock.now = 7.0  # what happens before the first progress does not count
        left.reached(0.0)
        clock.now = 17.0
        left.reached(0.25)
        assert left.seconds() == pytest.approx(30.0)
        clock.now = 27.0
        assert left.seconds() == pytest.approx(20.0)

    def test_it_says_nothing_too_early_and_never_a_time_below_zero(self, left, clock) -> None:
        left.reached(0.0)
        clock.now = 1.0
        left.reached(0.05)
        assert left.seconds() is None
        left.reached(0.5)
        clock.now = 100.0
        assert left.seconds() == 0.0

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [
            (None, ""),
            (0.0, "a few seconds left"),
            (17.0, "about 15 s left"),
            (89.0, "about 90 s left"),
            (200.0, "about 3 min left"),
        ],
    )
    def test_it_is_said_in_round_numbers(self, seconds, words) -> None:
        assert running.time_in_words(seconds) == words


class TestCancel:
    @pytest.mark.parametrize("body", [HEEDS, IN_ONE_CALL], ids=["heeded", "in one call"])
    def test_it_ends_the_run_without_a_result_or_a_popup(self, ready, stand_in, body) -> None:
        stand_in(body)
        ready.ui.applyButton.click()
        until(lambda: ready.ui.progressBar.value == 25)
        ready.widget._running.show(Event("predict", 0.5, ""))  # from now on the time left is known
        ready.ui.cancelButton.click()
        assert not ready.ui.cancelButton.enabled
        ready.widget._running.show(Event("predict", 0.6, "late"))
        while ready.shows("runningPanel"):
            assert (ready.ui.stageLabel.text, ready.ui.timeLabel.text) == ("Stopping", "")
            host.process_events(0.3)
        ready.finish()
        assert "nothing was written" in ready.said("messageLabel")
        assert ready.ui.applyButton.enabled
        assert segmentations() == []
        assert host.errors == []

    def test_the_next_run_can_be_cancelled_as_well(self, ready, stand_in) -> None:
        stand_in(HEEDS)
        for _ in range(2):
            ready.ui.applyButton.click()
            assert not ready.shows("messageNote")
            until(lambda: ready.ui.progressBar.value == 25)
            ready.ui.cancelButton.click()
            ready.finish()
        assert segmentations() == []


class TestFailure:
    def test_unusable_input_is_said_in_a_popup_and_in_the_panel(self, ready, stand_in) -> None:
        stand_in("raise UnusableInput('No brain was found. Choose another volume.')")
        ready.ui.applyButton.click()
        ready.finish()
        assert host.errors == ["No brain was found. Choose another volume."]
        assert ready.said("messageLabel") == host.errors[0]
        assert ready.shows("messageNote")
        assert ready.ui.applyButton.enabled

    def test_a_process_that_dies_leaves_slicer_and_the_panel_alive(self, ready, stand_in) -> None:
        stand_in("import os; os._exit(3)")
        ready.ui.applyButton.click()
        ready.finish()
        assert "ended unexpectedly (exit code 3)" in ready.said("messageLabel")
        stand_in()
        ready.ui.applyButton.click()
        assert not ready.shows("messageNote")
        ready.finish()
        assert len(segmentations()) == 1

    def test_the_result_is_kept_if_a_volume_was_removed_meanwhile(self, ready, stand_in) -> None:
        stand_in("time.sleep(0.5)")
        ready.ui.applyButton.click()
        slicer.mrmlScene.RemoveNode(slicer.util.getNode("case1_flair"))
        ready.finish()
        assert len(segmentations()) == 1
        assert host.errors == []


class TestResult:
    def test_it_shows_volumes_expectations_and_findings_in_words(self, finished) -> None:
        assert finished.shows("resultContents")
        assert finished.ui.resultSelector.currentNode() is segmentations()[0]
        assert finished.ui.sourceLabel.text.startswith("From FLAIR+T1 with student 1.2")
        shown = {region: getattr(finished.ui, f"volumeMl{region}").text for region in ("WT", "TC", "ET")}
        assert shown == {"WT": "1.0 ml", "TC": "0.5 ml", "ET": "0.2 ml"}
        assert finished.ui.volumeGradeET.text == "not reliable"
        assert finished.said("findingsLabel") == "Look here."

    def test_without_a_finding_it_says_that_this_is_no_proof(self, finished) -> None:
        node = finished.ui.resultSelector.currentNode()
        report = {**json.loads(node.GetAttribute(REPORT_ATTRIBUTE)), "findings": []}
        node.SetAttribute(REPORT_ATTRIBUTE, json.dumps(report))
        finished.widget._results.show(node)
        assert finished.said("findingsLabel") == (
            "The automatic checks found nothing unusual. That is no proof that the result is right."
        )

    def test_every_run_makes_a_new_node_and_the_older_ones_can_be_looked_at_again(self, finished) -> None:
        first = finished.ui.resultSelector.currentNode()
        finished.choose("T1", "missing")
        finished.ui.applyButton.click()
        finished.finish()
        assert len(segmentations()) == 2
        assert finished.ui.sourceLabel.text.startswith("From FLAIR with")
        finished.ui.resultSelector.setCurrentNode(first)
        assert finished.ui.sourceLabel.text.startswith("From FLAIR+T1 with")

    def test_of_several_only_the_one_whose_numbers_are_shown_is_seen_in_the_views(self, finished) -> None:
        for _ in range(2):
            finished.ui.applyButton.click()
            finished.finish()
        first, second, third = segmentations()

        def seen() -> list[bool]:
            return [bool(node.GetDisplayNode().GetVisibility()) for node in segmentations() if node.GetDisplayNode()]

        assert seen() == [False, False, True]
        finished.ui.resultSelector.setCurrentNode(first)
        assert seen() == [True, False, False]
        second.GetDisplayNode().SetVisibility(True)  # to compare them
        slicer.mrmlScene.RemoveNode(third.GetDisplayNode())
        finished.exit()
        finished.enter()
        assert seen() == [True, True]
        finished.ui.resultSelector.setCurrentNode(second)
        assert seen() == [False, True]

    def test_one_that_was_made_in_the_console_is_offered_and_one_that_was_deleted_is_not(self, ready) -> None:
        ready.widget.logic.segment({"FLAIR": slicer.util.getNode("case1_flair")})
        settle()
        assert ready.shows("resultsSection")
        slicer.mrmlScene.RemoveNode(segmentations()[0])
        settle()
        assert not ready.shows("resultsSection")

    def test_it_fits_into_a_narrow_panel(self, finished) -> None:
        slicer.util.getNode("case1_flair").SetName("MR Brain axial FLAIR 3D SPACE fat-suppressed after shunt revision")
        finished.ui.advancedSection.collapsed = False
        assert finished.parent.container.minimumSizeHint().width() <= 420

    def test_segmentations_of_others_are_not_offered(self, finished) -> None:
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "drawn by hand")
        assert "drawn by hand" not in finished.ui.resultSelector.content.texts()

    def test_it_is_no_proposal_for_the_next_run(self, ready) -> None:
        ready.ui.probabilitiesBox.checked = True
        ready.ui.applyButton.click()
        ready.finish()
        settle()
        assert ready.chosen() == {"FLAIR": "case1_flair", "T1": "case1_t1"}
        assert not ready.shows("unusedLabel")

    def test_surfaces_are_made_on_request(self, finished) -> None:
        segmentation = segmentations()[0].GetSegmentation()
        assert not segmentation.ContainsRepresentation("Closed surface")
        finished.ui.show3DButton.click()
        assert segmentation.ContainsRepresentation("Closed surface")

    def test_edit_opens_it_in_the_segment_editor_over_its_reference(self, finished) -> None:
        finished.ui.editButton.click()
        assert host.selected == ["SegmentEditor"]
        assert host.segment_editor.segmentation is segmentations()[0]
        assert host.segment_editor.source.GetName() == "case1_flair"

    def test_what_was_edited_is_no_longer_said_to_be_automatic(self, finished) -> None:
        def kinds() -> set[str]:
            segmentation, value, found = segmentations()[0].GetSegmentation(), vtk.reference(""), set()
            for region in ("WT", "TC", "ET"):
                assert segmentation.GetSegment(region).GetTag("DICOM.SegmentAlgorithmType", value)
                found.add(str(value))
            return found

        finished.ui.editButton.click()
        finished.ui.show3DButton.click()
        assert kinds() == {"AUTOMATIC"}  # only looked at
        painted = slicer.vtkOrientedImageData()
        node = segmentations()[0]
        node.GetBinaryLabelmapRepresentation("TC", painted)
        painted.GetPointData().GetScalars().Fill(1)
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(painted, node, "TC")
        assert kinds() == {"SEMIAUTOMATIC"}

    def test_what_is_painted_into_one_region_then_stays_in_those_that_hold_it(self, finished) -> None:
        finished.ui.editButton.click()
        node = segmentations()[0]
        before = {region: slicer.util.arrayFromSegmentBinaryLabelmap(node, region) for region in ("WT", "TC", "ET")}
        painted = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation("TC", painted)
        editor = slicer.vtkSlicerSegmentEditorLogic()
        editor.SetMRMLScene(slicer.mrmlScene)
        settings = slicer.mrmlScene.AddNode(host.segment_editor.node)
        editor.SetSegmentEditorNode(settings)
        settings.SetAndObserveSegmentationNode(node)
        settings.SetSelectedSegmentID("ET")
        editor.ModifySegmentByLabelmap(node, "ET", painted, editor.ModificationModeAdd, False, False)
        after = {region: slicer.util.arrayFromSegmentBinaryLabelmap(node, region) for region in ("WT", "TC", "ET")}
        assert after["ET"].sum() == before["TC"].sum() > before["ET"].sum()
        assert (after["WT"].sum(), after["TC"].sum()) == (before["WT"].sum(), before["TC"].sum())

    def test_table_shows_the_volumes_in_the_views(self, finished) -> None:
        finished.ui.tableButton.click()
        selection = slicer.app.applicationLogic().GetSelectionNode()
        table = slicer.mrmlScene.GetNodeByID(selection.GetActiveTableID())
        assert [table.GetCellText(row, 0) for row in range(3)] == ["WT", "TC", "ET"]
        layout = slicer.vtkMRMLLayoutNode()
        assert layout.GetClassName() and host.views.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView

    def test_table_of_a_result_that_a_script_has_made_can_be_shown_too(self, ready) -> None:
        from MSTKDSegmenterLib.logic import MSTKDSegmenterLogic

        MSTKDSegmenterLogic().segment({"FLAIR": slicer.util.getNode("case1_flair")})
        ready.ui.resultSelector.setCurrentNode(segmentations()[0])
        assert ready.ui.tableButton.enabled

    def test_nothing_of_it_is_kept_when_the_scene_is_closed(self, finished) -> None:
        seen = weakref.WeakSet([segmentations()[0], *slicer.util.getNodesByClass("vtkMRMLTableNode")])
        slicer.mrmlScene.Clear()
        settle()
        gc.collect()
        assert [node.GetName() for node in seen] == []

    def test_report_opens_as_a_page_that_goes_when_the_panel_closes(self, finished) -> None:
        finished.ui.reportButton.click()
        (path,) = map(Path, host.opened)
        assert "FLAIR+T1" in path.read_text(encoding="utf-8")
        finished.widget.cleanup()
        assert not path.exists()

    @pytest.mark.parametrize("suffix", [".html", ".json"])
    def test_report_can_be_saved(self, finished, tmp_path, suffix) -> None:
        host.answers["save as"] = str(tmp_path / "mine")
        action = {".html": 0, ".json": 1}[suffix]
        finished.ui.reportButton.content.menu().actions()[action].trigger()
        text = (tmp_path / f"mine{suffix}").read_text(encoding="utf-8")
        if suffix == ".json":
            assert json.loads(text) == json.loads(segmentations()[0].GetAttribute(REPORT_ATTRIBUTE))
        else:
            assert text.lstrip().lower().startswith("<!doctype html")

    @pytest.mark.parametrize("answer", [False, True])
    def test_a_report_that_the_dialog_did_not_ask_about_is_replaced_only_after_asking(
        self, finished, tmp_path, monkeypatch, answer
    ) -> None:
        asked = []
        monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda text, **_: asked.append(text) or answer)
        (tmp_path / "case 1.2.html").write_text("older", encoding="utf-8")
        host.answers["save as"] = str(tmp_path / "case 1.2")
        finished.ui.reportButton.content.menu().actions()[0].trigger()
        assert asked == [f"{tmp_path / 'case 1.2.html'} exists. Replace it?"]
        assert ((tmp_path / "case 1.2.html").read_text(encoding="utf-8") != "older") == answer

    def test_nothing_is_written_if_the_person_changes_their_mind(self, finished, tmp_path) -> None:
        host.answers["save as"] = ""
        finished.ui.reportButton.content.menu().actions()[0].trigger()
        assert host.errors == []

    def test_a_place_that_cannot_be_written_to_is_said(self, finished, tmp_path) -> None:
        host.answers["save as"] = str(tmp_path / "nowhere" / "report.html")
        finished.ui.reportButton.content.menu().actions()[0].trigger()
        assert "Choose another folder" in host.errors[0]
        assert finished.said("messageLabel") == host.errors[0]
