"""DICOM series: found in a folder, put in order, read as one image on a regular grid."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .dicom_file import has_content, is_dicom, read_header, without_warnings
from .dicom_frames import Frame, read_agent, read_frames
from .errors import UnusableInput

_SERIES_UID, _INSTANCE_UID, _CONTRAST = "0020,000e", "0008,0018", "0018,0010"
_SAME_IN_A_SERIES = (_SERIES_UID, "0008,103e", "0020,0011", "0018,0080", "0018,0081", "0028,0010", "0028,0011")
"""UID, description, number, repetition and echo time, rows, columns: careless anonymisers give one UID to several."""
_POSITION, _ORIENTATION, _SPACING = "0020,0032", "0020,0037", "0028,0030"
_EVEN = 0.05
"""Relative deviation of a slice distance from the usual one that rounding of positions explains."""
_MOST_SIDEWAYS_MM = 2.0
_WIDEST_GAP = 4.0
"""In slice distances: a wider gap is not interpolated over."""


@dataclass(frozen=True)
class Slice:
    """One DICOM file, of one slice as a rule, and its header, values by tag ("0008,103e")."""

    path: Path
    tags: Mapping[str, str]

    @property
    def images(self) -> int:
        """How many slices it holds; an enhanced MR file holds many."""
        number = _number(self.tags.get("0028,0008", ""))
        return int(number) if np.isfinite(number) else 1


@dataclass(frozen=True)
class Series:
    """The files of one series UID, in no particular order; ``folder`` is the deepest that holds all of them.

    in_a_heap: whether files of another series lie beside them, so that the folder does not tell which is meant.
    """

    folder: Path
    slices: tuple[Slice, ...]
    in_a_heap: bool = False

    @property
    def folders(self) -> list[Path]:
        """The folders its files lie in, sorted; one as a rule."""
        return sorted({slice_.path.parent for slice_ in self.slices})

    @property
    def tags(self) -> Mapping[str, str]:
        """The header of the first file; what identifies a series is the same in all of them."""
        return self.slices[0].tags

    @property
    def images(self) -> int:
        """How many slices the files hold together."""
        return sum(slice_.images for slice_ in self.slices)

    @property
    def label(self) -> str:
        """The series as a person would name it, by a path that stands for it and its description."""
        path = min(slice_.path for slice_ in self.slices) if self.in_a_heap else self.folder
        said = self.tags.get("0008,103e", "")
        return f"{path} ({said})" if said else str(path)


def find_series(files: Sequence[Path]) -> tuple[list[Series], list[Path]]:
    """The series among the ``files`` of one folder, by series number, and the DICOM files that cannot be read.

    Files that are no DICOM, neither by their mark nor by their ending .dcm, are passed over. One that is empty or
    cannot be opened counts among those that cannot be read if there are others: it may have been a slice.
    """
    by_uid: dict[str, list[Slice]] = {}
    unreadable: list[Path] = []
    empty: list[Path] = []
    for path in files:
        marked = is_dicom(path)
        if not marked and path.suffix.lower() != ".dcm":
            if not has_content(path):
                empty.append(path)
            continue
        tags = read_header(path) if marked else None
        if tags is None:
            unreadable.append(path)
        else:
            by_uid.setdefault(tags.get(_SERIES_UID, ""), []).append(_with_agent(Slice(path, tags)))
    if by_uid:
        unreadable = sorted((*unreadable, *empty))
    heap = len(by_uid) > 1
    found = [Series(slices[0].path.parent, tuple(slices), heap) for slices in by_uid.values()]
    return sorted(found, key=lambda series: (_number(series.tags.get("0020,0011", "")), series.label)), unreadable


def _with_agent(slice_: Slice) -> Slice:
    """With the contrast agent among the tags, which enhanced files have in a sequence that SimpleITK does not show."""
    if slice_.images == 1 or slice_.tags.get(_CONTRAST):
        return slice_
    try:
        return Slice(slice_.path, {**slice_.tags, _CONTRAST: read_agent(slice_.path)})
    except (ValueError, OSError):  # not read is not refused here: read_frames tells why, if the series is used
        return slice_


def join_series(found: Sequence[Series]) -> list[Series]:
    """``found`` with the parts of a series whose files are spread over several folders put together.

    Parts are of one series if their headers say so and no two of their images are at the same position; copies of an
    image aside.
    """
    alike: dict[tuple[str, ...], list[Series]] = {}
    for series in found:
        said = tuple(series.tags.get(tag, "") for tag in _SAME_IN_A_SERIES)
        alike.setdefault(said if said[0] else (str(series.folder),), []).append(series)
    joined: list[Series] = []
    for parts in alike.values():
        slices = tuple(slice_ for part in parts for slice_ in part.slices)
        positions = [slice_.tags.get(_POSITION, "") for slice_ in _one_of_each(slices)]
        if len(parts) > 1 and len(set(positions)) == len(positions) > max(len(part.slices) for part in parts):
            folder = Path(os.path.commonpath([str(part.folder) for part in parts]))
            joined.append(Series(folder, slices, any(part.in_a_heap for part in parts)))
        else:
            joined += parts
    return joined


def unreadable_note(folder: Path, unreadable: Sequence[Path]) -> str:
    """What to tell about DICOM files that ``find_series`` could not read."""
    return f"{folder}: {len(unreadable)} DICOM files cannot be read and are left out, e.g. {unreadable[0].name}."


def read_series(series: Series) -> tuple[sitk.Image, list[str]]:
    """The series as one image, slices sorted by position, and notes about what was mended.

    Slices at uneven distances are interpolated linearly onto even ones, as ITK would spread them evenly and so move
    anatomy.

    Raises:
        UnusableInput: no volume (one slice, several orientations, several images per position), or unreadable.
    """
    slices = _one_of_each(series.slices)
    enhanced = len(slices) == 1 and slices[0].images > 1
    frames = _frames(slices[0], series) if enhanced else [_frame(slice_) for slice_ in slices]
    if len(frames) == 1:
        return _execute(sitk.ImageFileReader(), slices, series), []
    order, along = _in_order(frames, series)
    steps = np.diff(along)
    step = float(np.median(steps))
    if enhanced:
        image = _stacked(_execute(sitk.ImageFileReader(), slices, series), order, frames[order[0]], step, series)
    else:
        image = _execute(sitk.ImageSeriesReader(), [slices[index] for index in order], series)
    if np.abs(steps - step).max() <= _EVEN * step:
        return image, []
    return _evened(image, along - along[0], step, series)


def _frame(slice_: Slice) -> Frame:
    """What the header of a file with one slice says about its place."""
    return Frame(*(slice_.tags.get(tag, "") for tag in (_POSITION, _ORIENTATION, _SPACING)))


def _frames(slice_: Slice, series: Series) -> list[Frame]:
    try:
        frames = read_frames(slice_.path)
        if len(frames) != slice_.images:
            raise ValueError(f"it tells the places of {len(frames)} frames")
        if len({frame.scaling for frame in frames}) > 1:
            raise ValueError("its frames are scaled differently")
    except (ValueError, OSError) as error:
        msg = f"{series.label} is one file of {slice_.images} frames, and {error}; export it as one file per slice."
        raise UnusableInput(msg) from error
    return frames


def _in_order(frames: Sequence[Frame], series: Series) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the frames by position, and how far along the stack each then lies, in mm."""
    positions = np.array([_vector(frame.position, 3, series) for frame in frames])
    axes = np.array([_vector(frame.orientation, 6, series) for frame in frames])
    if np.abs(axes - axes[0]).max() > 1e-2:
        msg = f"{series.label}: its slices have different orientations, as a localiser has; give a series of one stack."
        raise UnusableInput(msg)
    sizes = np.array([_vector(frame.spacing, 2, series, "voxel size") for frame in frames])
    if sizes.min() <= 0 or np.abs(sizes - sizes[0]).max() > _EVEN * sizes.min():
        msg = (
            f"{series.label}: its slices give voxel sizes from {sizes.min():.4g} to {sizes.max():.4g} mm; expected one "
            "above zero. Export the original series again."
        )
        raise UnusableInput(msg)
    normal = np.cross(axes[0, :3], axes[0, 3:])
    along = positions @ normal
    order = np.argsort(along, kind="stable")
    along, positions = along[order], positions[order]
    steps = np.diff(along)
    if steps.min() < 1e-3:
        msg = (
            f"{series.label} holds several images per slice position ({len(frames)} images at "
            f"{1 + int(np.count_nonzero(steps >= 1e-3))} positions: time points, echoes or phases); expected one. "
            "Export the one that is meant as a series of its own."
        )
        raise UnusableInput(msg)
    sideways = np.linalg.norm(positions - positions[0] - np.outer(along - along[0], normal), axis=1).max()
    if sideways > _MOST_SIDEWAYS_MM:
        msg = f"{series.label}: its slices are shifted sideways by {sideways:.1f} mm; resample it to a straight grid."
        raise UnusableInput(msg)
    return order, along


def _stacked(image: sitk.Image, order: np.ndarray, first: Frame, step: float, series: Series) -> sitk.Image:
    """The image of one file with its frames in order, ``step`` mm apart from where the ``first`` of them lies.

    ITK may have missed all of it.
    """
    rows, columns = np.array(_vector(first.orientation, 6, series)).reshape(2, 3)
    high, wide = _vector(first.spacing, 2, series, "voxel size")
    stacked = sitk.JoinSeries([image[:, :, int(index)] for index in order])
    stacked.SetOrigin(_vector(first.position, 3, series))
    stacked.SetDirection(np.stack([rows, columns, np.cross(rows, columns)], axis=1).ravel().tolist())
    stacked.SetSpacing((wide, high, step))
    return stacked


def _evened(image: sitk.Image, depth: np.ndarray, step: float, series: Series) -> tuple[sitk.Image, list[str]]:
    """The stack with slices at ``depth`` (mm from the first), linearly interpolated to a distance of ``step`` mm."""
    widest = float(np.diff(depth).max())
    if widest > _WIDEST_GAP * step:
        msg = (
            f"{series.label}: slices are missing, {widest:.1f} mm lie between two neighbours that are usually "
            f"{step:.1f} mm apart. Export the whole series again."
        )
        raise UnusableInput(msg)
    values = sitk.GetArrayFromImage(image).astype(np.float32)
    wanted = np.arange(int(np.floor(depth[-1] / step + 1e-3)) + 1) * step
    upper = np.clip(np.searchsorted(depth, wanted), 1, depth.size - 1)
    weight = np.clip((wanted - depth[upper - 1]) / (depth[upper] - depth[upper - 1]), 0, 1)[:, None, None]
    even = sitk.GetImageFromArray(((1 - weight) * values[upper - 1] + weight * values[upper]).astype(np.float32))
    even.SetOrigin(image.GetOrigin())
    even.SetDirection(image.GetDirection())
    even.SetSpacing((*image.GetSpacing()[:2], step))
    note = (
        f"{series.label}: slices lie {np.diff(depth).min():.2f} to {widest:.2f} mm apart; slices may be missing. "
        f"They were interpolated to {step:.2f} mm."
    )
    return even, [note]


def _execute(
    reader: sitk.ImageFileReader | sitk.ImageSeriesReader, slices: Sequence[Slice], series: Series
) -> sitk.Image:
    if isinstance(reader, sitk.ImageSeriesReader):
        reader.SetFileNames([str(slice_.path) for slice_ in slices])
    else:
        reader.SetFileName(str(slices[0].path))
    reader.SetImageIO("GDCMImageIO")
    reader.LoadPrivateTagsOff()
    try:
        with without_warnings():
            return reader.Execute()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        msg = f"{series.label} cannot be read: {reason}. Its files are damaged or differ in size; export it again."
        raise UnusableInput(msg) from error


def _one_of_each(slices: Sequence[Slice]) -> list[Slice]:
    """Without second copies of the same instance, sorted by file name."""
    seen: dict[str, Slice] = {}
    for slice_ in sorted(slices, key=lambda slice_: slice_.path.name):
        seen.setdefault(slice_.tags.get(_INSTANCE_UID) or str(slice_.path), slice_)
    return list(seen.values())


def _vector(text: str, length: int, series: Series, what: str = "position in space") -> list[float]:
    try:
        numbers = [float(part) for part in text.split("\\")]
    except ValueError:
        numbers = []
    if len(numbers) != length:
        msg = f"{series.label}: its slices carry no {what}, so it is no volume; give the original series."
        raise UnusableInput(msg)
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("inf")
