"""The report as a page: everything is on it, nothing on it is loaded or run, and what is said fits the run."""

from __future__ import annotations

import copy
from html.parser import HTMLParser
from typing import Any

import pytest
from MSTKDSegmenterLib.engine.methods_text import listed, methods_text
from MSTKDSegmenterLib.engine.report_page import page

GRID = {"size": [208, 256, 26], "spacing": [0.8984375, 0.8984375, 5.5], "origin": [0, 0, 0], "direction": [1] * 9}
MOVED = {
    "registered": True, "rotation_deg": 13.84, "translation_mm": 14.31, "similarity_before": 1.0,
    "similarity_after": 1.1, "sharpness": 3.62, "coverage": 0.9,
    "judgement": "moved by 18.7 mm (root mean square over the brain)",
}  # fmt: skip
REPORT = {
    "format": 1,
    "created": "2026-02-03T04:05:06+00:00",
    "subset": "FLAIR+T2",
    "inputs": {
        "FLAIR": {"source": "/data/patient 7/dark fluid.nii.gz", "recognised_by": "named 'flair'", "grid": GRID},
        "T2": {"source": "5: T2/axial", "recognised_by": "DICOM header: long echo", "grid": GRID},
    },
    "harmonising": {
        "reference": "T2",
        "reference_reason": "It has the thinnest slices (5.5 mm).",
        "skull_stripped": {"FLAIR": False, "T2": False},
        "registration": {"FLAIR": MOVED},
        "share_of_brain_covered": {"FLAIR": 0.9, "T2": 1.0},
        "working_grid": {"size": [80, 96, 80], "spacing": [2.0, 2.0, 2.0], "origin": [0, 0, 0], "direction": [1] * 9},
        "brain_ml": 1543.3,
    },
    "model": {
        "name": "student", "version": "1.2", "sha256": "ab12" * 16, "licence": "Research use only.",
        "citation": ["A. Author, First title, 2025", "B. Author, Second title, 2015"], "measured_on": 3,
        "thresholds": {"WT": 0.45, "TC": 0.5, "ET": 0.5}, "temperature": 1.4, "mirror": True,
    },
    "device": {"name": "cpu", "reason": "CPU: no CUDA device found"},
    "box": [80, 96, 80],
    "tile": [80, 96, 80],
    "expected": {
        "WT": {"dice": 0.884, "grade": "good"},
        "TC": {"dice": 0.612, "grade": "fair"},
        "ET": {"dice": 0.349, "grade": "not reliable"},
    },
    "unsupported": ["ET"],
    "volumes_ml": {"WT": 87.614, "TC": 32.111, "ET": 30.5},
    "findings": ["ET is not reliable from FLAIR+T2.", "The tumour reaches the border."],
    "seconds": {"total": 12.34},
    "software": {"MSTKDSegmenter": "0.1.0", "python": "3.12.1", "torch": "2.5.0", "SimpleITK": "2.5.3", "numpy": "2.0"},
    "intended_use": "Research on adult glioma. Not a medical device.",
}  # fmt: skip


class Reader(HTMLParser):
    """What a browser would see: the tags with their attributes, the text by tag, the rows of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.rows: list[list[str]] = []
        self._in: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag != "meta":
            self._in.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._in.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self._in:
            return
        self.texts.append(data)
        if {"td", "th"} & set(self._in):
            self.rows[-1][-1] += f" {data}" if self.rows[-1][-1] else data

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def changed(path: str, value: Any) -> dict:
    """The report with one entry replaced, named by its keys with dots between."""
    report = copy.deepcopy(REPORT)
    *outer, last = path.split(".")
    inner = report
    for key in outer:
        inner = inner[key]
    inner[last] = value
    return report


def poisoned(content: Any) -> Any:
    """The same with markup added to every text that a person or a file may have written."""
    if isinstance(content, dict):
        fixed = ("harmonising", "expected", "registration", "skull_stripped")
        return {key: value if key in fixed else poisoned(value) for key, value in content.items()}
    if isinstance(content, list):
        return [poisoned(one) for one in content]
    return f"{content}<script src='http://x'>alert(1)</script>\"&amp;" if isinstance(content, str) else content


class TestContent:
    @pytest.mark.parametrize(
        "text",
        [
            "2026-02-03 04:05:06 UTC",
            "dark fluid.nii.gz",
            "in /data/patient 7",
            "named 'flair'",
            "5: T2/axial",
            "DICOM header: long echo",
            "208 × 256 × 26",
            "0.8984 × 0.8984 × 5.5 mm",
            "moved by 18.7 mm (root mean square over the brain)",
            "turned 13.8°, shifted 14.3 mm",
            "shows 90% of the brain",
            "student 1.2",
            "ab12" * 16,
            "CPU: no CUDA device found",
            "Research use only.",
            "ET is not reliable from FLAIR+T2.",
            "The tumour reaches the border.",
            "For research only. Intended use: Research on adult glioma. Not a medical device.",
            "A. Author, First title, 2025",
            "B. Author, Second title, 2015",
            "MSTKDSegmenter 0.1.0, python 3.12.1, torch 2.5.0, SimpleITK 2.5.3, numpy 2.0",
            "12.3 s",
        ],
    )
    def test_it_is_on_the_page(self, text) -> None:
        assert text in Reader(page(REPORT)).text

    def test_the_table_of_volumes_gives_quality_and_grade_in_words(self) -> None:
        rows = Reader(page(REPORT)).rows
        assert ["WT", "whole tumour", "87.61 ml", "0.88", "● good"] in rows
        assert ["TC", "tumour core", "32.11 ml", "0.61", "◐ fair"] in rows
        assert ["ET", "enhancing tumour", "30.50 ml", "0.35", "○ not reliable"] in rows

    def test_a_sequence_that_was_not_there_is_named_as_such(self) -> None:
        rows = Reader(page(REPORT)).rows
        assert ["T1", "not given"] in rows
        assert ["T1ce", "not given"] in rows

    def test_what_was_not_measured_is_not_graded(self) -> None:
        reader = Reader(page(changed("expected", {})))
        assert ["WT", "whole tumour", "87.61 ml", "–", "not measured"] in reader.rows
        assert "Dice is the agreement" not in reader.text

    def test_no_finding_is_no_proof(self) -> None:
        assert "That is no proof that the result is right." in Reader(page(changed("findings", []))).text

    def test_the_methods_paragraph_is_on_it_in_one_piece(self) -> None:
        assert methods_text(REPORT) in Reader(page(REPORT)).texts


class TestSafety:
    def test_what_stands_in_the_report_is_text_and_never_markup(self) -> None:
        usual, reader = Reader(page(REPORT)), Reader(page(poisoned(REPORT)))
        assert "script" not in reader.tags
        assert set(reader.tags) == set(usual.tags)
        assert "5: T2/axial<script src='http://x'>alert(1)</script>\"&amp;" in reader.text

    def test_nothing_is_loaded_from_anywhere(self) -> None:
        html = page(REPORT)
        reader = Reader(html)
        assert not {"script", "img", "link", "iframe", "object", "form"} & set(reader.tags)
        assert [
            name for _, name, _ in reader.attributes if name in ("src", "href", "style") or name.startswith("on")
        ] == []
        assert "url(" not in html
        assert "@import" not in html
        assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes

    def test_the_page_says_how_its_letters_are_written(self) -> None:
        assert page(changed("findings", ["Größe 中"])).encode("utf-8").decode("utf-8").count("Größe 中") == 1
        assert ("meta", "charset", "utf-8") in Reader(page(REPORT)).attributes

    def test_the_report_stays_as_it_was(self) -> None:
        before = copy.deepcopy(REPORT)
        page(REPORT)
        assert before == REPORT


class TestMethods:
    def test_it_says_what_was_registered_and_what_was_not_moved(self) -> None:
        assert "FLAIR was registered rigidly to T2 by Mattes mutual information." in methods_text(REPORT)
        found = {"FLAIR": MOVED, "T1": {"registered": False, "judgement": "aligned already"}}
        text = methods_text(changed("harmonising.registration", found))
        assert "FLAIR was registered rigidly to T2 by Mattes mutual information; T1 was aligned already." in text

    def test_it_says_nothing_of_registration_where_there_was_none(self) -> None:
        aligned = {"FLAIR": {"registered": False, "judgement": "aligned already"}}
        text = methods_text(changed("harmonising.registration", aligned))
        assert "FLAIR was aligned with T2 already and was not moved." in text
        assert "registered" not in text
        assert "aligned" not in methods_text(changed("harmonising.registration", {}))

    def test_it_tells_a_brain_that_was_found_from_one_that_was_given(self) -> None:
        assert "The brain was found automatically" in methods_text(REPORT)
        stripped = changed("harmonising.skull_stripped", {"FLAIR": True, "T2": True})
        assert "The images were skull-stripped beforehand" in methods_text(stripped)
        one = changed("harmonising.skull_stripped", {"T2": True})
        assert "The image was skull-stripped beforehand" in methods_text(one)

    def test_it_gives_the_measured_quality_or_says_that_there_is_none(self) -> None:
        assert (
            "On 3 studies kept out of training when measured, this model reached a mean Dice of 0.88 for whole tumour, "
            "0.61 for tumour core and 0.35 for enhancing tumour from the same sequences." in methods_text(REPORT)
        )
        assert "from FLAIR+T2 has not been measured" in methods_text(changed("expected", {}))

    def test_it_says_how_probabilities_became_masks(self) -> None:
        text = methods_text(REPORT)
        assert "were averaged over the image and its mirror image and interpolated linearly" in text
        assert "thresholded as nested regions at 0.45 (WT), 0.50 (TC) and 0.50 (ET)." in text
        assert "mirror" not in methods_text(changed("model.mirror", False))
        assert "enhancing tumour in the box around the brain, which" in text
        assert "around the brain in overlapping parts of 72 × 80 × 64 voxels, which" in methods_text(
            changed("tile", [64, 80, 72])
        )
        older = copy.deepcopy(REPORT)
        for key in ("thresholds", "temperature", "mirror"):
            del older["model"][key]
        del older["box"]
        assert "enhancing tumour, which" in methods_text(older)
        assert "thresholded as nested regions." in methods_text(older)
        assert "Thresholds" not in page(older)
        assert "calibrated probabilities" not in page(REPORT)
        newer = page(changed("model.thresholds_calibrated", {"WT": 0.237, "TC": 0.219, "ET": 0.162}))
        assert "These in calibrated probabilities" in newer
        assert "WT 0.24, TC 0.22, ET 0.16" in newer

    def test_it_names_model_grid_and_software(self) -> None:
        text = methods_text(REPORT)
        assert "model student 1.2, SHA-256 ab12ab12ab12…) [1–2]" in text
        assert "native grid of T2 (208 × 256 × 26 voxels of 0.8984 × 0.8984 × 5.5 mm)" in text
        assert "PyTorch 2.5.0, SimpleITK 2.5.3 and Python 3.12.1" in text

    @pytest.mark.parametrize(
        ("given", "text"), [(["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
    )
    def test_an_enumeration_reads_as_one(self, given, text) -> None:
        assert listed(given) == text
