"""The panel up to Apply: what it proposes, keeps, says and asks; the host stands in for the application."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import host
import pytest
import slicer
from panel_driver import Panel, add_volume, settle, until


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()
    host.errors.clear()


@pytest.fixture
def panel():
    panel = Panel()
    yield panel
    panel.close()


class TestProposals:
    def test_volumes_that_are_there_are_proposed_when_the_panel_opens(self) -> None:
        for name in ("case1_t1ce", "case1_flair", "case1_t2"):
            add_volume(name)
        panel = Panel()
        assert panel.chosen() == {"FLAIR": "case1_flair", "T1ce": "case1_t1ce", "T2": "case1_t2"}
        assert panel.ui.originT1ce.text == "recognised"
        assert panel.ui.originT1.text == ""
        panel.close()

    def test_a_volume_that_is_added_while_the_panel_is_open_is_proposed(self, panel) -> None:
        assert panel.chosen() == {}
        add_volume("case1_flair")
        until(lambda: panel.chosen() == {"FLAIR": "case1_flair"})

    def test_the_reason_stands_in_the_tooltip_below_what_the_sequence_is(self, panel) -> None:
        meaning = panel.tip("selectorFLAIR").partition("\n")[0]
        add_volume("case1_flair")
        until(lambda: panel.chosen() != {})
        assert panel.tip("selectorFLAIR").startswith(meaning)
        assert "flair" in panel.tip("selectorFLAIR").removeprefix(meaning)

    def test_a_volume_that_is_added_while_another_module_is_open_is_proposed_on_coming_back(self, panel) -> None:
        panel.exit()
        add_volume("case1_flair")
        settle()
        assert panel.chosen() == {}
        panel.enter()
        assert panel.chosen() == {"FLAIR": "case1_flair"}

    def test_what_is_not_used_is_counted_with_the_reasons_in_the_tooltip(self, panel) -> None:
        add_volume("case1_flair")
        add_volume("case1_dwi")
        until(lambda: panel.chosen() != {})
        assert panel.ui.unusedLabel.text == "1 other volume is not used."
        assert panel.tip("unusedLabel").startswith("case1_dwi: Not proposed")

    def test_own_results_and_label_maps_are_not_spoken_of(self, panel) -> None:
        add_volume("case1_flair probability WT").SetAttribute("MSTKDSegmenter.output", "1")
        slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "case1_t1")
        settle()
        assert panel.chosen() == {}
        assert not panel.shows("unusedLabel")


class TestOwnChoice:
    def test_it_is_kept_when_a_volume_comes_that_fits_better(self, panel) -> None:
        add_volume("something")
        panel.choose("T2", "something")
        add_volume("case1_t2")
        settle()
        assert panel.chosen() == {"T2": "something"}
        assert panel.ui.originT2.text == "your choice"

    def test_a_deliberate_missing_is_kept(self, panel) -> None:
        add_volume("case1_t2")
        until(lambda: panel.chosen() != {})
        panel.choose("T2", "missing")
        add_volume("case1_flair")
        until(lambda: panel.chosen() == {"FLAIR": "case1_flair"})
        panel.exit()
        panel.enter()
        assert panel.chosen() == {"FLAIR": "case1_flair"}
        assert panel.ui.originT2.text == "your choice"

    def test_choosing_in_the_console_counts_as_well(self, panel) -> None:
        node = add_volume("something")
        panel.widget.logic.getParameterNode().volumeT1 = node
        settle()
        assert panel.chosen() == {"T1": "something"}
        assert panel.ui.originT1.text == "your choice"

    def test_a_volume_that_was_proposed_for_another_sequence_leaves_it(self, panel) -> None:
        add_volume("case1_t1")
        until(lambda: panel.chosen() == {"T1": "case1_t1"})
        panel.choose("T1ce", "case1_t1")
        assert panel.chosen() == {"T1ce": "case1_t1"}
        assert panel.ui.applyButton.enabled

    def test_what_is_proposed_beside_it_follows_it_to_another_date(self, panel) -> None:
        for name in ("p7_2023_flair", "p7_2023_t1ce", "p7_2024_flair", "p7_2024_t1ce", "p7_2024_t2"):
            add_volume(name)
        until(lambda: panel.chosen().get("T2") == "p7_2024_t2")
        panel.choose("FLAIR", "p7_2023_flair")
        assert panel.chosen() == {"FLAIR": "p7_2023_flair", "T1ce": "p7_2023_t1ce"}

    def test_recognise_again_drops_it(self, panel) -> None:
        add_volume("case1_t2")
        until(lambda: panel.chosen() != {})
        assert not panel.shows("recogniseButton")
        panel.choose("T2", "missing")
        assert panel.shows("recogniseButton")
        panel.ui.recogniseButton.click()
        assert panel.chosen() == {"T2": "case1_t2"}
        assert not panel.shows("recogniseButton")

    def test_nothing_of_another_patient_is_proposed_beside_it(self, panel) -> None:
        mine, other = add_volume("t1_of_jane"), add_volume("case1_flair")
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
        for node, patient in ((mine, "Jane"), (other, "John")):
            item = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), patient)
            hierarchy.SetItemAttribute(item, "DICOM.PatientID", patient)
            hierarchy.SetItemParent(hierarchy.CreateItem(item, node), item)
        panel.choose("T1", "t1_of_jane")
        settle()
        assert panel.chosen() == {"T1": "t1_of_jane"}
        assert "patients with different" in panel.tip("unusedLabel")

    def test_a_volume_that_is_removed_leaves_its_selector_empty_and_not_at_the_next_volume(self, panel) -> None:
        first, _ = add_volume("something"), add_volume("something else")
        panel.choose("T1", "something else")
        panel.choose("T2", "something")
        slicer.mrmlScene.RemoveNode(first)
        assert panel.chosen() == {"T1": "something else"}
        assert panel.ui.originT2.text == ""

    def test_volumes_removed_in_a_batch_were_not_chosen_to_be_missing(self, panel) -> None:
        node = add_volume("case1_t2")
        settle()
        slicer.mrmlScene.StartState(slicer.vtkMRMLScene.BatchProcessState)
        slicer.mrmlScene.RemoveNode(node)
        slicer.mrmlScene.EndState(slicer.vtkMRMLScene.BatchProcessState)
        panel.ui.samePatientBox.checked = True
        assert panel.chosen() == {}
        add_volume("case2_t2")
        settle()
        assert panel.chosen() == {"T2": "case2_t2"}


class TestSamePatient:
    def test_it_holds_for_the_volumes_that_it_was_said_of_and_no_longer(self, panel) -> None:
        first = [add_volume(f"case1_{name}") for name in ("flair", "t1", "t2")]
        until(lambda: len(panel.chosen()) == 3)
        panel.ui.samePatientBox.checked = True
        panel.choose("T2", "missing")
        assert panel.ui.samePatientBox.checked
        panel.choose("T2", "case1_t2")
        assert panel.ui.samePatientBox.checked
        add_volume("case1_t1ce")
        until(lambda: len(panel.chosen()) == 4)
        assert not panel.ui.samePatientBox.checked
        panel.ui.samePatientBox.checked = True
        for node in first:
            slicer.mrmlScene.RemoveNode(node)
        settle()
        assert panel.ui.samePatientBox.checked
        add_volume("case2_flair")
        until(lambda: "case2_flair" in panel.chosen().values())
        assert not panel.ui.samePatientBox.checked


class TestConcerns:
    def test_an_own_result_cannot_be_applied_to_and_that_is_said(self, panel) -> None:
        add_volume("case1_flair probability WT").SetAttribute("MSTKDSegmenter.output", "1")
        panel.choose("T2", "case1_flair probability WT")
        assert "given as T2, is a label map or a result of this module" in panel.said("concernsLabel")
        assert not panel.ui.applyButton.enabled

    def test_names_as_of_two_patients_are_said(self, panel) -> None:
        add_volume("case1_flair")
        add_volume("case2_t1")
        until(lambda: len(panel.chosen()) == 2)
        assert "differ in more than the sequence" in panel.said("concernsLabel")
        assert panel.ui.applyButton.enabled

    def test_the_same_volume_twice_is_said_and_cannot_be_applied(self, panel) -> None:
        add_volume("something")
        panel.choose("T1", "something")
        panel.choose("T2", "something")
        assert panel.shows("concernsNote")
        assert "same" in panel.said("concernsLabel")
        assert not panel.ui.applyButton.enabled
        assert panel.tip("applyButton") in panel.said("concernsLabel")

    def test_it_is_no_longer_said_when_it_is_no_longer_so(self, panel) -> None:
        add_volume("something")
        panel.choose("T1", "something")
        panel.choose("T2", "something")
        panel.choose("T1", "missing")
        assert not panel.shows("concernsNote")
        assert panel.ui.applyButton.enabled

    def test_what_is_only_doubtful_is_said_and_can_be_applied(self, panel) -> None:
        add_volume("case1_t1")
        panel.choose("T2", "case1_t1")
        assert "looks like T1" in panel.said("concernsLabel")
        assert panel.ui.applyButton.enabled

    def test_they_go_when_the_volumes_are_gone(self, panel) -> None:
        node = add_volume("case1_t1")
        panel.choose("T2", "case1_t1")
        slicer.mrmlScene.RemoveNode(node)
        settle()
        assert not panel.shows("concernsNote")


class TestCard:
    def test_without_a_sequence_it_says_what_to_do(self, panel) -> None:
        assert not panel.shows("expectationTable")
        assert panel.ui.adviceLabel.text.startswith("Choose at least one sequence")

    def test_it_shows_the_measured_dice_and_a_grade_for_each_region_of_the_subset(self, panel) -> None:
        from MSTKDSegmenterLib.engine import package

        table = package.load(package.default_folder()).quality.table["FLAIR+T1"]
        add_volume("case1_flair")
        add_volume("case1_t1")
        until(lambda: len(panel.chosen()) == 2)
        assert panel.ui.expectationSection.text == "What to expect from FLAIR+T1"
        for region, dice in table.items():
            assert getattr(panel.ui, f"expectedDice{region}").text == f"{dice:.2f}"
            expected = "good" if round(dice, 2) >= 0.75 else "fair" if round(dice, 2) >= 0.5 else "not reliable"
            assert getattr(panel.ui, f"expectedGrade{region}").text == expected
            assert not getattr(panel.ui, f"expectedIcon{region}").content.pixmap().isNull()

    def test_it_names_the_absent_sequence_that_would_help_most(self, panel) -> None:
        add_volume("case1_flair")
        until(lambda: panel.chosen() != {})
        assert panel.ui.adviceLabel.text.startswith("Adding T1ce would help most: mean Dice +0.")

    def test_a_folder_that_holds_no_model_is_said_and_cannot_be_applied(self, panel, tmp_path) -> None:
        add_volume("case1_flair")
        until(lambda: panel.ui.applyButton.enabled)
        panel.ui.modelFolder.currentPath = str(tmp_path)
        assert str(tmp_path) in panel.ui.adviceLabel.text
        assert not panel.ui.applyButton.enabled
        panel.ui.modelFolder.currentPath = ""
        assert panel.ui.applyButton.enabled


class TestApply:
    def test_it_waits_for_a_sequence_and_its_tooltip_says_so(self, panel) -> None:
        assert not panel.ui.applyButton.enabled
        assert panel.tip("applyButton") == "Choose at least one sequence."
        add_volume("something")
        panel.choose("T2", "something")
        assert panel.ui.applyButton.enabled
        assert panel.tip("applyButton") == "Segment from T2"
        panel.choose("T2", "missing")
        assert not panel.ui.applyButton.enabled

    def test_long_tooltips_are_rich_text_which_alone_is_wrapped(self, panel) -> None:
        add_volume("something")
        panel.choose("T1", "something")
        panel.choose("T2", "something")
        tips = {name: one.toolTip for name, one in vars(panel.ui).items() if hasattr(one, "toolTip")}
        assert len(panel.tip("applyButton")) > 100
        assert [name for name, tip in tips.items() if len(tip) > 100 and not tip.startswith("<p")] == []

    def test_everything_that_can_be_pressed_or_chosen_has_a_tooltip(self, panel) -> None:
        kinds = ("QPushButton", "QToolButton", "QComboBox", "QCheckBox", "qMRMLNodeComboBox", "ctkPathLineEdit")
        controls = {name: one for name, one in vars(panel.ui).items() if one.kind in kinds}
        assert len(controls) > 10
        assert [name for name, one in controls.items() if not one.toolTip] == []


class TestPackages:
    def test_nothing_is_said_where_everything_is_installed(self, panel) -> None:
        assert not panel.shows("installNote")

    def test_what_is_missing_is_said_and_install_asks_for_it(self, panel, monkeypatch) -> None:
        from MSTKDSegmenterLib import dependencies
        from MSTKDSegmenterLib.panel import installing

        missing = [dependencies.Problem("torch", "torch>=2.1", "missing", "It is not installed.")]
        monkeypatch.setattr(dependencies, "problems", lambda: list(missing))
        monkeypatch.setattr(installing, "ensure", lambda: missing.clear() or True)
        panel.enter()
        assert panel.shows("installNote")
        assert "torch>=2.1" in panel.ui.installLabel.text
        panel.ui.installButton.click()
        assert not panel.shows("installNote")

    def test_a_failed_installation_is_said_with_its_reason(self, panel, monkeypatch) -> None:
        from MSTKDSegmenterLib.panel import installing

        def ensure() -> bool:
            raise RuntimeError("pip: no space left on device. Free some and try again.")

        monkeypatch.setattr(installing, "ensure", ensure)
        panel.ui.installButton.click()
        assert panel.shows("messageNote")
        assert panel.said("messageLabel") == "pip: no space left on device. Free some and try again."
        assert host.errors == [panel.said("messageLabel")]


def test_an_empty_panel_loads_no_library_that_takes_long() -> None:
    folders = [str(host.MODULE_FOLDER), str(Path(__file__).parent)]
    code = (
        f"import sys; sys.path[:0] = {folders!r}\n"
        "from panel_driver import Panel\n"
        "Panel().close()\n"
        "print([name for name in ('torch', 'SimpleITK', 'pip') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["[]"], done.stderr
