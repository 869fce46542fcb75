"""The studies offered in Slicer's Sample Data, registered with a stand-in that has its signatures of 5.10 and 5.12."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import host
import pytest
import slicer
from PIL import Image

host.start()
from MSTKDSegmenterLib.engine.names import recognise_name  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib.engine.sequences import SEQUENCES  # noqa: E402
from MSTKDSegmenterLib.panel import sample_data  # noqa: E402


class SampleDataLogic510:
    """Of Slicer 5.10: as documented, all lists of a study are equally long."""

    registered: list[dict]
    categories: list[tuple[str, str]]

    @classmethod
    def registerCustomSampleDataSource(  # noqa: N802
        cls,
        category="Custom",
        sampleName=None,  # noqa: N803
        uris=None,
        fileNames=None,  # noqa: N803
        nodeNames=None,  # noqa: N803
        customDownloader=None,  # noqa: N803
        thumbnailFileName=None,  # noqa: N803
        loadFileType="VolumeFile",  # noqa: N803
        loadFiles=None,  # noqa: N803
        loadFileProperties=None,  # noqa: N803
        checksums=None,
    ) -> None:
        assert len(uris) == len(fileNames) == len(nodeNames) == len(checksums)
        cls.registered.append(
            {
                "category": category,
                "name": sampleName,
                "uris": uris,
                "files": fileNames,
                "nodes": nodeNames,
                "checksums": checksums,
                "thumbnail": thumbnailFileName,
            }
        )


class SampleDataLogic512(SampleDataLogic510):
    @classmethod
    def registerCustomSampleDataCategory(cls, category, title=None) -> None:  # noqa: N802
        cls.categories.append((category, title))


@pytest.fixture(params=[SampleDataLogic510, SampleDataLogic512], ids=["Slicer 5.10", "Slicer 5.12"])
def logic(request, monkeypatch) -> type[SampleDataLogic510]:
    """Sample Data of that version, after registering."""
    module = ModuleType("SampleData")
    module.SampleDataLogic = request.param
    request.param.registered, request.param.categories = [], []
    monkeypatch.setitem(sys.modules, "SampleData", module)
    monkeypatch.setattr(slicer, "modules", SimpleNamespace(sampledata=object()))
    sample_data.register()
    return request.param


def test_there_is_a_study_with_four_sequences_and_one_with_a_single_one(logic) -> None:
    assert {one["name"]: len(one["uris"]) for one in logic.registered} == {
        "GliomaFourSequences": 4,
        "GliomaOnlyFLAIR": 1,
    }


def test_the_panel_recognises_every_volume_by_its_name(logic) -> None:
    four, single = ([recognise_name(name).sequence for name in one["nodes"]] for one in logic.registered)
    assert four == list(SEQUENCES)
    assert single == ["FLAIR"]


def test_each_file_comes_from_its_own_address_and_is_checked(logic) -> None:
    beginnings = {"t1c": "4399faad", "t1n": "e860924b", "t2f": "82aed854", "t2w": "4cd389cc"}
    for one in logic.registered:
        for address, file, node, checksum in zip(one["uris"], one["files"], one["nodes"], one["checksums"]):
            assert address.startswith("https://")
            assert address.endswith("/" + file)
            assert file == node + ".nii.gz"
            assert re.fullmatch(r"SHA256:[0-9a-f]{64}", checksum)
            assert checksum.startswith("SHA256:" + beginnings[node.rpartition("-")[2]])


def test_each_has_a_picture_of_the_size_that_slicer_shows(logic) -> None:
    for one in logic.registered:
        assert Image.open(Path(one["thumbnail"])).size == (260, 280)


def test_the_category_has_a_title_where_slicer_can_show_one(logic) -> None:
    titles = [("MSTKDSegmenter", "MSTKD Segmenter")] if logic is SampleDataLogic512 else []
    assert logic.categories == titles
    assert {one["category"] for one in logic.registered} == {"MSTKDSegmenter"}


def test_a_slicer_without_sample_data_starts_without_it(monkeypatch) -> None:
    monkeypatch.setattr(slicer, "modules", SimpleNamespace())
    sample_data.register()
