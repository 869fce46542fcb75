"""Region masks as segments of one segmentation node, and that node as a .seg.nrrd file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..engine.geometry import Grid
from .terminology import APPEARANCES
from .volumes import RAS_TO_LPS

ALGORITHM = "MSTKDSegmenter"
"""Name of the algorithm in DICOM SEG where none is given."""


def add_segmentation(
    scene: Any,
    masks: Mapping[str, np.ndarray],
    grid: Grid,
    name: str,
    reference: Any = None,
    algorithm: str = ALGORITHM,
) -> Any:
    """A new segmentation node (vtkMRMLSegmentationNode) with one segment per region, which may overlap.

    Args:
        scene: a vtkMRMLScene.
        masks: region (WT, TC, ET) -> bool (z, y, x) on ``grid``. An empty region becomes an empty segment.
        grid: where the voxels lie, in the world (a parent transform of the reference is in it already).
        name: of the node.
        reference: the volume node the masks belong to: remembered as the source of the geometry, and the node is
            placed beside it in the subject hierarchy, if the scene has one.
        algorithm: goes into DICOM SEG, which wants a name for every automatic segment.

    Raises:
        ValueError: a mask does not have the shape of ``grid``.
    """
    for region, mask in masks.items():
        if mask.shape != grid.shape:
            raise ValueError(f"The mask of {region} has shape {mask.shape}, the grid {grid.shape}; they must be equal.")
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    segmentation = node.GetSegmentation()
    for region in sorted(masks, key=list(APPEARANCES).index):
        labelmap = _oriented_image(masks[region], grid)
        node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, region, APPEARANCES[region].rgb, region)
        _describe(segmentation.GetSegment(region), region, algorithm)
        _draw(node.GetDisplayNode(), region)
    if reference is not None:
        node.SetReferenceImageGeometryParameterFromVolumeNode(reference)
        _place_beside(scene, node, reference)
    # always from the grid: a sheared reference was resampled, and then its own geometry is not that of the masks
    segmentation.SetConversionParameter(
        slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName(), _serialised(grid)
    )
    return node


def write_segmentation(
    path: str | Path, masks: Mapping[str, np.ndarray], grid: Grid, algorithm: str = ALGORITHM
) -> None:
    """Write the regions as .seg.nrrd, which Slicer opens with all segments, through a scene of their own.

    Raises:
        OSError: the file could not be written.
        ValueError: see ``add_segmentation``.
    """
    path = Path(path)
    scene = slicer.vtkMRMLScene()
    node = add_segmentation(scene, masks, grid, path.name.split(".")[0], algorithm=algorithm)
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    if not storage.WriteData(node):
        raise OSError(f"The segmentation could not be written to {path}: check the space and the rights there.")


def volumes_ml(node: Any) -> dict[str, float]:
    """Segment name -> volume in ml: the number of its voxels times the volume of one, whatever their orientation."""
    segmentation = node.GetSegmentation()
    result = {}
    for identifier in segmentation.GetSegmentIDs():
        labelmap = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(identifier, labelmap)
        scalars = labelmap.GetPointData().GetScalars()
        voxels = 0 if scalars is None else np.count_nonzero(vtk_to_numpy(scalars))
        result[segmentation.GetSegment(identifier).GetName()] = float(voxels * np.prod(labelmap.GetSpacing())) / 1000
    return result


def _oriented_image(mask: np.ndarray, grid: Grid) -> Any:
    """The part of the mask that is not empty, as MRML keeps a segment: in place by its extent, not by its origin."""
    box = _bounding_box(mask)
    part = np.ascontiguousarray(mask[box], dtype=np.uint8)
    image = slicer.vtkOrientedImageData()
    image.SetExtent([bound for axis in reversed(box) for bound in (axis.start, axis.stop - 1)])
    image.SetSpacing(grid.spacing)
    image.SetOrigin(RAS_TO_LPS @ grid.origin)
    image.SetDirections((RAS_TO_LPS @ grid.axes).tolist())
    image.GetPointData().SetScalars(numpy_to_vtk(part.ravel(), deep=True))
    return image


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box around all True voxels; one voxel if there are none, as a labelmap cannot be without any."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        box.append(slice(hit[0], hit[-1] + 1) if hit.size else slice(0, 1))
    return tuple(box)


def _describe(segment: Any, region: str, algorithm: str) -> None:
    # the tag is the terminology for every version of Slicer, SetTerminology came with 5.10
    segment.SetTag(segment.GetTerminologyEntryTagName(), APPEARANCES[region].terminology)
    segment.NameAutoGeneratedOff()
    segment.ColorAutoGeneratedOff()
    segment.SetTag("DICOM.SegmentAlgorithmType", "AUTOMATIC")
    segment.SetTag("DICOM.SegmentAlgorithmName", algorithm)


def _draw(display: Any, region: str) -> None:
    display.SetSegmentOpacity2DFill(region, APPEARANCES[region].fill)
    display.SetSegmentOpacity3D(region, APPEARANCES[region].surface)


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


def _place_beside(scene: Any, node: Any, reference: Any) -> None:
    """Under the parent of the reference in the subject hierarchy, e.g. the same study of the same patient."""
    if scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0:
        return  # GetSubjectHierarchyNode would make one
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    neighbour = hierarchy.GetItemByDataNode(reference)
    if not neighbour:
        return
    parent = hierarchy.GetItemParent(neighbour)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
