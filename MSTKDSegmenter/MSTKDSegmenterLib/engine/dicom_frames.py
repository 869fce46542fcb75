"""Where the frames of an enhanced (multi-frame) DICOM file lie, and how they are scaled.

SimpleITK shows no nested elements, and ITK takes voxels of 1 x 1 x 1 mm, without an error, for frames that are out of
order or not quite evenly apart. Elements and sequences: DICOM PS3.5, section 7; functional groups: PS3.3, C.7.6.16.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

_Tag = tuple[int, int]
_Elements = Mapping[_Tag, Union[bytes, "list[_Elements]"]]

_SYNTAX, _PIXELS = (0x0002, 0x0010), (0x7FE0, 0x0010)
_ITEM, _ITEM_END, _SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
_SHARED, _PER_FRAME = (0x5200, 0x9229), (0x5200, 0x9230)
_PLACE, _DIRECTION, _SIZE, _SCALING = (0x0020, 0x9113), (0x0020, 0x9116), (0x0028, 0x9110), (0x0028, 0x9145)
_AGENT, _USAGE, _GIVEN, _MEANING = (0x0018, 0x0012), (0x0018, 0x9341), (0x0018, 0x9342), (0x0008, 0x0104)
_SEQUENCES = {_SHARED, _PER_FRAME, _PLACE, _DIRECTION, _SIZE, _SCALING, _AGENT, _USAGE}
"""Known as sequences where the file does not give types."""
_IMPLICIT, _UNREAD = "1.2.840.10008.1.2", {"1.2.840.10008.1.2.1.99": "deflated", "1.2.840.10008.1.2.2": "big-endian"}
_META = 132
"""Where the first element stands, after the preamble and the mark."""
_LONG_LENGTH = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}
_UNDEFINED = 0xFFFFFFFF


@dataclass(frozen=True)
class Frame:
    """The values of one frame as the file writes them, empty where it has none.

    position: of its first voxel, mm, LPS. orientation: of rows and columns. spacing: of rows, then of columns, mm.
    scaling: slope and intercept.
    """

    position: str
    orientation: str
    spacing: str
    scaling: tuple[str, str] = ("", "")


def read_frames(path: Path) -> list[Frame]:
    """The frames in the order of the pixels.

    Raises:
        ValueError: the file has no such structure, or cannot be read; the text says which.
        OSError: it cannot be opened.
    """
    elements = _read(path)
    per_frame = elements.get(_PER_FRAME)
    if not isinstance(per_frame, list):
        raise ValueError("it says nothing about the places of its frames")
    shared = elements.get(_SHARED)
    common = shared[0] if isinstance(shared, list) and shared else {}
    return [
        Frame(
            _value(_PLACE, (0x0020, 0x0032), frame, common),
            _value(_DIRECTION, (0x0020, 0x0037), frame, common),
            _value(_SIZE, (0x0028, 0x0030), frame, common),
            (_value(_SCALING, (0x0028, 0x1053), frame, common), _value(_SCALING, (0x0028, 0x1052), frame, common)),
        )
        for frame in per_frame
    ]


def read_agent(path: Path) -> str:
    """The contrast agent of an enhanced file (PS3.3, C.7.6.4b), empty if none was given to any frame.

    Raises:
        ValueError, OSError: as ``read_frames``.
    """
    elements = _read(path)
    agents = elements.get(_AGENT)
    if not isinstance(agents, list) or not agents:
        return ""
    shared, per_frame = (elements.get(tag) for tag in (_SHARED, _PER_FRAME))
    groups = [group for part in (shared, per_frame) if isinstance(part, list) for group in part]
    given = {_value(_USAGE, _GIVEN, group) for group in groups} - {""}
    return "" if given == {"NO"} else _text(agents[0].get(_MEANING)) or "contrast agent"


def _read(path: Path) -> _Elements:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _file(data)
        except struct.error as error:
            raise ValueError("its header ends early") from error


def _value(group: _Tag, tag: _Tag, *places: _Elements) -> str:
    """The value in the first of the functional groups that has it, the frame's own or the shared ones."""
    for place in places:
        items = place.get(group)
        text = _text(items[0].get(tag)) if isinstance(items, list) and items else None
        if text is not None:
            return text
    return ""


def _text(value: object) -> str | None:
    """An element's value without its padding; None where it is no value: a sequence, or not there."""
    return value.decode("ascii", "replace").strip(" \0") if isinstance(value, bytes) else None


def _file(data: mmap.mmap) -> _Elements:
    if data[128:132] != b"DICM":
        raise ValueError("it lacks the mark of a DICOM file")
    # the first element of the meta group is how much of the group comes after it
    start = _META + 12 + struct.unpack_from("<I", data, _META + 8)[0]
    meta, _ = _elements(data, _META, start, explicit=True)
    name = _text(meta.get(_SYNTAX)) or ""
    if name in _UNREAD:
        raise ValueError(f"it is stored {_UNREAD[name]}")
    return _elements(data, start, len(data), explicit=name != _IMPLICIT)[0]


def _elements(data: mmap.mmap, at: int, end: int, explicit: bool) -> tuple[_Elements, int]:
    """The elements from ``at`` up to ``end`` or to the end of their item, pixels aside, and where they ended."""
    found: dict[_Tag, bytes | list[_Elements]] = {}
    while at < end:
        tag = struct.unpack_from("<HH", data, at)
        if tag == _ITEM_END:
            return found, at + 8
        kind = data[at + 4 : at + 6] if explicit else b""
        if kind in _LONG_LENGTH:
            length, start = struct.unpack_from("<I", data, at + 8)[0], at + 12
        elif explicit:
            length, start = struct.unpack_from("<H", data, at + 6)[0], at + 8
        else:
            length, start = struct.unpack_from("<I", data, at + 4)[0], at + 8
        stop = end if length == _UNDEFINED else start + length
        if tag == _PIXELS:
            at = _after_fragments(data, start) if length == _UNDEFINED else stop
        elif kind == b"SQ" or length == _UNDEFINED or (kind in (b"", b"UN") and tag in _SEQUENCES):
            # PS3.5, 6.2.2: what is of unknown type has no types inside either
            found[tag], at = _items(data, start, stop, explicit and kind != b"UN")
        else:
            found[tag], at = data[start:stop], stop
    return found, at


def _items(data: mmap.mmap, at: int, end: int, explicit: bool) -> tuple[list[_Elements], int]:
    items: list[_Elements] = []
    while at < end:
        tag, length = _item(data, at)
        at += 8
        if tag == _SEQUENCE_END:
            break
        item, at = _elements(data, at, end if length == _UNDEFINED else at + length, explicit)
        items.append(item)
    return items, at


def _after_fragments(data: mmap.mmap, at: int) -> int:
    """Where compressed pixels end, which are items that hold bytes."""
    while True:
        tag, length = _item(data, at)
        at += 8
        if tag == _SEQUENCE_END:
            return at
        at += length


def _item(data: mmap.mmap, at: int) -> tuple[_Tag, int]:
    """The tag and the length of an item, or of the end of its sequence."""
    group, element, length = struct.unpack_from("<HHI", data, at)
    if (group, element) not in (_ITEM, _SEQUENCE_END):
        raise ValueError("its sequences are damaged")
    return (group, element), length
