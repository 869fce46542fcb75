"""What the text header of an NRRD or MetaImage file says of voxel size and orientation, which ITK fills in in silence.

Without them ITK takes 1 mm and the patient's left, back and head; it takes any space for the patient's, and mirrors the
image where a voxel size is negative. Fields: https://teem.sourceforge.net/nrrd/format.html and
https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from .errors import UnusableInput

_LONGEST = 1 << 16
"""Bytes of a header line, and of a header; keeps what is no text from being read to its end."""
NOTHING_SAID = "its header says nothing about orientation or position ({why}). Its voxel axes"
_LENGTHS = ("spacings", "ElementSpacing", "ElementSize")
_SIZE = {"nrrd": ("spacings", "space directions"), "meta": ("ElementSpacing", "ElementSize")}
_PLACE = {"nrrd": ("space",), "meta": ("TransformMatrix", "Orientation", "Rotation")}
_SPACES = ("ras", "las", "lps", "right-anterior-superior", "left-anterior-superior", "left-posterior-superior")
"""Of a patient; the other spaces of NRRD are a scanner's, or nobody's."""


def why_unplaced(path: Path) -> str | None:
    """Why an NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) header does not tell how the patient lies, and what ITK
    takes for the patient's axes, as a sentence up to there; None if it does.

    Raises:
        UnusableInput: the header gives no voxel size, or one that is not above zero.
    """
    kind = "nrrd" if path.suffix.lower() in (".nrrd", ".nhdr") else "meta"
    found = _fields(path, ":" if kind == "nrrd" else "=")
    if not _any(_SIZE[kind], found):
        msg = (
            f"{path}: its header gives no voxel size (none of the fields {', '.join(_SIZE[kind])}), so nobody can tell "
            "how large the head is. Export the image again with its voxel size."
        )
        raise UnusableInput(msg)
    for field in _LENGTHS:
        numbers = _numbers(found.get(field.lower(), ""))
        if len(numbers) <= 3 and not all(0 < number < math.inf for number in numbers):  # those of time may be NaN
            msg = (
                f"{path}: the field {field!r} of its header is {found[field.lower()]!r}, expected lengths above zero. "
                "Export the image again with its voxel size."
            )
            raise UnusableInput(msg)
    if not _any(_PLACE[kind], found):
        return NOTHING_SAID.format(why=f"no field {_PLACE[kind][0]!r}")
    if kind == "nrrd" and found["space"].lower() not in _SPACES:
        return f"its header places it in a space that is not the patient's ({found['space']!r}). The axes of that space"
    return None


def _any(fields: tuple[str, ...], found: Iterable[str]) -> bool:
    return any(field.lower() in found for field in fields)


def _numbers(value: str) -> list[float]:
    try:
        return [float(word) for word in value.split()]
    except ValueError:
        return [math.nan]


def _fields(path: Path, separator: str) -> dict[str, str]:
    """Values by the fields' names in lower case; an NRRD header ends with an empty line, a MetaImage's names its data
    last."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _LONGEST:
            line = file.readline(_LONGEST).decode("latin-1").strip()
            name, there, value = line.partition(separator)
            if there and not value.startswith("="):  # "key:=value" is a remark of the program that wrote the file
                found[name.strip().lower()] = value.strip()
            if not line or name.strip().lower() == "elementdatafile":
                break
    return found
