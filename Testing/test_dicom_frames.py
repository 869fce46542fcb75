"""Enhanced MR files, one of many frames: read where the frames lie, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import enhanced_mr
import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.dicom_file import without_warnings
from MSTKDSegmenterLib.engine.dicom_frames import read_agent, read_frames
from MSTKDSegmenterLib.engine.dicom_series import find_series
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.reading import Reading, read
from MSTKDSegmenterLib.engine.sequences import recognise_dicom

FRAMES = 36
HEIGHTS = [-40 + 4.0 * index for index in range(FRAMES)]


def values(order: Sequence[int] = range(FRAMES)) -> np.ndarray:
    """A head's size of noise, frames in the given order."""
    stack = np.random.default_rng(0).integers(1, 1000, (FRAMES, 40, 48)).astype(np.uint16)
    return stack[list(order)]


def in_order(order: Sequence[int], path: Path, **options) -> Reading:
    return read(enhanced_mr.write(path, values(order), [HEIGHTS[index] for index in order], **options))


def refused(path: Path, *arguments, **options) -> str:
    with pytest.raises(UnusableInput) as caught:
        read(enhanced_mr.write(path, *arguments, **options))
    return str(caught.value)


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("endless", [True, False])
def test_even_frames_are_read_as_itk_reads_them(tmp_path: Path, explicit: bool, endless: bool) -> None:
    reading = in_order(range(FRAMES), tmp_path / "x.dcm", explicit=explicit, endless=endless)
    with without_warnings():
        itk = sitk.ReadImage(str(tmp_path / "x.dcm"))
    assert not reading.notes
    assert reading.image.GetSpacing() == pytest.approx((3, 4, 4)) == itk.GetSpacing()
    assert reading.image.GetOrigin() == pytest.approx((-90, -80, -40)) == itk.GetOrigin()
    assert reading.image.GetDirection() == pytest.approx(itk.GetDirection())
    assert np.array_equal(sitk.GetArrayFromImage(reading.image), sitk.GetArrayFromImage(itk))


@pytest.mark.parametrize(
    "order", [[*range(0, FRAMES, 2), *range(1, FRAMES, 2)], [*reversed(range(FRAMES))]], ids=["interleaved", "backward"]
)
def test_frames_are_sorted_by_position(tmp_path: Path, order: list[int]) -> None:
    image = in_order(order, tmp_path / "x.dcm").image
    assert np.array_equal(sitk.GetArrayFromImage(image), values())
    assert image.GetSpacing() == pytest.approx((3, 4, 4))
    assert image.GetOrigin() == pytest.approx((-90, -80, -40))


def test_rounded_positions_do_not_cost_the_voxel_size(tmp_path: Path) -> None:
    heights = [round(-40 + index * 11 / 3, 1) for index in range(FRAMES)]
    reading = read(enhanced_mr.write(tmp_path / "x.dcm", values(), heights))
    assert not reading.notes
    assert reading.image.GetSpacing() == pytest.approx((3, 4, 3.7))


def test_a_missing_frame_is_interpolated_and_said(tmp_path: Path) -> None:
    there = [index for index in range(FRAMES) if index != 9]
    reading = in_order(there, tmp_path / "x.dcm")
    assert reading.image.GetSize() == (48, 40, FRAMES)
    middle = sitk.GetArrayFromImage(reading.image)[9]
    assert np.allclose(middle, values()[[8, 10]].astype(float).mean(axis=0))
    assert "4.00 to 8.00 mm apart; slices may be missing" in reading.notes[-1]


def test_several_echoes_in_one_file_are_refused(tmp_path: Path) -> None:
    assert "several images per slice position (36 images at 18 positions" in refused(
        tmp_path / "x.dcm", values(), [HEIGHTS[index // 2] for index in range(FRAMES)]
    )


def test_frames_that_are_scaled_differently_are_refused(tmp_path: Path) -> None:
    told = refused(tmp_path / "x.dcm", values(), HEIGHTS, slopes=[1 + index for index in range(FRAMES)])
    assert "36 frames, and its frames are scaled differently; export it as one file per slice" in told
    assert in_order(range(FRAMES), tmp_path / "same.dcm", slopes=[2.0] * FRAMES).image.GetSize() == (48, 40, FRAMES)


def test_a_file_with_fewer_places_than_frames_is_refused(tmp_path: Path) -> None:
    told = refused(tmp_path / "x.dcm", values(), HEIGHTS[:-1])
    assert "it tells the places of 35 frames" in told


def test_a_voxel_size_of_zero_is_refused(tmp_path: Path) -> None:
    assert "voxel sizes from 0 to 3 mm" in refused(tmp_path / "x.dcm", values(), HEIGHTS, spacing=(0, 3))


def test_a_picture_and_private_groups_on_the_way_are_passed_over(tmp_path: Path) -> None:
    """An icon has compressed pixels of its own; a private sequence of unknown type repeats the names of the places."""
    plain, endless = enhanced_mr.Encoder(explicit=False), enhanced_mr.Encoder(endless=True)
    place = plain.sequence(0x20, 0x9113, [plain.element(0x20, 0x32, "DS", "7\\7\\7")])
    private = enhanced_mr.Encoder(explicit=True).element(0x2005, 0x140F, "UN", plain.sequence(0x2005, 0x10, [place]))
    fragments = endless.sequence(0x7FE0, 0x10, [], kind="OB")[:-8] + b"\xfe\xff\x00\xe0\x04\0\0\0\x01\x02\x03\x04"
    icon = endless.sequence(0x88, 0x200, [fragments + b"\xfe\xff\xdd\xe0\0\0\0\0"])
    path = enhanced_mr.write(tmp_path / "x.dcm", values(), HEIGHTS, extra=icon + private)
    assert [frame.position for frame in read_frames(path)] == [f"-90\\-80\\{height:g}" for height in HEIGHTS]


@pytest.mark.parametrize("length", [140, 300, 600, 2000])
def test_a_header_that_ends_early_is_an_error_with_a_reason(tmp_path: Path, length: int) -> None:
    whole = enhanced_mr.write(tmp_path / "x.dcm", values(), HEIGHTS).read_bytes()
    (tmp_path / "short.dcm").write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r"its header ends early|says nothing about the places"):
        read_frames(tmp_path / "short.dcm")


def agent(encoder: enhanced_mr.Encoder, name: str = "Gadolinium") -> bytes:
    meaning = encoder.element(0x8, 0x104, "LO", name) if name else b""
    return encoder.sequence(0x18, 0x12, [encoder.element(0x8, 0x100, "SH", "C-17800") + meaning])


def given(encoder: enhanced_mr.Encoder, whether: str) -> bytes:
    """Whether it was there when the frames were made."""
    return encoder.sequence(0x18, 0x9341, [encoder.element(0x18, 0x9342, "CS", whether)])


@pytest.mark.parametrize("explicit", [True, False])
@pytest.mark.parametrize("endless", [True, False])
def test_contrast_agent_stands_in_a_sequence(tmp_path: Path, explicit: bool, endless: bool) -> None:
    encoder = enhanced_mr.Encoder(explicit, endless)

    def found(extra: bytes, shared: bytes = b"") -> str:
        form = {"explicit": explicit, "endless": endless, "extra": extra, "shared": shared}
        return read_agent(enhanced_mr.write(tmp_path / "x.dcm", values(), HEIGHTS, **form))

    assert found(b"") == ""
    assert found(agent(encoder)) == "Gadolinium"
    assert found(agent(encoder, name="")) == "contrast agent"
    assert found(agent(encoder), given(encoder, "YES")) == "Gadolinium"
    assert found(agent(encoder), given(encoder, "NO")) == ""


def test_contrast_agent_makes_an_enhanced_t1_a_t1ce(tmp_path: Path) -> None:
    for extra, expected in ((b"", "T1"), (agent(enhanced_mr.Encoder()), "T1ce")):
        path = enhanced_mr.write(tmp_path / "x.dcm", values(), HEIGHTS, extra=extra)
        path.write_bytes(path.read_bytes().replace(b"AX FLAIR", b"AX T1 3D"))
        ((series,), _) = find_series([path])
        assert recognise_dicom(series.tags).sequence == expected
