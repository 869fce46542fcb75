"""The Slicer module in a stand-in for the application: logic with real child processes, panel, file lists."""

from __future__ import annotations

import ast
import re
import sys
import time
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import host
import pytest
import slicer
from MSTKDSegmenterLib import child
from stand_in import HEEDS, IN_ONE_CALL, MODULE_FOLDER, write_worker

host.start()
import MSTKDSegmenter as module  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib.parameters import MSTKDSegmenterParameterNode  # noqa: E402

REPOSITORY = MODULE_FOLDER.parent


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()
    host.errors.clear()


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
def widget():
    widget = module.MSTKDSegmenterWidget(host.panel_parent())
    widget.setup()
    yield widget
    widget.cleanup()


class TestPanel:
    def test_apply_waits_for_a_sequence(self, widget, flair) -> None:
        assert not widget.ui.applyButton.enabled
        assert widget.ui.applyButton.toolTip == "Choose at least one sequence"
        widget.ui.selectorT2.setCurrentNode(flair)
        assert widget.ui.applyButton.enabled
        assert widget.ui.applyButton.toolTip == "Segment from T2"
        widget.ui.selectorT2.setCurrentNode(None)
        assert not widget.ui.applyButton.enabled

    def test_a_run_shows_progress_and_ends_with_a_segmentation(self, widget, flair, stand_in) -> None:
        stand_in("job.report('device', 0.3, 'CPU: asked for')\ntime.sleep(0.5)")
        widget.ui.selectorFLAIR.setCurrentNode(flair)
        widget.ui.deviceSelector.setCurrentText("cpu")
        widget.ui.applyButton.click()
        assert not widget.ui.applyButton.enabled
        assert widget.ui.cancelButton.enabled
        until(lambda: widget.ui.progressBar.value == 30)
        assert widget.ui.deviceLabel.text == "CPU: asked for"
        until(lambda: not widget.ui.cancelButton.enabled)
        assert widget.ui.applyButton.enabled
        assert widget.ui.statusLabel.text == "FLAIR: WT 1.0 ml, TC 0.5 ml, ET 0.2 ml\nLook here."
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
        assert widget.logic.report["device"]["name"] == "cpu"
        assert host.errors == []

    def test_cancel_ends_the_run_without_a_result_or_an_error_dialog(self, widget, flair, stand_in) -> None:
        stand_in(IN_ONE_CALL)
        widget.ui.selectorFLAIR.setCurrentNode(flair)
        widget.ui.applyButton.click()
        until(lambda: widget.ui.progressBar.value == 25)
        widget.ui.cancelButton.click()
        until(lambda: widget.ui.applyButton.enabled)
        assert "nothing was written" in widget.ui.statusLabel.text
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
        assert host.errors == []

    def test_an_error_is_shown_and_the_panel_is_ready_again(self, widget, flair, stand_in) -> None:
        stand_in("raise UnusableInput('No brain was found. Choose another volume.')")
        widget.ui.selectorFLAIR.setCurrentNode(flair)
        widget.ui.applyButton.click()
        until(lambda: widget.ui.applyButton.enabled)
        assert host.errors == ["No brain was found. Choose another volume."]
        assert widget.ui.statusLabel.text == host.errors[0]

    def test_the_result_is_kept_if_the_volume_was_removed_meanwhile(self, widget, flair, stand_in) -> None:
        stand_in("time.sleep(0.3)")
        widget.ui.selectorFLAIR.setCurrentNode(flair)
        widget.ui.applyButton.click()
        slicer.mrmlScene.RemoveNode(flair)
        until(lambda: not widget.ui.cancelButton.enabled)
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
        assert host.errors == []

    def test_closing_the_scene_ends_the_run(self, widget, flair, stand_in) -> None:
        stand_in(HEEDS)
        widget.ui.selectorFLAIR.setCurrentNode(flair)
        widget.ui.applyButton.click()
        process = widget._run.child
        slicer.mrmlScene.Clear()
        assert not process.running()
        assert not widget.ui.cancelButton.enabled

    def test_leaving_and_coming_back_keeps_the_choice_and_the_run(self, widget, flair, stand_in) -> None:
        stand_in("time.sleep(0.3)")
        widget.ui.selectorFLAIR.setCurrentNode(flair)
        widget.ui.applyButton.click()
        widget.exit()
        widget.enter()
        assert widget.ui.selectorFLAIR.currentNode() == flair
        until(lambda: widget.ui.applyButton.enabled)
        assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1

    def test_reloading_forgets_the_library_too(self, widget, monkeypatch) -> None:
        monkeypatch.setattr(sys, "modules", dict(sys.modules))
        monkeypatch.setattr(host.ScriptedLoadableModuleWidget, "onReload", lambda self: None, raising=False)
        widget.onReload()
        assert not [name for name in sys.modules if name.startswith("MSTKDSegmenterLib")]


def until(happened, seconds: float = 20.0) -> None:
    """Let the application run until something has happened."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, "it did not happen"
        host.process_events()


class TestModule:
    def test_slicer_gets_what_it_lists(self) -> None:
        parent = module.MSTKDSegmenter(SimpleNamespace()).parent
        assert parent.categories == ["Segmentation"]
        assert parent.contributors
        assert parent.helpText
        assert parent.acknowledgementText

    def test_terminology_is_loaded_once_the_application_is_up(self) -> None:
        module.MSTKDSegmenter(SimpleNamespace())
        signal, slot = host.started[-1]
        slot()
        logic = slicer.modules.terminologies.logic()
        assert signal == "startupCompleted()"
        assert logic.IsTerminologyContextLoaded("Brain tumour regions - MSTKDSegmenter")

    def test_its_own_tests_pass_with_the_model_that_ships(self) -> None:
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(module.MSTKDSegmenterTest).run(result)
        assert result.testsRun == 2
        assert [text for _, text in result.failures + result.errors] == []
        assert result.skipped == []


class TestNames:
    """Against the names that a real Slicer 5.12 answers to."""

    TREE = ast.parse((MODULE_FOLDER / "MSTKDSegmenter.py").read_text(encoding="utf-8"))

    def test_everything_imported_from_slicer_is_there(self) -> None:
        imported = {
            (node.module, alias.name)
            for node in ast.walk(self.TREE)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("slicer.")
            for alias in node.names
        }
        assert imported
        assert [f"{source}.{name}" for source, name in sorted(imported) if name not in host.NAMES[source]] == []

    @pytest.mark.parametrize("source", ["slicer.util", "slicer.app", "slicer.modules"])
    def test_everything_used_of_it_is_there(self, source) -> None:
        used = {
            node.attr for node in ast.walk(self.TREE) if isinstance(node, ast.Attribute) and text(node.value) == source
        }
        assert used
        assert sorted(used - set(host.NAMES[source])) == []

    def test_every_property_in_the_ui_file_is_one_of_its_widget(self) -> None:
        for widget in self.ui().iter("widget"):
            names = set(host.NAMES["QWidget"]) | set(host.NAMES[widget.get("class")])
            given = {one.get("name") for one in widget.findall("property") if one.get("stdset") != "0"}
            assert sorted(given - names) == []

    def test_every_parameter_in_the_ui_file_is_one_of_the_parameter_node(self) -> None:
        named = [
            one.find("string").text for one in self.ui().iter("property") if one.get("name") == "SlicerParameterName"
        ]
        assert sorted(named) == sorted(MSTKDSegmenterParameterNode.__annotations__)

    def ui(self) -> ElementTree.Element:
        return ElementTree.parse(MODULE_FOLDER / "Resources" / "UI" / "MSTKDSegmenter.ui").getroot()


def text(node: ast.expr) -> str:
    return ast.unparse(node)


class TestPackaging:
    """What is not in CMake's lists is not in the extension that people install."""

    CMAKE = (MODULE_FOLDER / "CMakeLists.txt").read_text(encoding="utf-8")

    def listed(self, name: str) -> list[str]:
        content = re.search(rf"set\({name}\n(.*?)\)", self.CMAKE, re.DOTALL).group(1)
        return [
            line.strip().replace("${MODULE_NAME}", "MSTKDSegmenter") for line in content.splitlines() if line.strip()
        ]

    def test_every_script_is_listed(self) -> None:
        there = [MODULE_FOLDER / "MSTKDSegmenter.py", *(MODULE_FOLDER / "MSTKDSegmenterLib").rglob("*.py")]
        assert self.listed("MODULE_PYTHON_SCRIPTS") == names_of(there)

    def test_every_resource_is_listed(self) -> None:
        there = [path for path in (MODULE_FOLDER / "Resources").rglob("*") if path.is_file()]
        assert self.listed("MODULE_PYTHON_RESOURCES") == names_of(there)

    def test_the_extension_is_described_as_the_index_wants_it(self) -> None:
        cmake = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
        assert "project(MSTKDSegmenter)" in cmake
        for name in ("ICONURL", "SCREENSHOTURLS", "HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "DEPENDS"):
            assert re.search(rf'^set\(EXTENSION_{name} "[^"\n]+"\)$', cmake, re.MULTILINE), name
        assert (REPOSITORY / "LICENSE.txt").is_file()


def names_of(paths: list[Path]) -> list[str]:
    return sorted(str(path.relative_to(MODULE_FOLDER)) for path in paths)
