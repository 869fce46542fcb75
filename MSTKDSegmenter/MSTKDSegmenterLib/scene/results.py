"""The nodes that a finished segmentation leaves in the scene: segments, probabilities, a table of volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import vtk

from ..engine.geometry import Grid
from ..engine.regions import LABELS, REGIONS
from ..engine.reliability import NOT_RELIABLE, volumes
from .attributes import OUTPUT_ATTRIBUTE, REPORT_ATTRIBUTE, TABLE_ROLE
from .segmentation import add_segmentation, attribution, mark_when_edited
from .subject_hierarchy import place_beside
from .volumes import Frame, Place, add_volume, place_on

BORDERS = {"NCR": ("TC", "ET"), "ED": ("WT", "TC"), "ET": ("ET",)}
"""Exclusive class -> the regions whose outlines bound it: a class is what one region has and the next has not."""

_LEFT_BEHIND = (
    "'{}' got another place or geometry while it was segmented: the result lies where it was before, not on it. "
    "Segment it again."
)
_FROM_BEST_TO_WORST = ("good", "fair", NOT_RELIABLE)


@dataclass(frozen=True)
class Result:
    """The new nodes of one segmentation.

    Attributes:
        segmentation: vtkMRMLSegmentationNode with the overlapping segments WT, TC and ET, and the report as attribute.
        exclusive: one with NCR, ED and ET, which do not overlap, if they were wanted.
        probabilities: region -> scalar volume node, 0 to 1, if they were wanted.
        table: vtkMRMLTableNode with a row for each segment.
        report: see ``engine.report``.
    """

    segmentation: Any
    exclusive: Any
    probabilities: dict[str, Any]
    table: Any
    report: dict[str, Any]


def add_result(
    scene: Any,
    labels: np.ndarray,
    grid: Grid,
    report: dict[str, Any],
    inputs: Mapping[str, Any],
    exclusive: bool = False,
    probabilities: Mapping[str, sitk.Image] | None = None,
    before: Frame | None = None,
) -> Result:
    """Add a result to the scene, always as new nodes, beside the inputs in the subject hierarchy.

    A result goes where its reference goes: it lies on the voxels that it was made from, under the same transform.

    Args:
        scene: a vtkMRMLScene.
        labels: uint8 (z, y, x) on ``grid``: NCR 1, ED 2, ET 3.
        grid: where the voxels lie in the world.
        report: see ``engine.report``.
        inputs: the volume nodes by sequence. Those that are no longer in the scene are passed over.
        exclusive: add a segmentation of NCR, ED and ET as well; it is hidden at first, as the other one covers it.
        probabilities: region -> image on ``grid``, to be added as volumes.
        before: where the reference's voxels lay when they were read; None: as they lie now.
    """
    there = {sequence: node for sequence, node in inputs.items() if node.GetScene() == scene}
    sequence = report["harmonising"]["reference"]
    reference = there.get(sequence)
    beside = reference or next(iter(there.values()), None)
    place = place_on(reference, grid, before)
    if place.left_behind:
        report = {**report, "findings": [_LEFT_BEHIND.format(reference.GetName()), *report["findings"]]}
    name = f"{inputs[sequence].GetName()} tumor"
    known = attribution(report)

    def add_segments(masks: Mapping[str, np.ndarray], of: str, grades: Mapping[str, str]) -> Any:
        unique = scene.GenerateUniqueName(of)
        algorithm = known["algorithm"]
        node = add_segmentation(scene, masks, place.grid, unique, reference, algorithm, grades, place.transform)
        return _ours(scene, node, beside)

    regions = {region: np.isin(labels, [LABELS[part] for part in parts]) for region, parts in REGIONS.items()}
    segmentation = add_segments(regions, name, known["grades"])
    segmentation.SetAttribute(REPORT_ATTRIBUTE, json.dumps(report))
    rows = _rows(regions, grid, known["grades"])
    parts = None
    if exclusive:
        classes = {part: labels == value for part, value in LABELS.items()}
        grades = class_grades(known["grades"])
        parts = add_segments(classes, f"{name} NCR ED ET", grades)
        parts.GetSegmentation().CollapseBinaryLabelmaps(False)  # nothing overlaps: one layer instead of three
        parts.GetDisplayNode().SetVisibility(False)
        rows += [row for row in _rows(classes, grid, grades) if row[0] not in regions]
    table = _ours(scene, _add_table(scene, rows, f"{name} volumes"), beside)
    segmentation.SetNodeReferenceID(TABLE_ROLE, table.GetID())
    for node in filter(None, (segmentation, parts)):
        mark_when_edited(node)
    return Result(
        segmentation,
        parts,
        {
            region: _ours(scene, _add_probability(scene, image, f"{name} probability {region}", place), beside)
            for region, image in (probabilities or {}).items()
        },
        table,
        report,
    )


def class_grades(grades: Mapping[str, str]) -> dict[str, str]:
    """What to expect of the exclusive classes, which were not measured: no more than of the regions that bound them."""
    return {
        part: max((grades[region] for region in bounds), key=_FROM_BEST_TO_WORST.index)
        for part, bounds in BORDERS.items()
        if set(bounds) <= set(grades)
    }


def _rows(masks: Mapping[str, np.ndarray], grid: Grid, grades: Mapping[str, str]) -> list[tuple[str, float, int, str]]:
    size = volumes(masks, grid)
    return [
        (region, size[region], int(np.count_nonzero(mask)), grades.get(region, "not measured"))
        for region, mask in masks.items()
    ]


def _add_table(scene: Any, rows: list[tuple[str, float, int, str]], name: str) -> Any:
    node = scene.AddNewNodeByClass("vtkMRMLTableNode", scene.GenerateUniqueName(name))
    kinds = (vtk.vtkStringArray, vtk.vtkDoubleArray, vtk.vtkIntArray, vtk.vtkStringArray)
    for kind, title, values in zip(kinds, ("Region", "Volume (ml)", "Voxels", "Reliability"), zip(*rows)):
        column = kind()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetLocked(True)
    return node


def _add_probability(scene: Any, image: sitk.Image, name: str, place: Place) -> Any:
    placed = place.grid.image(sitk.GetArrayViewFromImage(image))
    node = add_volume(scene, placed, scene.GenerateUniqueName(name))
    node.SetAndObserveTransformNodeID(place.transform)
    # CreateDefaultDisplayNodes would first look through all voxels for a window, which takes a while
    display = scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    display.SetDefaultColorMap()
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(0.0, 1.0)
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


def _ours(scene: Any, node: Any, beside: Any) -> Any:
    node.SetAttribute(OUTPUT_ATTRIBUTE, "1")
    if beside is not None:
        place_beside(scene, node, beside)
    return node
