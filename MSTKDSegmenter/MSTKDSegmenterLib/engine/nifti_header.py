"""What a NIfTI file says about itself, checked before ITK reads it.

ITK fills a truncated file up with zeros, takes NaN for zero and a voxel size of zero for 1 mm, mirrors the image where
a voxel size is negative and, where the two geometries of a header disagree, goes by one of them: five changed images
without a word.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from .errors import UnusableInput
from .geometry import shear

_LENGTH, _LENGTH_OF_NIFTI_2 = 348, 540
"""Bytes of the header."""
_CHUNK = 1 << 20
_SAME_VOXEL_SIZE = 0.02
"""Relative difference of voxel sizes that rounding explains."""


@dataclass(frozen=True)
class NiftiHeader:
    """The fields that decide size and geometry; lengths in the file's units, mm as a rule."""

    shape: tuple[int, ...]
    kind: np.dtype | None
    """Type of a voxel where it is a floating-point number, which may be NaN, else None."""
    bits_per_voxel: int
    data_offset: int
    voxel_size: tuple[float, float, float]
    qform: np.ndarray | None
    sform: np.ndarray | None
    """Voxel indices to RAS (3, 4), each None where the header has none."""
    placed: bool
    """Whether the header says anything about orientation and position (sform_code or qform_code above zero)."""

    @property
    def axes(self) -> np.ndarray | None:
        """Columns of the sform (3, 3)."""
        return None if self.sform is None else self.sform[:, :3]

    @property
    def expected_bytes(self) -> int:
        voxels = 1
        for length in self.shape:
            voxels *= max(1, length)
        return self.data_offset + voxels * self.bits_per_voxel // 8

    def apart_mm(self) -> float:
        """How far the same corner voxel lies apart by the two geometries, at most; 0 where there is one."""
        if self.qform is None or self.sform is None or len(self.shape) < 3:
            return 0.0
        ends = [(0, length - 1) for length in self.shape[:3]]
        corners = np.array([(*index, 1) for index in product(*ends)], dtype=float)
        return float(np.linalg.norm(corners @ (self.qform - self.sform).T, axis=1).max())

    def shear_degrees(self) -> float:
        """How far the sform's axes are from right angles."""
        if self.axes is None:
            return 0.0
        lengths = np.linalg.norm(self.axes, axis=0)
        if not np.all(lengths > 0):
            return 90.0
        return float(np.degrees(np.arcsin(min(1.0, shear(self.axes / lengths)))))


def check_nifti(path: Path) -> tuple[NiftiHeader, int]:
    """The header of a complete NIfTI-1 file with a usable voxel size; how many voxels are NaN or infinite.

    Raises:
        UnusableInput: not NIfTI-1, packed though its name does not say so, truncated or damaged, a voxel size that is
            not above zero or contradicts itself, or two geometries that are mirror images of each other.
    """
    header, length, not_finite = _scan(path)
    if header is None:
        msg = f"{path} is not a NIfTI image: its header is not one. Export the image again, as NIfTI, NRRD or MHA."
        raise UnusableInput(msg)
    if length < header.expected_bytes:
        msg = (
            f"{path} is truncated: it holds {length} bytes of {header.expected_bytes} that its header announces. "
            "Copy or export the file again."
        )
        raise UnusableInput(msg)
    if len(header.shape) >= 3:
        _check_voxel_size(path, header)
        _check_sides(path, header)
    return header, not_finite


def _check_voxel_size(path: Path, header: NiftiHeader) -> None:
    size = np.array(header.voxel_size)
    if not (np.all(np.isfinite(size)) and np.all(size > 0)):
        msg = (
            f"{path}: the voxel size in its header is {_by(header.voxel_size)} mm, expected lengths above zero. "
            "Export the image again with its voxel size."
        )
        raise UnusableInput(msg)
    if header.axes is None:
        return
    lengths = np.linalg.norm(header.axes, axis=0)
    if np.any(np.abs(lengths - size) > _SAME_VOXEL_SIZE * size):
        msg = (
            f"{path}: the header gives two voxel sizes, {_by(size)} mm (pixdim) and {_by(lengths)} mm (sform). "
            "Export the image again from the program that knows the right one."
        )
        raise UnusableInput(msg)


def _check_sides(path: Path, header: NiftiHeader) -> None:
    if header.qform is None or header.axes is None:
        return
    if np.linalg.det(header.qform[:, :3]) * np.linalg.det(header.axes) < 0:
        raise UnusableInput(
            f"{path}: the two geometries in its header, qform and sform, are mirror images of each other, so nobody "
            "can tell left from right. Export the image again, or set both alike where the right one is known."
        )


def _by(lengths: np.ndarray | tuple[float, ...]) -> str:
    return " x ".join(f"{length:.4g}" for length in lengths)


def _scan(path: Path) -> tuple[NiftiHeader | None, int, int]:
    """Header, length of the (decompressed) file and number of voxels that are not finite.

    Reading to the end also verifies gzip's checksum.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    if packed and path.suffix.lower() == ".nii":
        msg = f"{path} is a compressed file whose name does not say so. Rename it to {path.name}.gz."
        raise UnusableInput(msg)
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(_LENGTH)
            header = _parse(start, path)
            if header is None or (header.kind is None and not packed):
                return header, path.stat().st_size, 0
            length = len(start)
            not_finite = 0
            rest = start[header.data_offset :] if header.kind is not None else b""
            ahead = max(0, header.data_offset - len(start))  # what is left of a long extension of the header
            while chunk := file.read(_CHUNK):
                length += len(chunk)
                if header.kind is not None:
                    rest += chunk[ahead:]
                    ahead = max(0, ahead - len(chunk))
                    whole = len(rest) - len(rest) % header.kind.itemsize
                    values = np.frombuffer(rest[:whole], header.kind)
                    not_finite += values.size - int(np.count_nonzero(np.isfinite(values)))
                    rest = rest[whole:]
    except (EOFError, zlib.error, OSError) as error:
        msg = f"{path} is truncated or damaged: {error}. Copy or export the file again."
        raise UnusableInput(msg) from error
    return header, length, not_finite


_PLACES = {
    "dim": "40 8h",
    "kind": "70 h",
    "bits": "72 h",
    "pixdim": "76 8f",
    "offset": "108 f",
    "qform code": "252 h",
    "sform code": "254 h",
    "qform": "256 6f",
    "sform": "280 12f",
}
"""Position and ``struct`` format of the fields."""
_FLOATING = {16: "f4", 64: "f8"}


def _parse(start: bytes, path: Path) -> NiftiHeader | None:
    for order in "<>":
        length = struct.unpack_from(order + "i", start)[0] if len(start) >= 4 else 0
        if length == _LENGTH_OF_NIFTI_2 and start[4:7] in (b"n+2", b"ni2"):
            msg = f"{path} is NIfTI-2, which is not read here. Save it as NIfTI-1, NRRD or MHA."
            raise UnusableInput(msg)
        if length == _LENGTH and start[344:347] in (b"n+1", b"ni1"):
            return _fields(start, order)
    return None


def _fields(start: bytes, order: str) -> NiftiHeader:
    def take(field: str) -> tuple:
        position, kind = _PLACES[field].split()
        return struct.unpack_from(order + kind, start, int(position))

    dims, sizes = take("dim"), take("pixdim")
    has_qform, has_sform = (take(f"{form} code")[0] > 0 for form in ("qform", "sform"))
    kind = _FLOATING.get(take("kind")[0])
    return NiftiHeader(
        shape=tuple(dims[1 : 1 + max(0, min(7, dims[0]))]),
        kind=None if kind is None else np.dtype(order + kind),
        bits_per_voxel=take("bits")[0],
        data_offset=int(take("offset")[0]),
        voxel_size=(float(sizes[1]), float(sizes[2]), float(sizes[3])),
        qform=_from_quaternion(take("qform"), sizes) if has_qform else None,
        sform=np.array(take("sform"), dtype=float).reshape(3, 4) if has_sform else None,
        placed=has_qform or has_sform,
    )


def _from_quaternion(qform: tuple[float, ...], pixdim: tuple[float, ...]) -> np.ndarray:
    """Voxel indices to RAS (3, 4), from b, c, d and the offsets (https://nifti.nimh.nih.gov, nifti1.h, method 2)."""
    b, c, d = qform[:3]
    a = np.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    size = np.array(pixdim[1:4], dtype=float) * (1, 1, -1 if pixdim[0] < 0 else 1)
    return np.column_stack([rotation * size, np.array(qform[3:], dtype=float)])
