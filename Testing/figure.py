"""A picture of a result: slices with the outlines of the regions beside their surfaces in the brain.

    python Testing/figure.py OUT_FOLDER -o figure.png [--truth LABELS]

OUT_FOLDER is what `mstkd segment` wrote; the images are found through its report.json.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.brain import find_brain
from MSTKDSegmenterLib.engine.geometry import Grid, resample
from MSTKDSegmenterLib.engine.regions import regions_of
from MSTKDSegmenterLib.engine.study import study_from_files
from MSTKDSegmenterLib.scene.terminology import APPEARANCES
from scipy import ndimage
from surface import NoRenderingError, Surface, render

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D

NAMES = {"WT": "Whole tumour", "TC": "Tumour core", "ET": "Enhancing tumour"}
BACKGROUND, INK, FAINT = "#0a0c10", "#e8eaee", "#868d99"
GREYS = LinearSegmentedColormap.from_list("greys", [BACKGROUND, "#ffffff"])
COLOURS = {region: APPEARANCES[region].rgb for region in NAMES}
DPI = 150
PANEL = {1: 4.8, 2: 3.1, 3: 2.7, 4: 2.5}
"""Side of a slice panel in inches by the number of sequences."""


@dataclass(frozen=True)
class Scene:
    """What is drawn, all (z, y, x) on one isotropic grid along L, P, S."""

    grid: Grid
    images: dict[str, np.ndarray]
    brain: np.ndarray
    regions: dict[str, np.ndarray]  # 0..1
    truth: dict[str, np.ndarray]  # 0..1, empty if unknown


def read_segments(path: Path) -> dict[str, sitk.Image]:
    """Identifier -> uint8 mask image of the segments in a .seg.nrrd file; those that overlap lie in separate layers."""
    image = sitk.ReadImage(str(path))
    layers = image.GetNumberOfComponentsPerPixel()
    segments = {}
    for i in range(sum(key.endswith("_LabelValue") for key in image.GetMetaDataKeys())):
        layer = int(image.GetMetaData(f"Segment{i}_Layer"))
        plane = sitk.VectorIndexSelectionCast(image, layer) if layers > 1 else image
        segments[image.GetMetaData(f"Segment{i}_ID")] = plane == int(image.GetMetaData(f"Segment{i}_LabelValue"))
    return segments


def make_scene(
    images: Mapping[str, sitk.Image],
    regions: Mapping[str, sitk.Image],
    truth: Mapping[str, sitk.Image] | None = None,
    brain: sitk.Image | None = None,
    spacing: float = 1.0,
    to_image: Mapping[str, sitk.Transform] | None = None,
) -> Scene:
    """Everything resampled to a grid along L, P, S around the brain (found in the first image unless it is given).

    The first image is the reference; `to_image` takes its points (LPS, mm) to those of the others that lie elsewhere.
    """
    first = next(iter(images.values()))
    brain = find_brain(first).mask if brain is None else brain
    grid = _upright_grid(brain, spacing)

    def volume(image: sitk.Image, smooth: float = 0.0, transform: sitk.Transform | None = None) -> np.ndarray:
        image = resample(sitk.Cast(image, sitk.sitkFloat32), grid, transform=transform, antialias=True)
        array = sitk.GetArrayFromImage(image)
        return ndimage.gaussian_filter(array, smooth / spacing) if smooth else array

    return Scene(
        grid,
        {name: volume(image, transform=(to_image or {}).get(name)) for name, image in images.items()},
        volume(brain, 1.0),
        {name: volume(regions[name], 0.6) for name in NAMES},
        {name: volume(truth[name], 0.6) for name in NAMES} if truth else {},
    )


def rigid(matrix: Sequence[Sequence[float]]) -> sitk.Transform:
    """The transform that report.json holds as a 4x4 matrix."""
    transform = sitk.AffineTransform(3)
    transform.SetMatrix([value for row in matrix[:3] for value in row[:3]])
    transform.SetTranslation([row[3] for row in matrix[:3]])
    return transform


def _upright_grid(brain: sitk.Image, spacing: float) -> Grid:
    """A cube along L, P, S around the brain."""
    corners = Grid.of(brain).physical(np.argwhere(sitk.GetArrayViewFromImage(brain))[:, ::-1])
    low, high = corners.min(axis=0), corners.max(axis=0)
    side = int(np.ceil(((high - low).max() + 10.0) / spacing))
    origin = (low + high) / 2 - (side - 1) / 2 * spacing
    return Grid((side,) * 3, (spacing,) * 3, tuple(origin), (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0))


def draw(scene: Scene, path: Path, title: str, notes: Mapping[str, str] | None = None, caption: str = "") -> None:
    """Write the picture as PNG.

    Args:
        title: above everything.
        notes: region -> a few words after its name in the legend, e.g. its volume.
        caption: one line at the bottom.

    Raises:
        NoRenderingError: there is no OpenGL; the message names what to install.
    """
    side = PANEL[len(scene.images)]
    rows = len(scene.images)
    head, foot, gap, legend = 0.85, 0.45, 0.12, 1.0
    cube = float(np.clip(rows * side - legend, 3.8, 6.4))  # the side of the 3D view
    block = max(rows * side, cube + legend)
    width, height = 3 * (side + gap) + cube + 0.4, block + head + foot
    picture = _surfaces(scene, int(cube * DPI))
    figure = plt.figure(figsize=(width, height), facecolor=BACKGROUND)

    def place(x: float, y: float, w: float, h: float) -> plt.Axes:
        axes = figure.add_axes((x / width, y / height, w / width, h / height), facecolor=BACKGROUND)
        axes.set_axis_off()
        return axes

    figure.text(0.25 / width, 1 - 0.36 / height, title, color=INK, size=15, weight="bold", va="center")
    at = _middle(scene)
    for row, (sequence, image) in enumerate(scene.images.items()):
        inside = image[scene.brain > 0.5]
        window = (min(0.0, float(np.percentile(inside, 0.5))), float(np.percentile(inside, 99.9)))
        for column, plane in enumerate(("axial", "coronal", "sagittal")):
            y = foot + (block + rows * side) / 2 - (row + 1) * side
            axes = place(0.15 + column * (side + gap), y, side, side)
            _slice(axes, scene, image, window, plane, at)
            if row == 0:
                axes.set_title(plane.capitalize(), color=FAINT, size=9.5, pad=3)
            if column == 0:
                axes.text(0.02, 0.98, sequence, color=INK, size=10.5, weight="bold", va="top", transform=axes.transAxes)
    left, bottom = 0.15 + 3 * (side + gap), foot + (block - cube - legend) / 2
    place(left, bottom + legend, cube, cube).imshow(picture, interpolation="lanczos")
    _legend(place(left, bottom, cube, legend), scene, notes or {})
    figure.text(0.25 / width, 0.22 / height, caption, color=FAINT, size=8.5, va="center")
    figure.savefig(path, dpi=DPI, facecolor=BACKGROUND)
    plt.close(figure)


def _middle(scene: Scene) -> tuple[int, int, int]:
    """z, y, x of the planes that show most: each where the three regions together have the largest area."""
    weight = sum((region > 0.5).astype(np.float32) for region in scene.regions.values())
    if not weight.any():
        return tuple(n // 2 for n in weight.shape)
    return tuple(
        int(np.argmax(ndimage.gaussian_filter1d(weight.sum(axis=tuple(o for o in range(3) if o != axis)), 2.0)))
        for axis in range(3)
    )


def _cut(volume: np.ndarray, plane: str, at: tuple[int, int, int]) -> np.ndarray:
    """2-D slice as a radiologist sees it: the patient's left on the right, front of sagittal slices on the left."""
    z, y, x = at
    return {"axial": volume[z], "coronal": volume[::-1, y], "sagittal": volume[::-1, :, x]}[plane]


def _slice(
    axes: plt.Axes,
    scene: Scene,
    image: np.ndarray,
    window: tuple[float, float],
    plane: str,
    at: tuple[int, int, int],
) -> None:
    axes.imshow(_cut(image, plane, at), cmap=GREYS, vmin=window[0], vmax=window[1], interpolation="lanczos")
    for masks, style in ((scene.truth, "truth"), (scene.regions, "found")):
        for region, mask in masks.items():
            cut = _cut(mask, plane, at)
            if cut.max() <= 0.5:
                continue
            if style == "truth":
                axes.contour(cut, [0.5], colors="white", linewidths=0.7, linestyles=[(0, (3, 2.2))], alpha=0.9)
            else:
                axes.contour(cut, [0.5], colors=[COLOURS[region]], linewidths=1.5)
    letters = ("R", "L") if plane != "sagittal" else ("A", "P")
    for letter, x, align in zip(letters, (0.015, 0.985), ("left", "right")):
        axes.text(x, 0.5, letter, color=FAINT, size=7.5, ha=align, va="center", transform=axes.transAxes)


def _surfaces(scene: Scene, size: int) -> np.ndarray:
    def image(array: np.ndarray) -> sitk.Image:
        return scene.grid.image(array.astype(np.float32))

    surfaces = [Surface(image(_cortex(scene)), (0.80, 0.84, 0.92), face=0.06, edge=0.6, detail=0.12)]
    for region, (face, edge) in {"WT": (0.20, 0.70), "TC": (0.10, 0.75), "ET": (1.0, 1.0)}.items():
        mask = scene.regions[region]
        if mask.max() > 0.5:
            # half a voxel outwards, or the surfaces of the nested regions would coincide where their borders do
            surfaces.append(Surface(image(mask if region == "ET" else mask + 0.2), COLOURS[region], face, edge))
    offset = 0.0
    if scene.regions["WT"].max() > 0.5:
        offset = ndimage.center_of_mass(scene.regions["WT"])[2] - (scene.grid.size[0] - 1) / 2
    view = (0.85 if offset >= 0 else -0.85, -0.75, 0.42)
    return render(surfaces, view, size, matplotlib.colors.to_rgb(BACKGROUND))


def _cortex(scene: Scene) -> np.ndarray:
    """The brain, carved where a sequence shows the fluid of the sulci dark."""
    for sequence in ("T1", "T1ce", "FLAIR"):
        if sequence in scene.images:
            image = scene.images[sequence]
            carved = np.clip(image / np.median(image[scene.brain > 0.5]) - 0.2, 0.0, 1.0)
            depth = ndimage.distance_transform_edt(scene.brain > 0.5, sampling=scene.grid.spacing)
            filled = np.maximum(carved, np.clip(depth - 5.0, 0.0, 1.0))  # not the ventricles, which would only clutter
            return np.minimum(scene.brain, ndimage.gaussian_filter(filled, 1.0))
    return scene.brain


def _legend(axes: plt.Axes, scene: Scene, notes: Mapping[str, str]) -> None:
    handles, labels = [], []
    for region, name in NAMES.items():
        handles.append(Line2D([], [], color=COLOURS[region], linewidth=4, solid_capstyle="round"))
        labels.append(f"{name} ({region})" + (f"   {notes[region]}" if region in notes else ""))
    if scene.truth:
        handles.append(Line2D([], [], color="white", linewidth=1, linestyle=(0, (3, 2.2))))
        labels.append("Truth")
    axes.legend(handles, labels, loc="center", frameon=False, labelcolor=INK, fontsize=10, handlelength=1.6)


def main() -> int:
    parser = argparse.ArgumentParser(description="Draw a result of mstkd segment.")
    parser.add_argument("folder", type=Path, help="what mstkd segment wrote")
    parser.add_argument("-o", "--output", type=Path, default=Path("figure.png"))
    parser.add_argument("--truth", type=Path, help="label map to compare with")
    parser.add_argument("--convention", default="brats2023", help="of the labels of --truth: brats2023 or brats2021")
    options = parser.parse_args()
    report = json.loads((options.folder / "report.json").read_text(encoding="utf-8"))
    study = study_from_files({name: item["source"] for name, item in report["inputs"].items()})
    truth = None
    if options.truth:
        label_map = sitk.ReadImage(str(options.truth))
        grid = Grid.of(label_map)
        masks = regions_of(sitk.GetArrayFromImage(label_map), options.convention)
        truth = {name: grid.image(mask) for name, mask in masks.items()}
    harmonising = report["harmonising"]
    reference = harmonising["reference"]
    scene = make_scene(
        {name: study.images[name].image for name in sorted(study.subset, key=lambda name: name != reference)},
        read_segments(options.folder / "segmentation.seg.nrrd"),
        truth,
        to_image={name: rigid(matrix) for name, matrix in harmonising["reference_to_sequence_lps"].items()},
    )
    notes = {region: f"{volume:.1f} ml" for region, volume in report["volumes_ml"].items()}
    try:
        draw(scene, options.output, f"Segmented from {report['subset'].replace('+', ' + ')}", notes)
    except NoRenderingError as error:
        print(error, file=sys.stderr)
        return 1
    print(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
