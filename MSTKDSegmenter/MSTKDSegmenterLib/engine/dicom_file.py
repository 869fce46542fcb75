"""One DICOM file: whether it is one, and its header."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import SimpleITK as sitk

_FIRST_GROUPS = (b"\x02\x00", b"\x08\x00")
_LONGEST_FIRST_VALUE = 256


def is_dicom(path: Path) -> bool:
    """Whether a file carries the DICOM mark, or begins as old ones do that were stored without it.

    A DICOMDIR does as well but holds no image.
    """
    if path.name.upper() == "DICOMDIR":
        return False
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    return start[128:] == b"DICM" or _begins_with_an_element(start)


def has_content(path: Path) -> bool:
    """Whether there is anything in a file, and it may be read."""
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _begins_with_an_element(start: bytes) -> bool:
    """Whether a file begins with a short element of group 2 or 8, its type as two letters or implicit."""
    if len(start) < 132 or start[:2] not in _FIRST_GROUPS:
        return False
    type_or_length = start[4:8]
    explicit = type_or_length[:2].isalpha() and type_or_length[:2].isupper()
    return explicit or int.from_bytes(type_or_length, "little") <= _LONGEST_FIRST_VALUE


def read_header(path: Path) -> dict[str, str] | None:
    """The values by tag ("0008,103e") without private ones, or None where the file cannot be read.

    GDCM parses the whole file, so that a truncated one is among those.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    reader.LoadPrivateTagsOff()
    try:
        with without_warnings():
            reader.ReadImageInformation()
    except RuntimeError:
        return None
    return {key.lower().replace("|", ","): _text(reader.GetMetaData(key)) for key in reader.GetMetaDataKeys()}


def _text(value: str) -> str:
    """``value`` without padding; bytes that are no UTF-8, which SimpleITK hands on as surrogates, read as Latin-1."""
    raw = value.encode("utf-8", "surrogateescape")
    try:
        return raw.decode("utf-8").strip(" \0")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip(" \0")


@contextmanager
def without_warnings() -> Iterator[None]:
    """ITK's warnings name no remedy and go to stderr, where one line of ours is expected; we check by ourselves."""
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
