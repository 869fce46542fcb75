"""What was done in one run, as a paragraph for the methods section of a paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .reliability import FULL_NAME


def methods_text(report: Mapping[str, Any]) -> str:
    """A paragraph that says of a run what a reader needs to judge and repeat it; only what its report says.

    Args:
        report: see ``report.build_report``.
    """
    sentences = [
        _what(report),
        _alignment(report["harmonising"]),
        _preparation(report["harmonising"]),
        _prediction(report),
        _quality(report),
        _computation(report),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def listed(words: Iterable[str]) -> str:
    """The words as an enumeration: a, b and c."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def times(values: Iterable[float], unit: str = "") -> str:
    """Lengths along three axes: 240 x 240 x 155, with a multiplication sign."""
    return f"{' × '.join(f'{value:.4g}' for value in values)} {unit}".strip()


def _what(report: Mapping[str, Any]) -> str:
    model, given = report["model"], list(report["inputs"])
    cited = f" [1–{len(model['citation'])}]" if len(model["citation"]) > 1 else " [1]" if model["citation"] else ""
    images = f"{listed(given)} images" if len(given) > 1 else f"the {given[0]} image alone"
    return (
        f"Whole tumour, tumour core and enhancing tumour were segmented from {images} with MSTKDSegmenter "
        f"{report['software']['MSTKDSegmenter']} for 3D Slicer (model {model['name']} {model['version']}, SHA-256 "
        f"{model['sha256'][:12]}…){cited}, which accepts any subset of FLAIR, T1, T1ce and T2."
    )


def _alignment(harmonising: Mapping[str, Any]) -> str:
    found, reference = harmonising["registration"], harmonising["reference"]
    moved = [sequence for sequence, how in found.items() if how["registered"]]
    stayed = [sequence for sequence in found if sequence not in moved]
    if not found:
        return ""
    if not moved:
        return f"{listed(stayed)} {_were(stayed)} aligned with {reference} already and {_were(stayed)} not moved."
    text = f"{listed(moved)} {_were(moved)} registered rigidly to {reference} by Mattes mutual information"
    return f"{text}; {listed(stayed)} {_were(stayed)} aligned already." if stayed else f"{text}."


def _preparation(harmonising: Mapping[str, Any]) -> str:
    stripped = harmonising["skull_stripped"].values()
    images = "The images were" if len(stripped) > 1 else "The image was"
    brain = f"{images} skull-stripped beforehand" if all(stripped) else "The brain was found automatically"
    spacing = harmonising["working_grid"]["spacing"][0]
    return (
        f"{brain}; every sequence was resampled once to cubic voxels of {spacing:g} mm and normalised to zero mean and "
        "unit variance within the brain."
    )


def _prediction(report: Mapping[str, Any]) -> str:
    reference = report["harmonising"]["reference"]
    grid = report["inputs"][reference]["grid"]
    model = report["model"]
    looks = "averaged over the image and its mirror image and " if model.get("mirror") else ""
    # reports of before they were noted have no thresholds and no box: all of the working grid was looked at
    box = report.get("box")  # z, y, x, as the tile
    where = " in the box around the brain" if box else ""
    whole = box or report["harmonising"]["working_grid"]["size"][::-1]
    parts = f" in overlapping parts of {times(report['tile'][::-1])} voxels" if report["tile"] != whole else ""
    thresholds = model.get("thresholds", {})
    values = listed(f"{value:.2f} ({region})" for region, value in thresholds.items()) if thresholds else ""
    return (
        "A convolutional network with a transformer bottleneck of the MST-KDNet family predicted the probabilities of "
        f"necrotic or non-enhancing core, oedema and enhancing tumour{where}{parts}, which were {looks}interpolated "
        f"linearly to the native grid of {reference} ({times(grid['size'])} voxels of {times(grid['spacing'], 'mm')}) "
        f"and thresholded as nested regions{f' at {values}' if values else ''}."
    )


def _quality(report: Mapping[str, Any]) -> str:
    expected = report["expected"]
    if not expected:
        return f"The quality of this model from {report['subset']} has not been measured."
    dice = listed(f"{value['dice']:.2f} for {FULL_NAME[region]}" for region, value in expected.items())
    number = report["model"]["measured_on"]
    studies = f"{number} studies" if number > 1 else "one study"
    return (
        f"On {studies} kept out of training when measured, this model reached a mean Dice of {dice} from the same "
        "sequences."
    )


def _computation(report: Mapping[str, Any]) -> str:
    software = report["software"]
    return (
        f"Computed on {report['device']['name'].upper()} with PyTorch {software['torch']}, SimpleITK "
        f"{software['SimpleITK']} and Python {software['python']}."
    )


def _were(names: list[str]) -> str:
    return "were" if len(names) > 1 else "was"
