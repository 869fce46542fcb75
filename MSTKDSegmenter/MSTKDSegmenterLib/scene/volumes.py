"""Volume nodes as images: the same voxels, the same place in the patient.

MRML's world is RAS, SimpleITK's is LPS. They differ by the sign of the first two coordinates, which changes no digit.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from ..engine.errors import UnusableInput
from ..engine.geometry import Grid, nearest_rotation, shear

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0])
LARGEST_SHEAR = 1e-3
"""Cosine between two voxel axes above which they do not count as perpendicular: over a head of 250 mm, 0.25 mm."""
LEAST_VOLUME = 1e-3
"""Volume that three unit axes have to span."""


def image_from_volume(node: Any) -> sitk.Image:
    """The voxels of a scalar volume node where they are in the world, as an image in LPS (mm).

    A linear parent transform is applied to the geometry; the node stays as it is. Voxel axes that are not perpendicular
    (a shear, e.g. after affine registration) cannot be told in most file formats: such a volume is resampled, linearly,
    onto the nearest grid without shear, and the log says so.

    Raises:
        UnusableInput: no voxels, more than one value per voxel, a transform that is not linear, or no extent in space.
    """
    name = node.GetName()
    voxels = node.GetImageData()
    if voxels is None or voxels.GetPointData().GetScalars() is None or voxels.GetNumberOfPoints() == 0:
        raise UnusableInput(f"The volume '{name}' holds no voxels: load its image again, or choose another volume.")
    components = voxels.GetNumberOfScalarComponents()
    if components != 1:
        raise UnusableInput(
            f"The volume '{name}' has {components} values per voxel, expected 1: a colour or vector image is no MRI "
            "sequence. Choose another volume, or make it a scalar one (module Vector to Scalar Volume)."
        )
    columns, rows, slices = voxels.GetDimensions()
    array = vtk_to_numpy(voxels.GetPointData().GetScalars()).reshape(slices, rows, columns)
    image = sitk.GetImageFromArray(array)
    spacing, origin, axes = _world_geometry(node)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(axes.ravel())
    if shear(axes) > LARGEST_SHEAR:
        logging.info("The volume '%s' is sheared; it was resampled onto a grid without shear.", name)
        image = _without_shear(image)
    return image


def state(node: Any) -> tuple[Any, ...]:
    """What is another whenever ``image_from_volume`` of the node may be another, without reading its voxels."""
    voxels = node.GetImageData()
    changed = None if voxels is None else voxels.GetMTime()
    try:
        spacing, origin, axes = _world_geometry(node)
    except UnusableInput as error:
        return node.GetID(), node.GetName(), changed, str(error)
    return node.GetID(), node.GetName(), changed, spacing, origin, *axes.ravel().tolist()


def add_volume(scene: Any, image: sitk.Image, name: str) -> Any:
    """A new scalar volume node (vtkMRMLScalarVolumeNode) with the voxels and the geometry of a 3-D image."""
    grid = Grid.of(image)
    voxels = vtk.vtkImageData()
    voxels.SetDimensions(grid.size)
    voxels.GetPointData().SetScalars(named_scalars(sitk.GetArrayViewFromImage(image)))
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    node.SetSpacing(grid.spacing)
    node.SetOrigin(RAS_TO_LPS @ grid.origin)
    axes = RAS_TO_LPS @ grid.axes
    node.SetIJKToRASDirections(*axes.ravel())
    node.SetAndObserveImageData(voxels)
    return node


def named_scalars(values: np.ndarray) -> Any:
    """A copy of the voxels (z, y, x) for VTK, under the name that Slicer gives them.

    Its export to DICOM SEG looks for that name, and takes a segment without it for empty.
    """
    scalars = numpy_to_vtk(values.ravel(), deep=True)
    scalars.SetName("ImageScalars")
    return scalars


@dataclass(frozen=True)
class Frame:
    """Where the voxels of a volume node lie: ``own`` without its transform, ``world`` with it, if that is linear."""

    own: Grid
    world: Grid | None


def frame_of(node: Any) -> Frame | None:
    """Where the voxels of a volume node lie now; None if it has none."""
    if node.GetImageData() is None:
        return None
    size = node.GetImageData().GetDimensions()
    spacing, origin, axes = _own_geometry(node)
    own = Grid(size, tuple(spacing), tuple(RAS_TO_LPS @ origin), tuple((RAS_TO_LPS @ axes).ravel()))
    try:
        spacing, origin, axes = _world_geometry(node)
    except UnusableInput:  # of a transform that is not linear
        return Frame(own, None)
    return Frame(own, Grid(size, spacing, origin, tuple(axes.ravel())))


@dataclass(frozen=True)
class Place:
    """Where to put something: on ``grid``, under the transform with this ID; and whether that is not on its volume."""

    grid: Grid
    transform: str | None
    left_behind: bool = False


def place_on(node: Any, grid: Grid, before: Frame | None) -> Place:
    """Where something that was made from a volume node belongs: on its voxels, wherever they have gone since.

    Args:
        node: the volume node, or None if it is gone.
        grid: of the image that it was made from, in the world.
        before: where the node's voxels lay then; None: as they lie now.
    """
    now = None if node is None else frame_of(node)
    before = before or now
    if now is None or before.world is None:
        return Place(grid, None)
    if grid.matches(before.world) and now.own.matches(before.own):
        return Place(now.own, node.GetTransformNodeID())
    # it was resampled because it is sheared, or has another geometry by now, as after hardening a transform
    return Place(grid, None, now.world is None or not now.world.matches(before.world))


def _own_geometry(node: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spacing, origin and (3, 3) axes (columns of unit length) in RAS, without the parent transform."""
    directions = vtk.vtkMatrix4x4()
    node.GetIJKToRASDirectionMatrix(directions)
    axes = slicer.util.arrayFromVTKMatrix(directions)[:3, :3]
    return np.array(node.GetSpacing()), np.array(node.GetOrigin()), axes


def _world_geometry(node: Any) -> tuple[tuple[float, ...], tuple[float, ...], np.ndarray]:
    """Spacing, origin and (3, 3) axes (columns of unit length) in LPS, with the parent transform applied."""
    spacing, origin, axes = _own_geometry(node)
    transform = node.GetParentTransformNode()
    if transform is not None:
        if not transform.IsTransformToWorldLinear():
            raise UnusableInput(
                f"The volume '{node.GetName()}' is under the transform '{transform.GetName()}', which is not linear: "
                "expected none or a linear one. Harden the transform on the volume (module Transforms), then try again."
            )
        to_world = vtk.vtkMatrix4x4()
        transform.GetMatrixTransformToWorld(to_world)
        matrix = slicer.util.arrayFromVTKMatrix(to_world)
        origin = matrix[:3, :3] @ origin + matrix[:3, 3]
        axes = matrix[:3, :3] @ axes
    lengths = np.linalg.norm(axes, axis=0)
    # of unit axes, the determinant is the volume that they span: 1 at right angles
    if not (np.all(spacing > 0) and np.all(lengths > 0) and abs(np.linalg.det(axes / lengths)) > LEAST_VOLUME):
        raise UnusableInput(
            f"The volume '{node.GetName()}' has no extent in space: voxel size {spacing.tolist()} mm, axes "
            f"{np.round(axes, 3).tolist()} with its transforms. Expected a voxel size above 0 and three axes that lie "
            "in no plane: load the volume again, or take it out of the transform."
        )
    if transform is not None:
        spacing, axes = spacing * lengths, axes / lengths
    return tuple(spacing.tolist()), tuple((RAS_TO_LPS @ origin).tolist()), RAS_TO_LPS @ axes


def _without_shear(image: sitk.Image) -> sitk.Image:
    """Resampled onto the grid with the nearest perpendicular axes, the same spacing, and room for every corner."""
    grid = Grid.of(image)
    axes = nearest_rotation(grid.axes)
    corners = (grid.corners() @ axes) / grid.spacing
    low, high = corners.min(axis=0), corners.max(axis=0)
    size = np.maximum(1, np.rint(high - low)).astype(int).tolist()
    origin = axes @ ((low + 0.5) * grid.spacing)
    return sitk.Resample(
        image, size, sitk.Transform(), sitk.sitkLinear, origin.tolist(), grid.spacing, axes.ravel().tolist()
    )
