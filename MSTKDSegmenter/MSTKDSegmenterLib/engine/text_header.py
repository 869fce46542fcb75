"""What the text header of an NRRD or MetaImage file says of voxel size and orientation, which ITK fills in in silence.

Without them ITK takes 1 mm and the patient's left, back and head. Fields: https://teem.sourceforge.net/nrrd/format.html
and https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

from pathlib import Path

from .errors import UnusableInput

_LONGEST = 1 << 16
"""Bytes of a header line, and of a header; keeps what is no text from being read to its end."""
_SIZE = {"nrrd": ("spacings", "space directions"), "meta": ("ElementSpacing", "ElementSize")}
_PLACE = {"nrrd": ("space",), "meta": ("TransformMatrix", "Orientation", "Rotation")}


def missing_place(path: Path) -> str | None:
    """The field that would tell how the patient lies in an NRRD (.nrrd, .nhdr) or MetaImage (.mha, .mhd) file.

    None if the header has it, or another one that tells it too.

    Raises:
        UnusableInput: the header gives no voxel size.
    """
    kind = "nrrd" if path.suffix.lower() in (".nrrd", ".nhdr") else "meta"
    found = _fields(path, ":" if kind == "nrrd" else "=")
    if not _any(_SIZE[kind], found):
        msg = (
            f"{path}: its header gives no voxel size (none of the fields {', '.join(_SIZE[kind])}), so nobody can tell "
            "how large the head is. Export the image again with its voxel size."
        )
        raise UnusableInput(msg)
    return None if _any(_PLACE[kind], found) else _PLACE[kind][0]


def _any(fields: tuple[str, ...], found: set[str]) -> bool:
    return any(field.lower() in found for field in fields)


def _fields(path: Path, separator: str) -> set[str]:
    """Names of the fields, in lower case; an NRRD header ends with an empty line, a MetaImage's names its data last."""
    found: set[str] = set()
    with path.open("rb") as file:
        while file.tell() < _LONGEST:
            line = file.readline(_LONGEST).decode("latin-1").strip()
            name, there, value = line.partition(separator)
            if there and not value.startswith("="):  # "key:=value" is a remark of the program that wrote the file
                found.add(name.strip().lower())
            if not line or name.strip().lower() == "elementdatafile":
                break
    return found
