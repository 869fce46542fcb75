"""The Slicer module in a stand-in for the application: what it tells Slicer, names, file lists."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace

import host
import pytest
import slicer
from stand_in import MODULE_FOLDER

host.start()
import MSTKDSegmenter as module  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib.parameters import MSTKDSegmenterParameterNode  # noqa: E402

REPOSITORY = MODULE_FOLDER.parent


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()


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

    def test_the_ui_file_connects_every_parameter_that_a_widget_of_slicer_can_show(self) -> None:
        by_code = {"modelFolder", "byHandFLAIR", "byHandT1", "byHandT1ce", "byHandT2"}
        named = [
            one.find("string").text for one in self.ui().iter("property") if one.get("name") == "SlicerParameterName"
        ]
        assert sorted(named) == sorted(set(MSTKDSegmenterParameterNode.__annotations__) - by_code)

    def test_every_selector_is_told_which_scene_to_look_at(self) -> None:
        selectors = {
            widget.get("name") for widget in self.ui().iter("widget") if widget.get("class") == "qMRMLNodeComboBox"
        }
        told = {one.findtext("receiver") for one in self.ui().iter("connection")}
        assert selectors == told

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
