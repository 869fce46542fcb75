"""The report of a run as one page of HTML, which opens without network, prints on one or two sheets and needs no file
beside it."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from .methods_text import listed, methods_text, times
from .reliability import FULL_NAME
from .report_style import STYLE
from .sequences import SEQUENCES

Element = ElementTree.Element

_MARKS = {"good": ("good", "●"), "fair": ("fair", "◐"), "not reliable": ("poor", "○")}
"""Grade -> its class in the style sheet, and a sign that needs no colour."""

_WHOLE = 0.99
"""A share of the brain that is not worth a line."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(report: Mapping[str, Any]) -> str:
    """The page as text, to be written as UTF-8.

    The page is built as a tree, so whatever stands in the report (names of volumes and files, messages) is text in it
    and never markup; the policy in its head keeps browsers from running or loading anything.

    Args:
        report: see ``report.build_report``.

    Raises:
        KeyError: it is not such a report.
    """
    root = Element("html", lang="en")
    head = _add(root, "head")
    _add(head, "meta", charset="utf-8")
    _add(head, "meta", **{"http-equiv": "Content-Security-Policy", "content": _POLICY})
    _add(head, "meta", name="viewport", content="width=device-width, initial-scale=1")
    _add(head, "title", f"Brain tumour segmentation from {report['subset']}")
    _add(head, "style", STYLE)
    body = _add(_add(root, "body"), "main")
    _heading(body, report)
    _volumes(body, report)
    _findings(body, report["findings"])
    _inputs(body, report)
    _computation(body, report)
    _words(body, report)
    return "<!DOCTYPE html>\n" + ElementTree.tostring(root, encoding="unicode", method="html") + "\n"


def _heading(body: Element, report: Mapping[str, Any]) -> None:
    header = _add(body, "header")
    _add(header, "p", "MSTKDSegmenter report", _class="eyebrow")
    _add(header, "h1", f"Brain tumour segmentation from {listed(report['inputs'])}")
    model = report["model"]
    created = report["created"].replace("T", " ").replace("+00:00", " UTC")
    _add(header, "p", f"{created} · model {model['name']} {model['version']}", _class="quiet")
    _add(body, "p", f"For research only. Intended use: {report['intended_use']}", _class="notice")


def _volumes(body: Element, report: Mapping[str, Any]) -> None:
    _add(body, "h2", "Volumes and what to expect of them")
    rows = _table(body, ("Region", "", "Volume", "Expected Dice", "Grade"), "volumes")
    for region, volume in report["volumes_ml"].items():
        expected = report["expected"].get(region)
        row = _add(rows, "tr")
        _add(row, "th", region, scope="row")
        _add(row, "td", FULL_NAME[region])
        _add(row, "td", f"{volume:.2f} ml", _class="number")
        if expected is None:
            _add(row, "td", "–", _class="number")
            _add(row, "td", "not measured")
            continue
        _add(row, "td", f"{expected['dice']:.2f}", _class="number")
        kind, mark = _MARKS[expected["grade"]]
        _add(_add(row, "td"), "span", f"{mark} {expected['grade']}", _class=f"grade {kind}")
    if report["expected"]:
        _add(
            body,
            "p",
            "Dice is the agreement with an expert's outline: 1 is full agreement, 0 none. Given is the mean over "
            f"{report['model']['measured_on']} studies kept out of training when measured, from the same sequences; it "
            "is no measure of this result.",
            _class="quiet",
        )


def _findings(body: Element, findings: list[str]) -> None:
    _add(body, "h2", "What to look at")
    if not findings:
        _add(body, "p", "The automatic checks found nothing unusual. That is no proof that the result is right.")
        return
    entries = _add(body, "ul", _class="findings")
    for finding in findings:
        _add(entries, "li", finding)


def _inputs(body: Element, report: Mapping[str, Any]) -> None:
    _add(body, "h2", "Images")
    rows = _table(body, ("Sequence", "Image, and how it was recognised", "Voxels", "Skull", "Position"), "images")
    harmonising = report["harmonising"]
    for sequence in SEQUENCES:
        given = report["inputs"].get(sequence)
        row = _add(rows, "tr", _class="absent" if given is None else "given")
        _add(row, "th", sequence, scope="row")
        if given is None:
            _add(row, "td", "not given", colspan="4")
            continue
        image = _add(row, "td")
        source = PurePath(given["source"])
        _add(image, "div", source.name if source.is_absolute() else given["source"])
        if source.is_absolute():
            _add(image, "div", f"in {source.parent}", _class="quiet")
        _add(image, "div", given["recognised_by"], _class="quiet")
        voxels = _add(row, "td")
        _add(voxels, "div", times(given["grid"]["size"]))
        _add(voxels, "div", times(given["grid"]["spacing"], "mm"), _class="quiet")
        _add(row, "td", "removed before" if harmonising["skull_stripped"][sequence] else "present")
        position = _add(row, "td")
        for number, line in enumerate(_position(sequence, harmonising)):
            _add(position, "div", line, **({"_class": "quiet"} if number else {}))
    _add(
        body,
        "p",
        f"The result lies on the grid of {harmonising['reference']}: {_lower(harmonising['reference_reason'])} "
        f"The brain region has {harmonising['brain_ml']:.0f} ml.",
        _class="quiet",
    )


def _position(sequence: str, harmonising: Mapping[str, Any]) -> list[str]:
    """How a sequence lay against the reference: what was done, then numbers."""
    found = harmonising["registration"].get(sequence, {"judgement": "reference"})
    lines = [found["judgement"]]
    if found.get("registered"):
        lines.append(f"turned {found['rotation_deg']:.1f}°, shifted {found['translation_mm']:.1f} mm")
    if "sharpness" in found:
        lines.append(f"sharpness of the agreement {found['sharpness']:.1f}")
    covered = harmonising["share_of_brain_covered"][sequence]
    return lines if covered > _WHOLE else [*lines, f"shows {covered:.0%} of the brain"]


def _computation(body: Element, report: Mapping[str, Any]) -> None:
    model, grid = report["model"], report["harmonising"]["working_grid"]
    facts = {
        "Model": f"{model['name']} {model['version']}",
        "SHA-256 of its weights": model["sha256"],
        "Licence": model["licence"],
        **_decision(model),
        "Device": report["device"]["reason"],
        "Working grid": f"{times(grid['size'])} voxels of {times(grid['spacing'], 'mm')}",
        **({"Box around the brain": f"{times(report['box'][::-1])} voxels"} if "box" in report else {}),
        "Seen at once": f"{times(report['tile'][::-1])} voxels",
        "Time": f"{report['seconds']['total']:.1f} s",
        "Software": ", ".join(f"{name} {version}" for name, version in report["software"].items()),
    }
    _add(body, "h2", "Model and computation")
    entries = _add(body, "dl")
    for name, value in facts.items():
        _add(entries, "dt", name)
        _add(entries, "dd", value)


def _decision(model: Mapping[str, Any]) -> dict[str, str]:
    """How probabilities became masks; nothing in reports that were written before this was noted."""
    if "thresholds" not in model:
        return {}
    calibrated = model.get("thresholds_calibrated", {})
    return {
        "Thresholds": _by_region(model["thresholds"]),
        **({"These in calibrated probabilities": _by_region(calibrated)} if calibrated else {}),
        "Temperature of the logits": f"{model['temperature']:g}",
        "Mirrored image": "looked at too, and averaged" if model["mirror"] else "not used",
    }


def _by_region(values: Mapping[str, float]) -> str:
    return ", ".join(f"{region} {value:.2f}" for region, value in values.items())


def _words(body: Element, report: Mapping[str, Any]) -> None:
    _add(body, "h2", "Methods paragraph, to copy")
    _add(body, "p", methods_text(report), _class="methods")
    if report["model"]["citation"]:
        _add(body, "h2", "Please cite")
        entries = _add(body, "ol")
        for citation in report["model"]["citation"]:
            _add(entries, "li", citation)


def _table(body: Element, titles: tuple[str, ...], kind: str) -> Element:
    """A table with a head; returns its body."""
    table = _add(body, "table", _class=kind)
    row = _add(_add(table, "thead"), "tr")
    for title in titles:
        _add(row, "th", title, scope="col")
    return _add(table, "tbody")


def _add(parent: Element, tag: str, text: str = "", **attributes: str) -> Element:
    """A new last child; ``_class`` stands for the attribute class."""
    child = ElementTree.SubElement(parent, tag, {name.lstrip("_"): value for name, value in attributes.items()})
    child.text = text
    return child


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
