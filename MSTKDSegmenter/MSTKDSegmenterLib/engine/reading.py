"""Reading one image: a NIfTI, NRRD or MHA file, or a folder with one DICOM series."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Union

import SimpleITK as sitk

from .checking import check_image, straightened
from .complaints import complaints
from .dicom_file import is_dicom, without_warnings
from .dicom_series import Series, find_series, read_series, unreadable_note
from .errors import UnusableInput
from .nifti_header import check_nifti
from .text_header import NOTHING_SAID, why_unplaced
from .words import IMAGE_SUFFIXES

PathLike = Union[str, "os.PathLike[str]"]

FORMATS = "NIfTI (.nii, .nii.gz), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd) or a folder with a DICOM series"
_READERS = {
    ".nii.gz": "NiftiImageIO",
    ".nii": "NiftiImageIO",
    ".nrrd": "NrrdImageIO",
    ".nhdr": "NrrdImageIO",
    ".mha": "MetaImageIO",
    ".mhd": "MetaImageIO",
}
_NIFTI = (".nii", ".nii.gz")
_META = (".mha", ".mhd")
_NOT_UNPACKED = "Uncompress failed"
_PERMISSIVE = "ITK_NIFTI_SFORM_PERMISSIVE"
_MOST_LISTED = 6
_MOST_SHEAR_DEGREES = 1.0
"""Taking a sheared grid for a straight one moves the edge of a 200 mm head by at most 2 mm."""
_SAME_PLACE_MM = 1.0
_TWO_PLACES = (
    "the two geometries in its header, qform and sform, lie up to {apart:.0f} mm apart. One of them was taken: look "
    "whether the result lies on the image in the program that you use, or export the image again with both alike."
)
_UNPLACED = (
    "its header has the first voxel at exactly 0 and plain axes, as programs write that know of no place. If it is so, "
    "left and right may be wrong, and the voxel size too: check them, or export the image again from its source."
)
# Method 1 of the NIfTI standard leaves the orientation open; programs differ in what they make of it.
_TAKEN_FOR_LPS = (
    "were taken to run to the patient's left, back and head, which may be wrong: check left and right, or export the "
    "image again from its source."
)


@dataclass(frozen=True)
class Reading:
    """An image that was read: float32, 3-D, LPS (mm), checked; what was mended; its DICOM header if it has one."""

    image: sitk.Image
    notes: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def read_image(path: PathLike) -> sitk.Image:
    """The checked 3-D float32 image at ``path``, see ``read``; for callers that pass no notes on.

    Raises:
        UnusableInput: as ``read``.
    """
    return read(path).image


def read(path: PathLike) -> Reading:
    """Read a NIfTI, NRRD or MHA file or a folder with one DICOM series (or with one such file).

    Raises:
        UnusableInput: nothing there, no image, truncated, or not usable as a head MRI; the text says what to do.
    """
    path = Path(path)
    check_path(path)
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        msg = f"{path} does not exist. Give the path of an image: {FORMATS}."
        raise UnusableInput(msg)
    if path.stat().st_size == 0:
        msg = f"{path} is an empty file of 0 bytes. Copy or export it again."
        raise UnusableInput(msg)
    try:
        path.open("rb").close()
    except OSError as error:
        msg = f"{path} cannot be opened ({error.strerror}). Check that you may read it and that no program holds it."
        raise UnusableInput(msg) from error
    if image_suffix(path):
        return _read_file(path)
    if is_dicom(path):
        return _series_of(path)
    msg = f"{path} is not an image in a format that is read here: {FORMATS}."
    raise UnusableInput(msg)


def check_path(path: PathLike) -> None:
    """Refuse a file or folder that SimpleITK must not see: it ends the whole process where a name is not UTF-8.

    Raises:
        UnusableInput: a name in ``path`` is not UTF-8.
    """
    if not _is_text(path):
        msg = f"{shown(path)} has a name that is not valid UTF-8 text, shown here with \\x escapes. Rename it."
        raise UnusableInput(msg)


def shown(path: PathLike) -> str:
    """``path`` as text that any stream takes: bytes that are not UTF-8 as \\x escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_text(path: PathLike) -> bool:
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:  # Python keeps such bytes as lone surrogates
        return False
    return True


def read_one_series(series: Series) -> Reading:
    """Read a DICOM series that ``find_series`` found.

    Raises:
        UnusableInput: as ``read``.
    """
    image, notes = read_series(series)
    folders = [str(folder) for folder in series.folders]
    if len(folders) > 1:
        notes.append(f"{series.label}: its files lie in {len(folders)} folders and were joined: {', '.join(folders)}.")
    checked, more = check_image(image, series.label)
    return Reading(checked, (*notes, *more), series.tags)


def image_suffix(path: Path) -> str:
    """The file ending if it is one of a format that holds a whole image, else an empty text."""
    return next((suffix for suffix in IMAGE_SUFFIXES if path.name.lower().endswith(suffix)), "")


def image_files(folder: Path) -> list[Path]:
    """The non-hidden image files of ``folder``, DICOM aside, sorted by name."""
    return [path for path in visible_files(folder) if image_suffix(path)]


def visible_files(folder: Path) -> list[Path]:
    """The files of ``folder`` that ``visible`` lists."""
    return [path for path in visible(folder) if path.is_file()]


def visible(folder: Path) -> list[Path]:
    """What is in ``folder``, sorted, without hidden names (``._x`` beside ``x`` is no image) and ``misnamed`` ones."""
    return [path for path in _listed(folder) if _is_text(path.name)]


def misnamed(folder: Path) -> list[str]:
    """A note for each non-hidden name in ``folder`` that is not UTF-8, so that it is left out (see ``check_path``)."""
    names = [path for path in _listed(folder) if not _is_text(path.name)]
    return [f"{shown(path)}: left out, its name is not valid UTF-8 text. Rename it." for path in names]


def _listed(folder: Path) -> list[Path]:
    """What is in ``folder``, sorted, without hidden names.

    Raises:
        UnusableInput: it cannot be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        msg = f"The folder {folder} cannot be listed ({error.strerror}). Check that you may read it."
        raise UnusableInput(msg) from error


def _read_folder(folder: Path) -> Reading:
    series, unreadable = find_series([path for path in visible_files(folder) if not image_suffix(path)])
    files = image_files(folder)
    left_out = misnamed(folder)
    if len(series) == 1 or (not series and len(files) == 1):
        reading = read_one_series(series[0]) if series else read(files[0])
        notes = [*left_out, *([unreadable_note(folder, unreadable)] if unreadable else [])]
        return replace(reading, notes=(*notes, *reading.notes))
    if series:
        listed = "; ".join(
            f"{one.tags.get('0008,103e') or 'no description'}: {min(slice_.path for slice_ in one.slices).name}"
            for one in series[:_MOST_LISTED]
        )
        what = f"holds {len(series)} DICOM series ({listed}); expected one. Give a file of the one that is meant"
    elif files:
        what = f"holds no DICOM series but {len(files)} image files; give one of them"
    elif unreadable:
        what = f"holds {len(unreadable)} DICOM files, none of which can be read; copy or export the series again"
    else:
        what = "holds no DICOM series and no image file; give the folder that holds the slices, or an image file"
    msg = " ".join((f"The folder {folder} {what}.", *left_out[:_MOST_LISTED]))
    raise UnusableInput(msg)


def _series_of(path: Path) -> Reading:
    """The series that one DICOM file stands for: those of its folder may lie in one heap, and the file tells which."""
    beside = {other for other in visible_files(path.parent) if not image_suffix(other)}
    series, unreadable = find_series(sorted({path, *beside}))
    whole = next((one for one in series if any(slice_.path == path for slice_ in one.slices)), None)
    if whole is None:
        msg = f"{path} is a DICOM file that cannot be read: it is truncated or damaged. Copy or export it again."
        raise UnusableInput(msg)
    try:
        reading = read_one_series(whole)
    except UnusableInput as error:
        raise UnusableInput(f"{path} stands for its series, which cannot be used: {error}") from error
    notes = [unreadable_note(path.parent, unreadable)] if unreadable else []
    if len(whole.slices) > 1:
        notes.append(f"{path}: read with the {len(whole.slices)} files of its series.")
    return replace(reading, notes=(*notes, *reading.notes))


def _read_file(path: Path) -> Reading:
    suffix = image_suffix(path)
    shear, not_finite, placed = 0.0, 0, True
    notes: list[str] = []
    if suffix in _NIFTI:
        header, not_finite = check_nifti(path)
        shear = header.shear_degrees()
        apart, placed = header.apart_mm(), header.placed
        if apart > _SAME_PLACE_MM:
            notes.append(f"{path}: {_TWO_PLACES.format(apart=apart)}")
        if not placed:
            why = NOTHING_SAID.format(why="qform_code and sform_code are 0")
            notes.append(f"{path}: {why} {_TAKEN_FOR_LPS}")
    reader = sitk.ImageFileReader()
    reader.SetImageIO(_READERS[suffix])
    try:
        with without_warnings(), _alone(path) as alone:
            reader.SetFileName(str(alone))
            image = _read_meta(reader) if suffix in _META else _execute(reader, shear, str(path), notes)
    except RuntimeError as error:
        raise UnusableInput(_explain(path, str(error), shear)) from error
    if suffix not in _NIFTI:  # only now: ITK knows whether it is such a file at all
        why = why_unplaced(path)
        if why is not None:
            placed = False
            notes.append(f"{path}: {why} {_TAKEN_FOR_LPS}")
    if placed and _is_identity(image):
        notes.append(f"{path}: {_UNPLACED}")
    checked, more = check_image(image, str(path), not_finite)
    return Reading(checked, (*notes, *more))


def _is_identity(image: sitk.Image) -> bool:
    """Whether the first voxel lies at exactly 0 and the axes are exactly those of LPS or RAS: no scanner does that."""
    plain = ((1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1))
    return image.GetDimension() == 3 and not any(image.GetOrigin()) and image.GetDirection() in plain


def _read_meta(reader: sitk.ImageFileReader) -> sitk.Image:
    """MetaIO tells its reasons to stderr only, and takes for read what it could not decompress.

    Raises:
        RuntimeError: with those reasons, in one line.
    """
    try:
        with complaints() as said:
            image = reader.Execute()
    except RuntimeError as error:
        raise RuntimeError(_reason(said) or str(error)) from error
    if any(_NOT_UNPACKED in line for line in said):
        raise RuntimeError(_reason(said))
    return image


def _reason(said: list[str]) -> str:
    return "; ".join(" ".join(line.split()) for line in said[:2])


def _execute(reader: sitk.ImageFileReader, shear: float, name: str, notes: list[str]) -> sitk.Image:
    try:
        return reader.Execute()
    except RuntimeError as error:
        if "orthonormal" not in str(error) or shear > _MOST_SHEAR_DEGREES:
            raise
    with _permissive():
        image = reader.Execute()
    notes.append(straightened(name, shear))
    return image


def _explain(path: Path, error: str, shear: float) -> str:
    if "orthonormal" in error:
        return (
            f"{path}: the axes in its header are not at right angles (off by {shear:.1f} degrees), so it has no "
            "straight grid. Resample it to one (in Slicer: Resample Scalar/Vector/DWI Volume) and give the result."
        )
    if "Zero-valued spacing" in error:
        return f"{path}: the voxel size in its header is zero. Export the image again with its voxel size."
    last = error.strip().splitlines()[-1].strip()
    reason = "" if last.startswith("Reason:") else f" ({last})"  # MetaImage's "Reason" is the last errno of anything
    letters = ""
    if os.name == "nt" and not str(path).isascii():  # SimpleITK opens no names there that are not in the code page
        letters = " If it is sound, its path is at fault: use plain letters."
    return (
        f"{path} cannot be read as {image_suffix(path)}: it is truncated, damaged or not an image{reason}. "
        f"Copy or export the file again.{letters}"
    )


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Where to read ``path`` from: of ``x.nii.gz`` beside an ``x.nii`` ITK reads the header, and the other's voxels.

    Raises:
        UnusableInput: there is no room for the copy that this takes.
    """
    if not (path.name.lower().endswith(".nii.gz") and path.with_name(path.name[: -len(".gz")]).exists()):
        yield path
        return
    with TemporaryDirectory(prefix="mstkd-") as folder:
        try:
            copy = Path(shutil.copyfile(path, Path(folder) / "image.nii.gz"))
        except OSError as error:
            msg = (
                f"{path} cannot be read beside the file of the same name without .gz: a copy of it could not be made "
                f"({error.strerror}). Free some space, or move it to another folder."
            )
            raise UnusableInput(msg) from error
        yield copy


@contextmanager
def _permissive() -> Iterator[None]:
    """Let ITK take the straight grid nearest to a sheared sform; it offers no other switch than the environment."""
    before = os.environ.get(_PERMISSIVE)
    os.environ[_PERMISSIVE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_PERMISSIVE]
        else:
            os.environ[_PERMISSIVE] = before
