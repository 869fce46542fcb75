"""Masks as segments of one segmentation node, and that node as a .seg.nrrd file.

A region that is not reliable is marked wherever it goes: by its name, a paler colour and a tag. The identifiers of the
segments stay as they are, WT, TC and ET, so that scripts need not look at names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk

from ..engine.geometry import Grid, bounding_box
from ..engine.reliability import NOT_RELIABLE
from .attributes import RELIABILITY_TAG
from .terminology import APPEARANCES, Appearance
from .volumes import RAS_TO_LPS, named_scalars

ALGORITHM = "MSTKDSegmenter"
"""Name of the algorithm in DICOM SEG where none is given."""

ALGORITHM_TYPE_TAG = "DICOM.SegmentAlgorithmType"


def add_segmentation(
    scene: Any,
    masks: Mapping[str, np.ndarray],
    grid: Grid,
    name: str,
    reference: Any = None,
    algorithm: str = ALGORITHM,
    grades: Mapping[str, str] | None = None,
    transform: str | None = None,
) -> Any:
    """A new segmentation node (vtkMRMLSegmentationNode) with one segment per mask, which may overlap.

    Args:
        scene: a vtkMRMLScene.
        masks: region (WT, TC, ET) or class (NCR, ED, ET) -> bool (z, y, x) on ``grid``. An empty one becomes an empty
            segment.
        grid: where the voxels lie under ``transform``; without one, in the world.
        name: of the node.
        reference: the volume node the masks belong to: remembered as the source of the geometry.
        algorithm: goes into DICOM SEG, which wants a name for every automatic segment.
        grades: what can be expected of each, as far as it was measured, see ``engine.reliability``.
        transform: ID of the transform node to put it under, see ``volumes.place_on``.

    Raises:
        ValueError: a mask does not have the shape of ``grid``.
    """
    for region, mask in masks.items():
        if mask.shape != grid.shape:
            raise ValueError(f"The mask of {region} has shape {mask.shape}, the grid {grid.shape}; they must be equal.")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetAndObserveTransformNodeID(transform)
    segmentation = node.GetSegmentation()
    for region in sorted(masks, key=list(APPEARANCES).index):
        labelmap = _oriented_image(masks[region], grid)
        grade = (grades or {}).get(region)
        appearance = APPEARANCES[region].paler if grade == NOT_RELIABLE else APPEARANCES[region]
        node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, segment_name(region, grade), appearance.rgb, region)
        _describe(segmentation.GetSegment(region), appearance, algorithm, grade)
        node.GetDisplayNode().SetSegmentOpacity2DFill(region, appearance.fill)
        node.GetDisplayNode().SetSegmentOpacity3D(region, appearance.surface)
    if reference is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
    # always from the grid: a sheared reference was resampled, and then its own geometry is not that of the masks
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), _serialised(grid)
    )
    return node


def segment_name(region: str, grade: str | None) -> str:
    """What a segment is called: its region, with a warning if that is not reliable."""
    return f"{region} ({NOT_RELIABLE})" if grade == NOT_RELIABLE else region


def attribution(report: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments ``algorithm`` and ``grades`` of the functions here, for a result with this report."""
    model = report["model"]
    return {
        "algorithm": f"{ALGORITHM} {model['name']} {model['version']}",
        "grades": {region: expected["grade"] for region, expected in report["expected"].items()},
    }


def mark_when_edited(node: Any) -> None:
    """Let DICOM SEG say, as soon as the segments are changed, that a person may have had a hand in them."""

    def mark(segmentation: Any, event: str) -> None:
        for index in range(segmentation.GetNumberOfSegments()):
            segmentation.GetNthSegment(index).SetTag(ALGORITHM_TYPE_TAG, "SEMIAUTOMATIC")

    segmentation = node.GetSegmentation()
    segmentation.AddObserver(slicer.vtkSegmentation.SourceRepresentationModified, mark)


def write_segmentation(
    path: str | Path,
    masks: Mapping[str, np.ndarray],
    grid: Grid,
    algorithm: str = ALGORITHM,
    grades: Mapping[str, str] | None = None,
) -> None:
    """Write the regions as .seg.nrrd, which Slicer opens with all segments, through a scene of their own.

    Raises:
        OSError: the file could not be written.
        ValueError: see ``add_segmentation``.
    """
    path = Path(path)
    scene = slicer.vtkMRMLScene()
    node = add_segmentation(scene, masks, grid, path.name.split(".")[0], None, algorithm, grades)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise OSError(f"The segmentation could not be written to {path}: check the space and the rights there.")


def _oriented_image(mask: np.ndarray, grid: Grid) -> Any:
    """The part of the mask that is not empty, as MRML keeps a segment: in place by its extent, not by its origin."""
    box = bounding_box(mask)
    part = np.ascontiguousarray(mask[box], dtype=np.uint8)
    image = slicer.vtkOrientedImageData()
    image.SetExtent([bound for axis in reversed(box) for bound in (axis.start, axis.stop - 1)])
    image.SetSpacing(grid.spacing)
    image.SetOrigin(RAS_TO_LPS @ grid.origin)
    image.SetDirections((RAS_TO_LPS @ grid.axes).tolist())
    image.GetPointData().SetScalars(named_scalars(part))
    return image


def _describe(segment: Any, appearance: Appearance, algorithm: str, grade: str | None) -> None:
    # the tag is the terminology for every version of Slicer, SetTerminology came with 5.10
    segment.SetTag(segment.GetTerminologyEntryTagName(), appearance.terminology)
    segment.NameAutoGeneratedOff()
    segment.ColorAutoGeneratedOff()
    segment.SetTag(ALGORITHM_TYPE_TAG, "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", algorithm)
    if grade is not None:
        segment.SetTag(RELIABILITY_TAG, grade)


def _serialised(grid: Grid) -> str:
    matrix = np.eye(4)
    matrix[:3, :3] = RAS_TO_LPS @ grid.axes * grid.spacing
    matrix[:3, 3] = RAS_TO_LPS @ grid.origin
    extent = [bound for length in grid.size for bound in (0, length - 1)]
    return slicer.vtkSegmentationConverter.SerializeImageGeometry(_vtk_matrix(matrix), extent)


def _vtk_matrix(values: np.ndarray) -> Any:
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(values.ravel())
    return matrix
