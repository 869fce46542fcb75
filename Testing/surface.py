"""Smooth surfaces of masks, rendered offscreen with VTK. A still picture: what depends on the view is baked in."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from system_packages import missing_packages


@dataclass(frozen=True)
class Surface:
    """volume: float image, the surface lies where it is 0.5. colour: r, g, b 0..1. face: opacity seen from the front.

    edge: opacity where the surface turns away from the viewer; a low face with a high edge looks like glass.
    detail: pass band of the mesh smoothing (windowed sinc, keeps the volume), 0 coarse to 2 everything.
    """

    volume: sitk.Image
    colour: tuple[float, float, float]
    face: float
    edge: float
    detail: float = 0.05


class NoRenderingError(RuntimeError):
    """This machine cannot render; the message names what is missing in one line."""


def render(surfaces: Sequence[Surface], view: Sequence[float], size: int, background: Sequence[float]) -> np.ndarray:
    """A square picture, uint8 (size, size, 3).

    Args:
        surfaces: in physical space (LPS, mm); the camera frames the first one.
        view: from the middle of the first surface towards the camera (L, P, S), any length.
        size: pixels per side.
        background: r, g, b 0..1.

    Raises:
        NoRenderingError: there is no OpenGL.
    """
    _require_opengl()
    import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  registers what renders
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkRenderingCore import vtkRenderer, vtkRenderWindow, vtkWindowToImageFilter

    view = np.asarray(view, dtype=float) / np.linalg.norm(view)
    renderer = vtkRenderer()
    renderer.SetBackground(*background)
    actors = [_actor(surface, view) for surface in surfaces]
    for actor in actors:
        renderer.AddActor(actor)
    _light(renderer)
    _aim(renderer, actors[0].GetBounds(), view)
    renderer.SetUseDepthPeeling(True)
    renderer.SetMaximumNumberOfPeels(10)
    renderer.SetOcclusionRatio(0.0)
    window = vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetMultiSamples(0)  # depth peeling needs it off; averaging 2 x 2 pixels smooths the edges instead
    window.SetAlphaBitPlanes(True)
    window.SetSize(2 * size, 2 * size)
    window.AddRenderer(renderer)
    window.Render()
    grab = vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    pixels = vtk_to_numpy(grab.GetOutput().GetPointData().GetScalars()).reshape(2 * size, 2 * size, -1)[::-1, :, :3]
    return pixels.reshape(size, 2, size, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)


def _require_opengl() -> None:
    """Try in a process of its own: where OpenGL is missing, VTK does not say so but crashes."""
    if sys.platform.startswith("linux"):  # or VTK looks for an X server first and complains that there is none
        os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
    attempt = (
        "import vtkmodules.vtkRenderingOpenGL2; from vtkmodules.vtkRenderingCore import vtkRenderWindow as Window; "
        "window = Window(); window.SetOffScreenRendering(True); window.SetSize(8, 8); window.Render()"
    )
    if subprocess.run([sys.executable, "-c", attempt], capture_output=True, check=False).returncode:
        packages = " ".join(missing_packages()) or "libegl1 libegl-mesa0 libgl1"
        raise NoRenderingError(f"Surfaces cannot be drawn without OpenGL; as root: apt-get install {packages}")


def _actor(surface: Surface, view: np.ndarray):
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import VTK_UNSIGNED_CHAR
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkPolyDataNormals, vtkWindowedSincPolyDataFilter
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    image = vtkImageData()
    image.SetDimensions(surface.volume.GetSize())
    image.SetSpacing(surface.volume.GetSpacing())
    image.SetOrigin(surface.volume.GetOrigin())
    image.SetDirectionMatrix(*surface.volume.GetDirection())
    values = sitk.GetArrayFromImage(sitk.Cast(surface.volume, sitk.sitkFloat32)).ravel()
    image.GetPointData().SetScalars(numpy_to_vtk(values, deep=True))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.5)
    contour.ComputeNormalsOff()
    smooth = vtkWindowedSincPolyDataFilter()
    smooth.SetInputConnection(contour.GetOutputPort())
    smooth.SetNumberOfIterations(20)
    smooth.SetPassBand(surface.detail)
    smooth.NonManifoldSmoothingOn()
    smooth.NormalizeCoordinatesOn()
    normals = vtkPolyDataNormals()
    normals.SetInputConnection(smooth.GetOutputPort())
    normals.SplittingOff()
    normals.ConsistencyOn()
    normals.AutoOrientNormalsOn()
    normals.Update()
    mesh = normals.GetOutput()
    if mesh.GetNumberOfPoints():
        facing = np.abs(vtk_to_numpy(mesh.GetPointData().GetNormals()) @ view)
        opacity = surface.face + (surface.edge - surface.face) * (1 - facing) ** 2.5
        colours = np.tile((*(255 * c for c in surface.colour), 0.0), (len(facing), 1))
        colours[:, 3] = 255 * opacity
        scalars = numpy_to_vtk(colours.round().astype(np.uint8), deep=True, array_type=VTK_UNSIGNED_CHAR)
        mesh.GetPointData().SetScalars(scalars)
    mapper = vtkPolyDataMapper()
    mapper.SetInputData(mesh)
    actor = vtkActor()
    actor.SetMapper(mapper)
    if min(surface.face, surface.edge) < 1.0:
        actor.ForceTranslucentOn()
    looks = actor.GetProperty()
    looks.SetInterpolationToPhong()
    looks.SetAmbient(0.18)
    looks.SetDiffuse(0.78)
    looks.SetSpecular(0.28)
    looks.SetSpecularPower(28)
    return actor


def _light(renderer) -> None:
    from vtkmodules.vtkRenderingCore import vtkLight

    # key from upper left, soft fill from the right, a rim from behind; positions relative to the camera
    for position, intensity in (((-0.7, 0.9, 1.0), 0.95), ((1.0, 0.1, 0.6), 0.35), ((0.3, 0.8, -1.0), 0.45)):
        light = vtkLight()
        light.SetLightTypeToCameraLight()
        light.SetPosition(*position)
        light.SetIntensity(intensity)
        renderer.AddLight(light)


def _aim(renderer, bounds: Sequence[float], view: np.ndarray) -> None:
    middle = np.array([(bounds[2 * axis] + bounds[2 * axis + 1]) / 2 for axis in range(3)])
    camera = renderer.GetActiveCamera()
    camera.SetFocalPoint(*middle)
    camera.SetPosition(*(middle + 600 * view))
    camera.SetViewUp(0, 0, 1)
    camera.SetViewAngle(24)
    renderer.ResetCamera(bounds)
    camera.Zoom(1.45)
    renderer.ResetCameraClippingRange()
