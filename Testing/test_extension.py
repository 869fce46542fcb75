"""What the extension index asks for, as its own checks do: catalogue entry, metadata in CMake, licence, pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[1]
ENTRY = REPOSITORY / "Resources" / "MSTKDSegmenter.json"
CMAKE = (REPOSITORY / "CMakeLists.txt").read_text(encoding="utf-8")
TYPES = {
    "$schema": str,
    "category": str,
    "scm_url": str,
    "scm_revision": str,
    "scm_type": str,
    "build_dependencies": list,
    "dicom_support_rule": str,
    "build_subdirectory": str,
    "enabled": bool,
    "tier": int,
}
"""Properties of a catalogue entry, schema 1.0.2. The first three are required, no others are allowed."""


def metadata(name: str) -> str:
    """As the index reads it: on one line, in quotation marks."""
    (found,) = re.findall(rf'^set\(EXTENSION_{name} "([^"\n]+)"\)$', CMAKE, re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def entry() -> dict:
    return json.loads(ENTRY.read_text(encoding="utf-8"))


def test_the_catalogue_entry_has_the_properties_of_its_schema(entry) -> None:
    assert entry["$schema"].endswith("slicer-extension-catalog-entry-schema-v1.0.2.json#")
    assert list(TYPES)[:3] == [name for name in TYPES if name in entry][:3]
    assert set(entry) <= set(TYPES)
    assert all(type(value) is TYPES[name] for name, value in entry.items())
    assert entry["tier"] in range(1, 6)


def test_the_catalogue_entry_is_named_like_the_project_and_has_unix_line_ends() -> None:
    (project,) = re.findall(r"^project\((\w+)\)$", CMAKE, re.MULTILINE)
    assert project == ENTRY.stem
    assert not project.startswith("Slicer")
    assert b"\r" not in ENTRY.read_bytes()


def test_the_catalogue_entry_agrees_with_the_metadata_in_cmake(entry) -> None:
    assert entry["scm_url"] == metadata("HOMEPAGE")
    assert entry["build_dependencies"] == metadata("DEPENDS").split()
    assert re.fullmatch(r"https://github\.com/\w+/Slicer\w+", entry["scm_url"])


@pytest.mark.parametrize("name", ["ICONURL", "SCREENSHOTURLS"])
def test_every_picture_that_is_linked_is_in_the_repository(name, entry) -> None:
    base = entry["scm_url"].replace("github.com", "raw.githubusercontent.com") + "/main/"
    for address in metadata(name).split():
        assert address.startswith(base)
        Image.open(REPOSITORY / address[len(base) :]).verify()


def test_the_icon_has_the_size_that_the_extensions_manager_shows() -> None:
    assert Image.open(REPOSITORY / "Resources" / "MSTKDSegmenter.png").size == (128, 128)


def test_the_licence_is_where_it_is_looked_for() -> None:
    assert "Apache License" in (REPOSITORY / "LICENSE.txt").read_text(encoding="utf-8")[:200]


def test_slicer_runs_the_tests_of_the_module_without_a_main_window() -> None:
    text = " ".join((REPOSITORY / "Testing" / "CMakeLists.txt").read_text(encoding="utf-8").split())
    (call,) = re.findall(r"slicer_add_python_unittest\(([^)]*)\)", text)
    script = re.search(r"SCRIPT \$\{MSTKDSegmenter_SOURCE_DIR\}/(\S+)", call).group(1)
    assert (REPOSITORY / script).is_file()
    assert "SLICER_ARGS --no-main-window" in call
    assert "add_subdirectory(Testing)" in CMAKE
    assert "WITH_GENERIC_TESTS" in (REPOSITORY / "MSTKDSegmenter" / "CMakeLists.txt").read_text(encoding="utf-8")
