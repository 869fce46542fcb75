"""Writes an enhanced (multi-frame) MR file element by element, after DICOM PS3.5 section 7: no library here does."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
_LONG = ("OB", "OW", "SQ", "UN")
_UNDEFINED = 0xFFFFFFFF


class Encoder:
    """explicit: with types. endless: sequences and items end with a mark instead of giving their length."""

    def __init__(self, explicit: bool = True, endless: bool = False) -> None:
        self.explicit, self.endless = explicit, endless

    def element(self, group: int, number: int, kind: str, value: bytes | str | int) -> bytes:
        if isinstance(value, int):
            value = struct.pack("<H" if kind == "US" else "<I", value)
        raw = value.encode() if isinstance(value, str) else value
        raw += (b"\0" if kind in ("UI", "OB") else b" ") * (len(raw) % 2)
        return self._head(group, number, kind, len(raw)) + raw

    def sequence(self, group: int, number: int, items: Sequence[bytes], kind: str = "SQ") -> bytes:
        ended = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if self.endless else b""
        content = b"".join(
            struct.pack("<HHI", 0xFFFE, 0xE000, _UNDEFINED if self.endless else len(item)) + item + ended
            for item in items
        )
        if self.endless:
            content += struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
        return self._head(group, number, kind, _UNDEFINED if self.endless else len(content)) + content

    def _head(self, group: int, number: int, kind: str, length: int) -> bytes:
        tag = struct.pack("<HH", group, number)
        if not self.explicit:
            return tag + struct.pack("<I", length)
        return tag + kind.encode() + (struct.pack("<xxI", length) if kind in _LONG else struct.pack("<H", length))


def write(
    path: Path,
    values: np.ndarray,
    heights: Sequence[float],
    spacing: tuple[float, float] = (4.0, 3.0),
    explicit: bool = True,
    endless: bool = False,
    slopes: Sequence[float] | None = None,
    extra: bytes = b"",
    shared: bytes = b"",
) -> Path:
    """Frames ``values`` (frame, row, column) at (-90, -80, ``heights``) mm, rows and columns ``spacing`` mm apart.

    Args:
        slopes: by which each frame is scaled.
        extra: elements to put before the functional groups. shared: more of the group that all frames share.
    """
    meta, data = Encoder(), Encoder(explicit, endless)
    head = meta.element(2, 2, "UI", ENHANCED_MR) + meta.element(2, 3, "UI", "1.2.3.9")
    head += meta.element(2, 0x10, "UI", EXPLICIT if explicit else IMPLICIT) + meta.element(2, 0x12, "UI", "1.2.3")
    head = meta.element(2, 0, "UL", len(head)) + head
    frames, rows, columns = values.shape
    body = data.element(8, 0x16, "UI", ENHANCED_MR) + data.element(8, 0x18, "UI", "1.2.3.9")
    body += data.element(8, 0x60, "CS", "MR") + data.element(8, 0x103E, "LO", "AX FLAIR")
    body += data.element(0x20, 0xE, "UI", "1.2.3.4") + data.element(0x20, 0x11, "IS", "5")
    for number, kind, value in (
        (2, "US", 1), (4, "CS", "MONOCHROME2"), (8, "IS", str(frames)), (0x10, "US", rows), (0x11, "US", columns),
        (0x100, "US", 16), (0x101, "US", 16), (0x102, "US", 15), (0x103, "US", 0),
    ):  # fmt: skip
        body += data.element(0x28, number, kind, value)
    body += extra
    orientation = data.sequence(0x20, 0x9116, [data.element(0x20, 0x37, "DS", "1\\0\\0\\0\\1\\0")])
    size = data.sequence(0x28, 0x9110, [data.element(0x28, 0x30, "DS", f"{spacing[0]}\\{spacing[1]}")])
    body += data.sequence(0x5200, 0x9229, [orientation + size + shared])
    groups = []
    for index, height in enumerate(heights):
        place = data.sequence(0x20, 0x9113, [data.element(0x20, 0x32, "DS", f"-90\\-80\\{height:g}")])
        if slopes is not None:
            scaling = data.element(0x28, 0x1052, "DS", "0") + data.element(0x28, 0x1053, "DS", f"{slopes[index]:g}")
            place += data.sequence(0x28, 0x9145, [scaling])
        groups.append(place)
    body += data.sequence(0x5200, 0x9230, groups)
    body += data.element(0x7FE0, 0x10, "OW", values.astype("<u2").tobytes())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + head + body)
    return path
