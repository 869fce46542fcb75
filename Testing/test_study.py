"""Studies: reading images, sorting folders, and refusing what cannot be used with a message that helps.

The images are noise in an ellipsoid, 96 mm across or more; DICOM series are written slice by slice with SimpleITK.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import struct
import tarfile
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.dicom_series import find_series
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.nifti_header import check_nifti
from MSTKDSegmenterLib.engine.reading import check_path, read, read_image
from MSTKDSegmenterLib.engine.study import (
    Study,
    likeness,
    overlap,
    same_image,
    study_from_files,
    study_from_folder,
    study_from_images,
)
from MSTKDSegmenterLib.engine.study_folder import without_common_start
from phantom import make_study

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = (24, 26, 20)
SPACING = (4.0, 4.0, 5.0)


def phantom(seed: int, size: tuple[int, int, int] = SIZE, spacing: tuple[float, float, float] = SPACING) -> sitk.Image:
    """An int16 image of positive noise inside an ellipsoid, 0 outside, centred on the origin of space."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, length) for length in reversed(size)), indexing="ij")
    values = np.random.default_rng(seed).integers(100, 1000, z.shape) * (x**2 + y**2 + z**2 < 0.9)
    image = sitk.GetImageFromArray(values.astype(np.int16))
    image.SetSpacing(spacing)
    image.SetOrigin([-length * step / 2 for length, step in zip(size, spacing)])
    return image


def with_values(image: sitk.Image, values: np.ndarray) -> sitk.Image:
    changed = sitk.GetImageFromArray(values)
    changed.CopyInformation(image)
    return changed


def write(path: Path, image: sitk.Image) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def write_series(
    folder: Path,
    image: sitk.Image,
    uid: str,
    tags: dict[str, str],
    slices: Sequence[int] | None = None,
    prefix: str = "IM",
) -> Path:
    """``image`` as a DICOM series, last slice first, so that reading in the order of the names would be wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = image.GetDirection()
    common = {
        "0008|0060": "MR",
        "0010|0020": "P1",
        "0020|000d": "1.2.3",
        "0020|000e": uid,
        "0008|0020": "20240102",
        "0020|0037": "\\".join(str(direction[i]) for i in (0, 3, 6, 1, 4, 7)),
        **tags,
    }
    for index in slices if slices is not None else range(image.GetDepth()):
        one = image[:, :, index]
        for tag, value in common.items():
            one.SetMetaData(tag, value)
        position = image.TransformIndexToPhysicalPoint((0, 0, index))
        one.SetMetaData("0020|0032", "\\".join(f"{value:.6f}" for value in position))
        one.SetMetaData("0008|0018", f"{uid}.{index + 1}")
        one.SetMetaData("0020|0013", str(image.GetDepth() - index))
        writer.SetFileName(str(folder / f"{prefix}{image.GetDepth() - index:04d}"))
        if not writer.GetFileName().endswith(".dcm"):
            writer.SetFileName(writer.GetFileName() + ".dcm")
        writer.Execute(one)
    return folder


def drop_fields(path: Path, fields: Sequence[bytes], instead: bytes = b"") -> None:
    """Take fields out of the text header of an NRRD or MetaImage file; ``instead`` takes the place of the first."""
    lines = path.read_bytes().split(b"\n")
    there = [place for place, line in enumerate(lines[:40]) if re.split(b"[:=]", line)[0].strip() in fields]
    assert there
    kept = [line for place, line in enumerate(lines) if place not in there]
    if instead:
        kept.insert(there[0], instead)
    path.write_bytes(b"\n".join(kept))


def refused(path: Path) -> str:
    """The message with which ``path`` is refused as an image; it names the file and fits one line."""
    with pytest.raises(UnusableInput) as caught:
        read_image(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


class TestReading:
    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd"])
    def test_every_format_gives_the_same_float_image(self, tmp_path: Path, ending: str) -> None:
        original = phantom(1)
        image = read_image(write(tmp_path / f"x{ending}", original))
        assert image.GetPixelID() == sitk.sitkFloat32
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))
        assert np.allclose(image.GetOrigin(), original.GetOrigin())
        assert np.allclose(image.GetSpacing(), original.GetSpacing())

    def test_a_packed_file_beside_an_unpacked_one_of_its_name_is_read_itself(self, tmp_path: Path) -> None:
        write(tmp_path / "x.nii", phantom(1))
        image = read_image(write(tmp_path / "x.nii.gz", phantom(2)))
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(phantom(2)))

    def test_an_oblique_flipped_image_keeps_its_place_in_space(self, tmp_path: Path) -> None:
        original = phantom(1)
        turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.5).GetMatrix()
        flipped = np.array(turn).reshape(3, 3) @ np.diag([-1.0, 1.0, 1.0])
        original.SetDirection(flipped.ravel())
        image = read_image(write(tmp_path / "x.nii.gz", original))
        for index in ((0, 0, 0), (23, 25, 19), (7, 3, 11)):
            place = original.TransformIndexToPhysicalPoint(index)
            assert np.allclose(image.TransformIndexToPhysicalPoint(index), place, atol=1e-3)

    def test_a_four_dimensional_image_of_one_frame_is_read_as_three_dimensional(self, tmp_path: Path) -> None:
        original = phantom(1)
        frames = sitk.JoinSeries([original])
        for ending in (".nii.gz", ".nrrd", ".mha"):
            image = read_image(write(tmp_path / f"x{ending}", frames))
            assert image.GetDimension() == 3
            assert np.allclose(image.GetOrigin(), original.GetOrigin(), atol=1e-4)
            assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))

    def test_a_folder_with_one_image_file_is_that_image(self, tmp_path: Path) -> None:
        """BraTS 2015, and unpacked Kaggle archives, have a folder per image, the latter with a file's name."""
        write(tmp_path / "case_flair.nii" / "a.nii", phantom(1))
        (tmp_path / "case_flair.nii" / "readme.txt").write_text("x")
        (tmp_path / "case_flair.nii" / "._a.nii").write_text("left by a Mac")
        assert read_image(tmp_path / "case_flair.nii").GetSize() == SIZE

    def test_a_slightly_sheared_header_is_read_on_the_nearest_grid_and_said(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.nii", phantom(1))
        set_sform(path, [[4, 0.02, 0, 0], [0, 4, 0, 0], [0, 0, 5, 0]])
        reading = read(path)
        assert np.allclose(reading.image.GetSpacing(), SPACING, rtol=1e-3)
        assert "degrees from right angles" in reading.notes[0]

    def test_slightly_sheared_axes_of_another_format_are_made_straight_and_said(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.nrrd", phantom(1))
        content = path.read_bytes()
        assert b"(4,0,0)" in content
        path.write_bytes(content.replace(b"(4,0,0)", b"(4,0.03,0)"))
        reading = read(path)
        axes = np.reshape(reading.image.GetDirection(), (3, 3))
        assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
        # half of the angle, arctan(0.03 / 4), falls to each of the two axes
        assert np.isclose(axes[1, 0], 0.03 / 4 / 2, rtol=1e-3)
        assert "0.43 degrees from right angles" in reading.notes[0]

    @pytest.mark.parametrize(
        ("ending", "field"),
        [(".nrrd", "space"), (".nhdr", "space"), (".mha", "TransformMatrix"), (".mhd", "TransformMatrix")],
    )
    def test_a_text_header_without_orientation_is_pointed_out(self, tmp_path: Path, ending: str, field: str) -> None:
        path = write(tmp_path / f"x{ending}", phantom(1))
        assert read(path).notes == ()
        size = (b"space directions", b"spacings: 4 4 5") if field == "space" else (b"", b"")
        drop_fields(path, (field.encode(), size[0], b"space origin"), size[1])
        reading = read(path)
        assert np.allclose(reading.image.GetSpacing(), SPACING)
        assert f"no field '{field}'" in reading.notes[0]
        assert "left, back and head" in reading.notes[0]

    @pytest.mark.parametrize("space", [b"3D-left-handed", b"3D-right-handed", b"scanner-xyz"])
    def test_a_space_that_is_not_the_patients_is_pointed_out(self, tmp_path: Path, space: bytes) -> None:
        path = write(tmp_path / "x.nrrd", phantom(1))
        drop_fields(path, (b"space",), b"space: " + space)
        (note,) = read(path).notes
        assert f"places it in a space that is not the patient's ('{space.decode()}'). The axes of that space" in note

    @pytest.mark.parametrize("space", [b"RAS", b"left-posterior-superior", b"LAS"])
    def test_the_spaces_of_a_patient_are_not(self, tmp_path: Path, space: bytes) -> None:
        path = write(tmp_path / "x.nrrd", phantom(1))
        drop_fields(path, (b"space",), b"space: " + space)
        assert read(path).notes == ()

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    def test_a_header_without_orientation_is_pointed_out_with_what_was_assumed(
        self, tmp_path: Path, ending: str
    ) -> None:
        path = write(tmp_path / "x.nii", phantom(1))
        assert read(path).notes == ()
        content = bytearray(path.read_bytes())
        struct.pack_into("<2h", content, 252, 0, 0)
        path = tmp_path / f"y{ending}"
        path.write_bytes(gzip.compress(bytes(content)) if ending == ".nii.gz" else content)
        reading = read(path)
        assert np.array_equal(np.reshape(reading.image.GetDirection(), (3, 3)), np.eye(3))
        assert "qform_code and sform_code are 0" in reading.notes[0]
        assert "left, back and head" in reading.notes[0]
        assert study_from_files({"T1": path}).notes == list(reading.notes)

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_place_that_no_scanner_gives_is_pointed_out(self, tmp_path: Path, ending: str, sign: int) -> None:
        image = phantom(1)
        image.SetDirection((sign, 0, 0, 0, sign, 0, 0, 0, 1))
        image.SetOrigin((0, 0, 0))
        (note,) = read(write(tmp_path / f"x{ending}", image)).notes
        assert "first voxel at exactly 0 and plain axes" in note
        image.SetOrigin((0, -239, 0))  # BraTS
        assert read(write(tmp_path / f"x{ending}", image)).notes == ()

    def test_two_geometries_that_disagree_are_pointed_out(self, tmp_path: Path) -> None:
        affine = nib.load(write(tmp_path / "x.nii", phantom(1))).affine
        for moved, said in ((0.5, ()), (30.0, ("qform and sform, lie up to 30 mm apart",))):
            other = affine.copy()
            other[2, 3] += moved
            notes = read(with_forms(tmp_path / "x.nii", affine, other)).notes
            assert len(notes) == len(said)
            assert all(text in note for text, note in zip(said, notes, strict=True))

    def test_two_geometries_that_mirror_each_other_are_refused(self, tmp_path: Path) -> None:
        affine = nib.load(write(tmp_path / "x.nii", phantom(1))).affine
        path = with_forms(tmp_path / "x.nii", affine, np.diag([-1, 1, 1, 1]) @ affine)
        assert "nobody can tell left from right" in refused(path)

    def test_the_qform_is_read_as_another_library_reads_it(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for _ in range(8):
            axes = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.choice([-1, 1])
            affine = np.eye(4)
            affine[:3] = np.column_stack([axes * rng.uniform(0.5, 5, 3), rng.normal(0, 100, 3)])
            header = check_nifti(with_forms(tmp_path / "x.nii", affine, affine))[0]
            np.testing.assert_allclose(header.qform, affine[:3], atol=1e-4)
            assert header.apart_mm() < 1e-3

    @pytest.mark.parametrize("code", ["qform", "sform"])
    def test_one_of_the_two_geometries_of_a_header_is_enough(self, tmp_path: Path, code: str) -> None:
        path = write(tmp_path / "x.nii", phantom(1))
        for codes in ((code == "qform", code == "sform"), (0, 0)):
            content = bytearray(path.read_bytes())
            struct.pack_into("<2h", content, 252, *codes)
            path.write_bytes(content)
            assert check_nifti(path)[0].placed == any(codes)


def with_forms(path: Path, qform: np.ndarray, sform: np.ndarray) -> Path:
    """The phantom with two geometries, written by another library."""
    image = nib.Nifti1Image(sitk.GetArrayFromImage(phantom(1)).T, None)
    image.set_qform(qform, 1)
    image.set_sform(sform, 1)
    nib.save(image, path)
    return path


def set_sform(path: Path, rows: list[list[float]]) -> None:
    content = bytearray(path.read_bytes())
    struct.pack_into("<2h", content, 252, 0, 1)
    struct.pack_into("<12f", content, 280, *np.ravel(rows))
    path.write_bytes(content)


class TestFilesThatAreNoImage:
    def test_a_path_that_does_not_exist(self, tmp_path: Path) -> None:
        assert "does not exist" in refused(tmp_path / "t1.nii.gz")

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".dcm", ""])
    def test_an_empty_file(self, tmp_path: Path, ending: str) -> None:
        (tmp_path / f"x{ending}").touch()
        assert "0 bytes" in refused(tmp_path / f"x{ending}")

    @pytest.mark.parametrize("name", ["x.nii", "x.nii.gz", "x.nrrd", "x.mha", "x.txt", "x.dcm", "x"])
    def test_text(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_text("this is no image " * 100)
        refused(tmp_path / name)

    def test_a_picture(self, tmp_path: Path) -> None:
        picture = sitk.GetImageFromArray(np.zeros((9, 9), np.uint8))
        assert "format" in refused(write(tmp_path / "x.png", picture))

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
    def test_a_truncated_file(self, tmp_path: Path, ending: str, share: float) -> None:
        path = write(tmp_path / f"x{ending}", phantom(1))
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        message = refused(path)
        assert "truncated" in message or "not a NIfTI" in message

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
    def test_a_truncated_metaimage_is_explained_in_one_line_and_nothing_else_is_printed(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str], share: float, packed: bool
    ) -> None:
        sitk.WriteImage(phantom(1), str(tmp_path / "x.mha"), packed)
        content = (tmp_path / "x.mha").read_bytes()
        (tmp_path / "x.mha").write_bytes(content[: int(share * len(content))])
        message = refused(tmp_path / "x.mha")
        assert capfd.readouterr().err == ""
        assert "not read completely; ideal = " in message or "DimSize required" in message
        os.write(2, b"stderr is as before")
        assert capfd.readouterr().err == "stderr is as before"

    def test_a_compressed_metaimage_with_a_flipped_bit(self, tmp_path: Path) -> None:
        sitk.WriteImage(phantom(1), str(tmp_path / "x.mha"), True)
        content = bytearray((tmp_path / "x.mha").read_bytes())
        content[len(content) // 2] ^= 0xFF
        (tmp_path / "x.mha").write_bytes(content)
        assert "Uncompress failed" in refused(tmp_path / "x.mha")

    def test_a_metaimage_whose_data_file_is_gone(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.mhd", phantom(1))
        path.with_suffix(".raw").unlink()
        assert "Cannot open data file" in refused(path)

    def test_a_gzip_file_with_a_flipped_bit(self, tmp_path: Path) -> None:
        content = bytearray(write(tmp_path / "x.nii.gz", phantom(1)).read_bytes())
        content[-1500] ^= 0xFF
        (tmp_path / "x.nii.gz").write_bytes(content)
        assert "damaged" in refused(tmp_path / "x.nii.gz")

    def test_nifti_that_is_compressed_in_spite_of_its_name_is_read(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.nii", phantom(1))
        path.with_suffix(".nii.gz").write_bytes(path.read_bytes())
        assert read_image(path.with_suffix(".nii.gz")).GetSize() == SIZE

    def test_an_empty_folder_and_a_folder_of_many_images(self, tmp_path: Path) -> None:
        assert "holds no DICOM series and no image file" in refused(tmp_path)
        for name in ("a.nii", "b.nii"):
            write(tmp_path / name, phantom(1))
        assert "2 image files" in refused(tmp_path)


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd"])
def test_a_file_that_another_program_holds_is_refused(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / f"x{ending}", phantom(1))

    def held(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", held)
    assert "cannot be opened (Permission denied)" in refused(path)


@pytest.fixture
def misnamed(tmp_path: Path) -> str:
    """A name that is not UTF-8; SimpleITK ends the process on it. Not every file system takes such names."""
    try:
        name = os.fsdecode(b"M\xfcller_flair.nii")
        (tmp_path / name).touch()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / name).unlink()
    return name


class TestNamesThatAreNotUtf8:
    def test_such_a_file_is_refused_with_its_name_in_plain_text(self, tmp_path: Path, misnamed: str) -> None:
        write(tmp_path / "x.nii", phantom(1)).rename(tmp_path / misnamed)
        for attempt in (lambda path: read(path), lambda path: study_from_files({"FLAIR": path})):
            with pytest.raises(
                UnusableInput, match=r"M\\xfcller_flair\.nii has a name that is not .* Rename it"
            ) as caught:
                attempt(tmp_path / misnamed)
            str(caught.value).encode("utf-8")

    def test_such_a_folder_is_refused_whether_given_or_around_what_is_given(
        self, tmp_path: Path, misnamed: str
    ) -> None:
        brats(tmp_path / "x")
        (tmp_path / "x").rename(tmp_path / misnamed)
        for attempt in (
            lambda: study_from_folder(tmp_path / misnamed),
            lambda: read(tmp_path / misnamed),
            lambda: read(tmp_path / misnamed / "BraTS2021_00001_t1.nii.gz"),
        ):
            with pytest.raises(UnusableInput, match="Rename it"):
                attempt()

    def test_such_files_and_folders_inside_a_searched_folder_are_left_out_and_said(
        self, tmp_path: Path, misnamed: str
    ) -> None:
        brats(tmp_path / "study", ("t1", "t2"))
        write(tmp_path / "x.nii", phantom(9)).rename(tmp_path / "study" / misnamed)
        write_series(tmp_path / "x", phantom(8), "1.1", {"0008|103e": "AX FLAIR"})
        (tmp_path / "x").rename(tmp_path / "study" / misnamed.replace(".nii", ""))
        study = study_from_folder(tmp_path / "study")
        assert study.subset == ("T1", "T2")
        assert ["left out" in note and "M\\xfcller_flair" in note for note in study.notes] == [True, True]

    def test_such_a_slice_in_the_folder_of_a_series_is_left_out_and_said(self, tmp_path: Path, misnamed: str) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {})
        sorted(folder.iterdir())[4].rename(folder / misnamed.replace(".nii", ""))
        notes = read(folder).notes
        assert "left out" in notes[0]
        assert "slices may be missing" in notes[1]

    def test_umlauts_and_other_scripts_are_fine(self, tmp_path: Path) -> None:
        check_path(tmp_path / "M\u00fcller \u65e5\u672c")
        assert read(write(tmp_path / "M\u00fcller \u65e5\u672c" / "\u00e9.nii.gz", phantom(1))).image.GetSize() == SIZE


class TestImagesThatAreNoHeadMri:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_two_dimensions_four_dimensions_and_colour(self, tmp_path: Path, ending: str) -> None:
        image = phantom(1)
        assert "2-D" in refused(write(tmp_path / f"slice{ending}", image[:, :, 10]))
        assert "2-D" in refused(write(tmp_path / f"layer{ending}", image[:, :, 10:11]))
        assert "4-D" in refused(write(tmp_path / f"frames{ending}", sitk.JoinSeries([image, phantom(2)])))
        byte = sitk.Cast(image, sitk.sitkUInt8)
        assert "3 values per voxel" in refused(write(tmp_path / f"rgb{ending}", sitk.Compose(byte, byte, byte)))

    def test_complex_values(self, tmp_path: Path) -> None:
        real = sitk.Cast(phantom(1), sitk.sitkFloat32)
        assert "complex" in refused(write(tmp_path / "x.nii.gz", sitk.RealAndImaginaryToComplex(real, real)))

    @pytest.mark.parametrize("value", [0, 7, -3])
    def test_nothing_but_one_value(self, tmp_path: Path, value: int) -> None:
        image = with_values(phantom(1), np.full(SIZE[::-1], value, np.int16))
        assert "is empty" in refused(write(tmp_path / "x.nii.gz", image))

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_nothing_but_nan_or_infinite_values(self, tmp_path: Path, value: float, ending: str) -> None:
        image = with_values(phantom(1), np.full(SIZE[::-1], value, np.float64))
        assert "full of NaN" in refused(write(tmp_path / f"x{ending}", image))

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
    def test_a_few_nan_are_taken_as_zero_and_counted(self, tmp_path: Path, ending: str) -> None:
        values = sitk.GetArrayFromImage(phantom(1)).astype(np.float32)
        values[10, 10, 10:13] = (np.nan, np.inf, -np.inf)
        reading = read(write(tmp_path / f"x{ending}", with_values(phantom(1), values)))
        assert sitk.GetArrayFromImage(reading.image)[10, 10, 10:13].tolist() == [0, 0, 0]
        assert "3 voxels" in reading.notes[0]

    @pytest.mark.parametrize("packed", [False, True])
    @pytest.mark.parametrize("length", [300, 4096, 3 << 20])
    def test_what_a_long_header_holds_is_not_counted(self, tmp_path: Path, length: int, packed: bool) -> None:
        values = sitk.GetArrayFromImage(phantom(1)).astype(np.float32)
        values[10, 10, 10] = np.nan
        content = bytearray(write(tmp_path / "x.nii", with_values(phantom(1), values)).read_bytes())
        extension = struct.pack("<4B2i", 1, 0, 0, 0, length, 2) + b"\xff" * (length - 8)
        struct.pack_into("<f", content, 108, 352 + length)
        content[348:352] = extension
        path = tmp_path / ("x.nii.gz" if packed else "x.nii")
        path.write_bytes(gzip.compress(bytes(content)) if packed else content)
        reading = read(path)
        assert reading.notes[0].startswith(f"{path}: 1 voxels")
        assert np.array_equal(sitk.GetArrayFromImage(reading.image), np.nan_to_num(values))

    def test_a_nan_background_is_usable(self, tmp_path: Path) -> None:
        values = sitk.GetArrayFromImage(phantom(1)).astype(np.float32)
        wanted = values.copy()
        values[values == 0] = np.nan
        image = read_image(write(tmp_path / "x.nii.gz", with_values(phantom(1), values)))
        assert np.array_equal(sitk.GetArrayFromImage(image), wanted)

    @pytest.mark.parametrize(("padding", "kind"), [(-32768, np.int16), (-1024, np.int16), (65535, np.uint16)])
    def test_padding_values_are_taken_as_zero_and_said(self, tmp_path: Path, padding: int, kind: type) -> None:
        wanted = sitk.GetArrayFromImage(phantom(1)).astype(kind)
        values = wanted.copy()
        values[:, :3] = padding
        wanted[:, :3] = 0
        reading = read(write(tmp_path / "x.nii.gz", with_values(phantom(1), values)))
        assert np.array_equal(sitk.GetArrayFromImage(reading.image), wanted)
        assert f"padding value {padding}" in reading.notes[0]

    def test_negative_intensities_are_not_taken_for_padding(self, tmp_path: Path) -> None:
        values = (sitk.GetArrayFromImage(phantom(1)).astype(np.float32) - 400) / 200
        reading = read(write(tmp_path / "x.nii.gz", with_values(phantom(1), values)))
        assert np.array_equal(sitk.GetArrayFromImage(reading.image), values)
        assert reading.notes == ()

    def test_a_label_map_is_pointed_out(self, tmp_path: Path) -> None:
        values = (sitk.GetArrayFromImage(phantom(1)) > 0).astype(np.uint8)
        reading = read(write(tmp_path / "x.nii.gz", with_values(phantom(1), values)))
        assert "label map" in reading.notes[0]

    @pytest.mark.parametrize("spacing", [(0.05, 4, 5), (4, 4, 15), (0.004, 0.004, 0.005), (1000, 1000, 1000)])
    def test_absurd_spacing(self, tmp_path: Path, spacing: tuple[float, float, float]) -> None:
        assert "the voxel size is" in refused(write(tmp_path / "x.nii.gz", phantom(1, spacing=spacing)))

    @pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (11.0, 11.0, 11.9)])
    def test_absurd_field_of_view(self, tmp_path: Path, spacing: tuple[float, float, float]) -> None:
        size = SIZE if spacing[0] == 1 else (60, 60, 20)
        assert "measures" in refused(write(tmp_path / "x.nii.gz", phantom(1, size, spacing)))

    @pytest.mark.parametrize("bad", [0.0, float("nan"), -4.0])
    @pytest.mark.parametrize("packed", [False, True])
    def test_zero_or_negative_spacing_in_a_nifti_header(self, tmp_path: Path, bad: float, packed: bool) -> None:
        content = bytearray(write(tmp_path / "x.nii", phantom(1)).read_bytes())
        struct.pack_into("<f", content, 88, bad)
        path = tmp_path / ("x.nii.gz" if packed else "x.nii")
        path.write_bytes(gzip.compress(bytes(content)) if packed else content)
        assert "voxel size" in refused(path)

    @pytest.mark.parametrize("packed", [False, True])
    def test_nifti_2(self, tmp_path: Path, packed: bool) -> None:
        image = nib.Nifti2Image(sitk.GetArrayFromImage(phantom(1)).T, np.eye(4))
        path = tmp_path / ("x.nii.gz" if packed else "x.nii")
        nib.save(image, path)
        assert "is NIfTI-2, which is not read here. Save it as NIfTI-1" in refused(path)

    def test_a_compressed_file_that_is_not_named_so(self, tmp_path: Path) -> None:
        path = tmp_path / "x.nii"
        path.write_bytes(write(tmp_path / "y.nii.gz", phantom(1)).read_bytes())
        assert "Rename it to x.nii.gz" in refused(path)
        assert read(path.rename(tmp_path / "x.nii.gz")).notes == ()

    @pytest.mark.parametrize("value", [b"-4 4 5", b"nan 4 5", b"0 4 5", b"four 4 5"])
    def test_lengths_of_text_headers_that_are_none(self, tmp_path: Path, value: bytes) -> None:
        path = write(tmp_path / "x.nrrd", phantom(1))
        drop_fields(path, (b"space directions", b"space", b"space origin"), b"spacings: " + value)
        refused(path)
        path = write(tmp_path / "x.mha", phantom(1))
        drop_fields(path, (b"ElementSpacing",), b"ElementSpacing = " + value)
        refused(path)

    def test_zero_spacing_in_nrrd_and_mha(self, tmp_path: Path) -> None:
        for ending, right, wrong in ((".nrrd", "(4,0,0)", "(0,0,0)"), (".mha", "Spacing = 4 4 5", "Spacing = 0 4 5")):
            path = write(tmp_path / f"x{ending}", phantom(1))
            content = path.read_bytes()
            assert right.encode() in content
            path.write_bytes(content.replace(right.encode(), wrong.encode()))
            assert "voxel size" in refused(path)

    @pytest.mark.parametrize(
        ("ending", "fields"),
        [(".nrrd", (b"space", b"space directions", b"space origin")), (".mha", (b"ElementSpacing",))],
    )
    def test_a_text_header_without_a_voxel_size(self, tmp_path: Path, ending: str, fields: tuple[bytes, ...]) -> None:
        path = write(tmp_path / f"x{ending}", phantom(1))
        drop_fields(path, fields)
        assert "gives no voxel size" in refused(path)

    def test_a_header_with_two_voxel_sizes(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.nii", phantom(1))
        set_sform(path, [[2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0]])
        assert "two voxel sizes" in refused(path)

    def test_a_sheared_header(self, tmp_path: Path) -> None:
        path = write(tmp_path / "x.nii", phantom(1))
        set_sform(path, [[4, 1, 0, 0], [0, 3.873, 0, 0], [0, 0, 5, 0]])
        assert "right angles" in refused(path)


class TestDicom:
    def test_slices_are_sorted_by_position_not_by_name(self, tmp_path: Path) -> None:
        original = phantom(1)
        original.SetDirection(sitk.Euler3DTransform((0, 0, 0), 0.2, -0.3, 0.1).GetMatrix())
        image = read_image(write_series(tmp_path / "s", original, "1.1", {}))
        assert np.array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(original))
        assert np.allclose(image.GetOrigin(), original.GetOrigin(), atol=1e-3)
        assert np.allclose(image.GetDirection(), original.GetDirection(), atol=1e-3)

    def test_a_missing_slice_is_interpolated_where_it_is_missing_and_said(self, tmp_path: Path) -> None:
        z = np.arange(SIZE[2], dtype=np.int16)[:, None, None] * 10 + 100
        ramp = with_values(phantom(1), np.broadcast_to(z, SIZE[::-1]).astype(np.int16))
        there = [index for index in range(SIZE[2]) if index not in (7, 8)]
        reading = read(write_series(tmp_path / "s", ramp, "1.1", {}, there))
        assert np.allclose(sitk.GetArrayFromImage(reading.image), sitk.GetArrayFromImage(ramp), atol=1e-3)
        assert np.allclose(reading.image.GetSpacing(), SPACING)
        assert "5.00 to 15.00 mm apart" in reading.notes[0]

    def test_a_series_with_a_wide_gap_is_refused(self, tmp_path: Path) -> None:
        there = [index for index in range(SIZE[2]) if not 6 <= index < 12]
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {}, there)
        assert "slices are missing, 35.0 mm" in refused(folder)

    def test_time_points_in_one_series_are_refused(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", phantom(1), "1.1", {})
        for path in write_series(tmp_path / "t", phantom(2), "1.1", {}).iterdir():
            image = sitk.ReadImage(str(path))
            image.SetMetaData("0008|0018", image.GetMetaData("0008|0018") + ".9")
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(tmp_path / "s" / f"second{path.name}"))
            writer.Execute(image)
        assert "several images per slice position (40 images at 20 positions" in refused(tmp_path / "s")

    def test_a_file_copied_twice_into_the_folder_is_used_once(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {})
        first = sorted(folder.iterdir())[0]
        (folder / "copy.dcm").write_bytes(first.read_bytes())
        assert read_image(folder).GetSize() == SIZE

    def test_a_broken_slice_is_left_out_and_said(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "AX T1"})
        slices = sorted(folder.iterdir())
        slices[5].write_bytes(slices[5].read_bytes()[:300])
        slices[9].write_bytes(b"")
        for notes in (list(read(folder).notes), study_from_folder(tmp_path).notes):
            assert "2 DICOM files cannot be read" in notes[0]
            assert "slices may be missing" in notes[1]

    @pytest.mark.parametrize("spoilt", [b"", None])
    def test_slices_without_an_ending_that_are_empty_or_cannot_be_read_are_said(
        self, tmp_path: Path, spoilt: bytes | None
    ) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "AX T1"})
        for path in sorted(folder.iterdir()):
            path.rename(path.with_suffix(""))
        slices = sorted(folder.iterdir())
        for path in slices[-3:]:
            path.write_bytes(path.read_bytes()[:1000] if spoilt is None else spoilt)
        for notes in (read(folder).notes, read(slices[0]).notes, study_from_folder(tmp_path).notes):
            assert "3 DICOM files cannot be read" in notes[0]

    def test_an_empty_file_among_others_that_are_no_dicom_is_no_slice(self, tmp_path: Path) -> None:
        (tmp_path / "done").touch()
        (tmp_path / "notes.txt").write_text("seen")
        assert find_series(sorted(tmp_path.iterdir())) == ([], [])

    def test_slices_without_a_voxel_size_are_refused(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {})
        size = struct.pack("<HH", 0x28, 0x30)
        for path in folder.iterdir():
            content = path.read_bytes()
            assert content.count(size) == 1
            path.write_bytes(content.replace(size, struct.pack("<HH", 0x28, 0x31)))
        assert "carry no voxel size" in refused(folder)

    def test_a_broken_file_and_a_folder_of_broken_files_are_refused(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {})
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes()[:-1])
        assert "truncated" in refused(path)
        assert "20 DICOM files, none of which can be read" in refused(folder)
        with pytest.raises(UnusableInput, match="holds no image"):
            study_from_folder(tmp_path)

    def test_a_localiser_of_several_planes_is_refused(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {})
        turned = phantom(2)
        turned.SetDirection((0, 0, 1, 1, 0, 0, 0, 1, 0))
        write_series(folder, turned, "1.1", {"0008|0018": "x"}, [1, 2], prefix="TURNED")
        for index, path in enumerate(sorted(folder.glob("TURNED*"))):
            image = sitk.ReadImage(str(path))
            image.SetMetaData("0008|0018", f"9.{index + 1}")
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(path))
            writer.Execute(image)
        assert "different orientations" in refused(folder)

    def test_one_slice_stands_for_its_series_among_all_that_lie_in_one_folder(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "AX T1"}, prefix="A")
        write_series(folder, phantom(2), "1.2", {"0008|103e": "AX T1"}, prefix="B")
        for seed, prefix in ((1, "A"), (2, "B")):
            one = sorted(folder.glob(f"{prefix}*"))[3]
            study = study_from_files({"T1": one})
            assert np.array_equal(
                sitk.GetArrayFromImage(study.images["T1"].image), sitk.GetArrayFromImage(phantom(seed))
            )
            assert any(f"{one}: read with the {SIZE[2]} files of its series" in note for note in study.notes)

    @pytest.mark.parametrize("without", ["the mark", "the mark and the group of the file"])
    def test_old_files_that_were_stored_without_the_mark_are_read(self, tmp_path: Path, without: str) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "AX T1"})
        for path in list(folder.iterdir()):
            content = path.read_bytes()[132:]
            if without != "the mark":
                content = content[12 + int.from_bytes(content[8:12], "little") :]
            path.unlink()
            path.with_suffix("").write_bytes(content)
        study = study_from_folder(tmp_path)
        assert np.array_equal(sitk.GetArrayFromImage(study.images["T1"].image), sitk.GetArrayFromImage(phantom(1)))

    @pytest.mark.parametrize("start", [b"\x08\x00\x05\x00\xff\xff\xff\xff", b"\x0c\x00\x05\x00CS\x0a\x00", b"\x08\x00"])
    def test_other_binary_files_are_not_taken_for_dicom(self, tmp_path: Path, start: bytes) -> None:
        write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "AX T1"})
        (tmp_path / "s" / "cache").write_bytes(start + bytes(1000 if len(start) > 2 else 0))
        assert not any("cache" in note for note in study_from_folder(tmp_path).notes)

    def test_a_slice_that_is_alone_is_refused(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(1), "1.1", {}, range(3, 4))
        assert "stands for its series, which cannot be used" in refused(next(folder.iterdir()))

    def test_a_folder_of_two_series_is_refused_as_one_sequence_with_their_names(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "AX T1"}, prefix="A")
        write_series(tmp_path / "s", phantom(2), "1.2", {"0008|103e": "AX T2"}, prefix="B")
        message = refused(tmp_path / "s")
        assert re.search(r"2 DICOM series \(AX T1: A\S+; AX T2: B\S+\); expected one\. Give a file", message)

    def test_a_series_spread_over_folders_is_joined_and_said(self, tmp_path: Path) -> None:
        """Exports put so many files into a folder; half a head would be segmented, or two FLAIR refused."""
        said = {"0008|103e": "AX FLAIR"}
        write_series(tmp_path / "1" / "A", phantom(1), "1.1", said, range(0, 9))
        write_series(tmp_path / "1" / "B", phantom(1), "1.1", said, range(7, 20))  # two slices are in both
        write_series(tmp_path / "2", phantom(2), "1.2", {"0008|103e": "AX T2"})
        study = study_from_folder(tmp_path)
        assert study.subset == ("FLAIR", "T2")
        assert study.images["FLAIR"].source == str(tmp_path / "1")
        wanted = sitk.GetArrayFromImage(phantom(1))
        assert np.array_equal(sitk.GetArrayFromImage(study.images["FLAIR"].image), wanted)
        assert len(study.notes) == 1
        assert "its files lie in 2 folders and were joined" in study.notes[0]

    def test_a_series_spread_over_folders_is_named_by_the_folder_that_holds_them(self, tmp_path: Path) -> None:
        for part, slices in (("A", range(10)), ("B", range(10, 20))):
            write_series(tmp_path / "T1 post" / part, phantom(1), "1.1", {}, slices)
        assert study_from_folder(tmp_path).images["T1ce"].image.GetSize() == SIZE

    def test_a_copy_of_a_series_in_another_folder_is_still_the_same_image(self, tmp_path: Path) -> None:
        for folder in ("A", "B"):
            write_series(tmp_path / folder, phantom(1), "1.1", {"0008|103e": "AX T1"})
        study = study_from_folder(tmp_path)
        assert study.images["T1"].image.GetSize() == SIZE
        assert "not used, the same image" in study.notes[0]

    @pytest.mark.parametrize("uid", ["1.1", ""])
    def test_different_series_to_which_an_anonymiser_gave_one_uid_are_not_joined(
        self, tmp_path: Path, uid: str
    ) -> None:
        between = phantom(2)
        between.SetOrigin(np.add(between.GetOrigin(), (0, 0, 2.5)))
        write_series(tmp_path / "T1", phantom(1), uid, {"0018|0081": "10", "0018|0080": "500"})
        write_series(tmp_path / "T2", between, uid, {"0018|0081": "100", "0018|0080": "5000"})
        for path in (tmp_path / "T2").iterdir():
            image = sitk.ReadImage(str(path))
            image.SetMetaData("0008|0018", f"9.{path.stem[2:].lstrip('0')}")
            writer = sitk.ImageFileWriter()
            writer.KeepOriginalImageUIDOn()
            writer.SetFileName(str(path))
            writer.Execute(image)
        study = study_from_folder(tmp_path)
        assert study.subset == ("T1", "T2")
        assert np.array_equal(sitk.GetArrayFromImage(study.images["T2"].image), sitk.GetArrayFromImage(phantom(2)))

    def test_a_description_in_latin_1_is_readable(self, tmp_path: Path) -> None:
        write_series(tmp_path / "s", phantom(1), "1.1", {"0008|103e": "T1 axialxnach KM"})
        for path in (tmp_path / "s").iterdir():
            path.write_bytes(path.read_bytes().replace(b"axialx", b"axi\xe4l "))
        study = study_from_folder(tmp_path)
        assert study.subset == ("T1ce",)
        assert "T1 axi\u00e4l nach KM" in study.images["T1ce"].recognised_by


def brats(folder: Path, names: Sequence[str] = ("flair", "t1", "t1ce", "t2"), stem: str = "BraTS2021_00001_") -> Path:
    for seed, name in enumerate(names):
        write(folder / f"{stem}{name}.nii.gz", phantom(seed))
    return folder


class TestFolders:
    def test_a_brats_study_is_sorted_and_its_segmentation_left_out_and_named(self, tmp_path: Path) -> None:
        study = study_from_folder(brats(tmp_path, ("seg", "t2", "t1", "flair", "t1ce")))
        assert study.subset == tuple(study.images) == ("FLAIR", "T1", "T1ce", "T2")
        assert study.images["T1ce"].source.endswith("BraTS2021_00001_t1ce.nii.gz")
        assert "with contrast agent" in study.images["T1ce"].recognised_by
        assert len(study.notes) == 1
        assert "_seg.nii.gz: not used" in study.notes[0]

    @pytest.mark.parametrize(
        "stem", ["T1_study_0001_", "TCGA-T1-0001_", "Smith_T1_", "TCGA-GD-A2C5_", "PD_003_", "T2019-", "flair trial "]
    )
    def test_a_patient_name_that_all_files_share_does_not_mislead(self, tmp_path: Path, stem: str) -> None:
        study = study_from_folder(brats(tmp_path, stem=stem))
        assert {sequence: Path(image.source).name for sequence, image in study.images.items()} == {
            "FLAIR": f"{stem}flair.nii.gz",
            "T1": f"{stem}t1.nii.gz",
            "T1ce": f"{stem}t1ce.nii.gz",
            "T2": f"{stem}t2.nii.gz",
        }

    def test_the_name_of_the_given_folder_itself_says_nothing(self, tmp_path: Path) -> None:
        write(tmp_path / "flair" / "image.nii.gz", phantom(1))
        with pytest.raises(UnusableInput, match=r"No sequence was recognised.*--t1ce FILE.*image\.nii\.gz"):
            study_from_folder(tmp_path / "flair")
        assert study_from_folder(tmp_path).subset == ("FLAIR",)

    def test_folders_inside_name_files_that_do_not_name_themselves(self, tmp_path: Path) -> None:
        for seed, name in enumerate(("T1", "T1 post", "dark-fluid")):
            write(tmp_path / "patient" / name / "image.nrrd", phantom(seed))
        assert study_from_folder(tmp_path).subset == ("FLAIR", "T1", "T1ce")

    def test_a_folder_that_may_not_be_listed_is_left_out_and_said(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path / "open" / "t1.nrrd", phantom(1))
        closed = tmp_path / "closed"
        closed.mkdir()
        listed = Path.iterdir

        def iterdir(folder: Path) -> Iterator[Path]:
            if folder == closed:
                raise PermissionError(errno.EACCES, "Permission denied", str(folder))
            return listed(folder)

        monkeypatch.setattr(Path, "iterdir", iterdir)
        study = study_from_folder(tmp_path)
        assert study.subset == ("T1",)
        assert any(f"{closed} cannot be listed (Permission denied)" in note for note in study.notes)
        assert "cannot be listed (Permission denied). Check that you may read it." in refused(closed)

    def test_dicom_series_mixed_in_one_folder_are_told_apart(self, tmp_path: Path) -> None:
        for seed, name in enumerate(("AX T1", "AX T1 POST", "AX T2 FLAIR", "AX DWI", "Series 5")):
            write_series(tmp_path / "all", phantom(seed), f"1.{seed + 1}", {"0008|103e": name}, prefix=f"S{seed}_")
        study = study_from_folder(tmp_path)
        assert study.subset == ("FLAIR", "T1", "T1ce")
        wanted = sitk.GetArrayFromImage(phantom(1))
        assert np.array_equal(sitk.GetArrayFromImage(study.images["T1ce"].image), wanted)
        assert any("AX DWI" in note and "diffusion" in note for note in study.notes)
        assert any("Series 5" in note and "does not decide" in note for note in study.notes)

    def test_dicom_series_in_nested_folders_are_found(self, tmp_path: Path) -> None:
        for seed, name in enumerate(("t1_mprage_sag", "t2_tse_tra")):
            write_series(tmp_path / "P1" / "study" / str(seed), phantom(seed), f"1.{seed + 1}", {"0008|103e": name})
        assert study_from_folder(tmp_path).subset == ("T1", "T2")

    def test_a_series_without_description_is_named_by_its_folder_unless_the_timing_objects(
        self, tmp_path: Path
    ) -> None:
        t1 = {"0018|0080": "450", "0018|0081": "10", "0018|0020": "SE"}
        write_series(tmp_path / "T1", phantom(0), "1.1", t1)
        write_series(tmp_path / "T2", phantom(1), "1.2", t1)
        study = study_from_folder(tmp_path)
        assert study.subset == ("T1",)
        assert any("says T2" in note and "says T1" in note for note in study.notes)

    def test_a_dicom_series_and_its_conversion_are_one_image(self, tmp_path: Path) -> None:
        write_series(tmp_path / "T1", phantom(0), "1.1", {"0008|103e": "AX T1"})
        write(tmp_path / "T1" / "AX_T1_0001.nii.gz", sitk.Flip(phantom(0), (False, True, False)))
        study = study_from_folder(tmp_path)
        assert study.subset == ("T1",)
        assert any("AX_T1_0001.nii.gz: not used, the same image" in note for note in study.notes)

    def test_the_same_image_compressed_and_not_is_one_image(self, tmp_path: Path) -> None:
        write(tmp_path / "a_t1.nii", phantom(0))
        write(tmp_path / "a_t1.nii.gz", phantom(0))
        study = study_from_folder(tmp_path)
        assert study.subset == ("T1",)
        assert any("the same image as" in note for note in study.notes)

    def test_of_an_image_and_its_bias_corrected_copy_the_first_is_taken_and_the_other_named(self, tmp_path) -> None:
        for seed, name in enumerate(("FLAIR", "FLAIR_bias", "T1", "T1_bias")):
            write(tmp_path / f"UCSF-PDGM-0004_{name}.nii.gz", phantom(seed))
        study = study_from_folder(tmp_path)
        assert study.subset == ("FLAIR", "T1")
        assert study.images["FLAIR"].source.endswith("_FLAIR.nii.gz")
        for name in ("FLAIR", "T1"):
            assert any(f"_{name}_bias.nii.gz: not used, by its name" in note for note in study.notes)

    def test_of_two_series_in_one_heap_that_look_alike_each_is_named_by_a_file_that_stands_for_it(
        self, tmp_path: Path
    ) -> None:
        for number in (1, 2):
            tags = {"0008|103e": "T2 TSE", "0020|0011": str(number)}
            write_series(tmp_path / "heap", phantom(number), f"1.{number}", tags, prefix=f"S{number}")
        with pytest.raises(UnusableInput) as caught:
            study_from_folder(tmp_path)
        named = re.findall(r"\S+/heap/S\d+\.dcm", str(caught.value).replace("\\", "/"))
        assert [Path(path).name for path in named] == ["S10001.dcm", "S20001.dcm"]
        study = study_from_files({"T2": named[1]})
        assert np.array_equal(sitk.GetArrayFromImage(study.images["T2"].image), sitk.GetArrayFromImage(phantom(2)))

    def test_two_images_that_look_like_t1ce_are_refused_with_both_names_and_the_way_out(self, tmp_path: Path) -> None:
        brats(tmp_path)
        write(tmp_path / "BraTS2021_00001_t1gd.nii.gz", phantom(9))
        with pytest.raises(UnusableInput, match=r"2 images look like T1ce: .*_t1ce.*_t1gd.*--t1ce FILE"):
            study_from_folder(tmp_path)

    def test_nothing_recognised_lists_what_was_seen(self, tmp_path: Path) -> None:
        for number in range(4):
            write(tmp_path / f"BRATS_001_000{number}.nii.gz", phantom(number))
        with pytest.raises(UnusableInput, match=r"No sequence was recognised.*BRATS_001_0000.*channel number"):
            study_from_folder(tmp_path)

    def test_a_folder_without_images_and_a_path_that_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "readme.txt").write_text("x")
        with pytest.raises(UnusableInput, match="holds no image"):
            study_from_folder(tmp_path)
        with pytest.raises(UnusableInput, match="is not a folder"):
            study_from_folder(tmp_path / "readme.txt")

    def test_a_broken_image_in_the_folder_is_named(self, tmp_path: Path) -> None:
        brats(tmp_path)
        path = tmp_path / "BraTS2021_00001_t2.nii.gz"
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(UnusableInput, match=r"_t2\.nii\.gz is truncated"):
            study_from_folder(tmp_path)

    def test_a_localiser_of_three_slices_is_no_candidate(self, tmp_path: Path) -> None:
        write_series(tmp_path / "a", phantom(0), "1.1", {"0008|103e": "T1 quick"}, [1, 2, 3])
        write_series(tmp_path / "b", phantom(1), "1.2", {"0008|103e": "AX T1"})
        study = study_from_folder(tmp_path)
        assert study.images["T1"].source == str(tmp_path / "b")
        assert any("3 slices are no volume" in note for note in study.notes)

    def test_a_common_start_is_cut_only_where_it_is_a_name(self) -> None:
        assert without_common_start(["AX_T1_FLAIR.nii", "AX_T1_MPRAGE.nii"]) == ["AX_T1_FLAIR.nii", "AX_T1_MPRAGE.nii"]
        assert without_common_start(["P1_T1_pre.nii", "P1_T1_post.nii"]) == ["P1_T1_pre.nii", "P1_T1_post.nii"]
        assert without_common_start(["P1_T1_t2.nii", "P1_T1_flair.nii"]) == ["t2.nii", "flair.nii"]
        assert without_common_start(["P1_T1.nii"]) == ["P1_T1.nii"]


class TestFilesGivenByName:
    def test_a_subset_is_kept_in_channel_order_with_its_sources(self, tmp_path: Path) -> None:
        brats(tmp_path)
        given = {"T2": tmp_path / "BraTS2021_00001_t2.nii.gz", "FLAIR": str(tmp_path / "BraTS2021_00001_flair.nii.gz")}
        study = study_from_files(given)
        assert study.subset == tuple(study.images) == ("FLAIR", "T2")
        assert study.images["FLAIR"].source == given["FLAIR"]
        assert study.images["FLAIR"].recognised_by == "given as FLAIR"
        assert study.notes == []

    def test_no_sequence_at_all(self) -> None:
        for nothing in (lambda: study_from_files({}), lambda: study_from_images({})):
            with pytest.raises(UnusableInput, match="No sequence is given"):
                nothing()

    def test_the_same_file_twice_by_path_by_link_and_by_content(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.nii.gz", phantom(0))
        (tmp_path / "link.nii.gz").symlink_to(path)
        copy = write(tmp_path / "copy.mha", phantom(0))
        moved = phantom(0)
        moved.SetOrigin((0, 0, 0))
        for other in (path, tmp_path / "link.nii.gz", copy, write(tmp_path / "moved.nrrd", moved)):
            with pytest.raises(UnusableInput, match=r"same (file|image)"):
                study_from_files({"T1": path, "T1ce": other})

    def test_a_name_that_says_otherwise_is_noted_not_obeyed(self, tmp_path: Path) -> None:
        study = study_from_files({"T1": write(tmp_path / "x_t2.nii.gz", phantom(0))})
        assert study.subset == ("T1",)
        assert "looks like T2" in study.notes[0]

    def test_a_dicom_folder_that_says_otherwise_is_noted(self, tmp_path: Path) -> None:
        folder = write_series(tmp_path / "s", phantom(0), "1.1", {"0008|103e": "FLAIR_ROI"})
        assert "none of the four" in study_from_files({"FLAIR": folder}).notes[0]

    def test_a_misspelt_sequence_is_an_error_in_the_program(self, tmp_path: Path) -> None:
        with pytest.raises(KeyError):
            study_from_files({"t1": tmp_path})


class TestOneStudy:
    def test_images_that_do_not_overlap_are_refused(self) -> None:
        far = phantom(1)
        far.SetOrigin((500.0, 0.0, 0.0))
        with pytest.raises(UnusableInput, match=r"do not overlap in space.*0% of the smaller"):
            study_from_images({"T1": phantom(0), "T2": far})

    def test_a_slab_inside_the_other_field_of_view_overlaps_fully(self) -> None:
        slab = phantom(1, (24, 26, 13))
        assert overlap(slab, phantom(0)) == overlap(phantom(0), slab) == 1.0

    @pytest.mark.parametrize("shift", [0.25, 0.5, 0.75])
    def test_overlap_is_the_shared_part_of_the_smaller_box(self, shift: float) -> None:
        moved = phantom(1)
        moved.SetOrigin(np.add(moved.GetOrigin(), (0, shift * SIZE[1] * SPACING[1], 0)))
        assert overlap(phantom(0), moved) == pytest.approx(1 - shift, abs=0.07)

    def test_the_same_voxels_in_another_order_are_the_same_image(self) -> None:
        image = phantom(0)
        assert same_image(image, sitk.DICOMOrient(image, "RSP"))
        assert not same_image(image, phantom(1))
        assert not same_image(image, image[:, :, 1:])

    @pytest.mark.parametrize("order", ["LPS", "RSP", "PIR"])
    def test_one_image_with_other_intensities_is_no_second_sequence(self, order: str) -> None:
        image = phantom(0)
        values = sitk.GetArrayFromImage(image).astype(np.float32)
        for copy in (values * 2, values + 100, np.round(values / values.max() * 255), values.max() - values):
            other = sitk.DICOMOrient(with_values(image, copy), order)
            with pytest.raises(UnusableInput, match=r"taken as FLAIR and T2, are the same image"):
                study_from_images({"FLAIR": image, "T2": other})

    def test_likeness_is_the_correlation_where_there_is_something(self) -> None:
        one, noise = (sitk.GetArrayFromImage(phantom(seed)).astype(np.float64) for seed in (0, 1))
        mixed = 0.8 * one + 0.6 * noise
        wanted = np.corrcoef(one[one != 0], mixed[one != 0])[0, 1]
        assert likeness(phantom(0), with_values(phantom(0), mixed)) == pytest.approx(wanted)
        assert likeness(phantom(0), with_values(phantom(0), (one > 0) * 1.0)) == 0.0
        assert likeness(phantom(0), phantom(0)[:, :, 1:]) == 0.0

    @pytest.mark.parametrize("background", [-9.0, 40.0])
    def test_the_background_makes_no_two_images_alike_whatever_its_value(self, background: float) -> None:
        one, other = (sitk.GetArrayFromImage(phantom(seed)).astype(np.float64) for seed in (0, 1))
        shown = one != 0
        wanted = np.abs(np.corrcoef(one[shown], other[shown])[0, 1])
        far = [with_values(phantom(0), np.where(shown, values, background)) for values in (one, other)]
        assert likeness(*far) == pytest.approx(wanted)

    def test_images_in_memory_are_copied_and_named_as_told(self) -> None:
        values = sitk.GetArrayFromImage(phantom(0)).astype(np.float32)
        values[0, 0, 0] = np.nan
        image = with_values(phantom(0), values)
        study = study_from_images({"T1": image}, {"T1": "MRHead"})
        assert study.images["T1"].source == "MRHead"
        assert study.notes[0].startswith("MRHead: 1 voxels")
        assert np.isnan(image[0, 0, 0])
        assert np.isfinite(sitk.GetArrayFromImage(study.images["T1"].image)).all()

    def test_examinations_that_differ_by_their_uid_alone_are_pointed_out(self, tmp_path: Path) -> None:
        for number, (study, day) in enumerate((("1.2.3", ""), ("1.2.4", ""))):
            tags = {"0008|103e": ("FLAIR", "T2")[number], "0020|000d": study, "0008|0020": day}
            write_series(tmp_path / str(number), phantom(number), f"1.{number}", tags)
        (note,) = (note for note in study_from_folder(tmp_path).notes if "examinations" in note)
        assert "are of different examinations (DICOM study UIDs)" in note

    def test_an_image_that_looks_like_another_sequence_is_pointed_out(self, tmp_path: Path) -> None:
        images = make_study(seed=0, spacing=1.5).images
        first, second = (write(tmp_path / name, images[s]) for name, s in (("a.nii.gz", "FLAIR"), ("b.nii.gz", "T2")))
        (note,) = study_from_files({"T1": first}).notes
        assert "a.nii.gz is used as T1, but looks like a FLAIR" in note
        assert study_from_files({"FLAIR": first, "T2": second}).notes == []
        swapped = study_from_files({"FLAIR": second, "T2": first}).notes
        assert [("looks like a T2" in note, "looks like a FLAIR" in note) for note in swapped] == [
            (True, False),
            (False, True),
        ]

    def test_sessions_that_differ_by_the_names_of_bids_are_pointed_out(self, tmp_path: Path) -> None:
        paths = {}
        for sequence, session in (("FLAIR", "ses-1"), ("T1", "ses-1"), ("T2", "ses-2")):
            path = tmp_path / f"sub-07_{session}_{sequence}w.nii.gz"
            paths[sequence] = write(path, phantom(len(paths)))
        notes = study_from_files(paths).notes
        assert [("FLAIR" in note, "T1w" in note) for note in notes] == [(True, False), (False, True)]
        assert all("are of different sessions by their names: ses-1 and ses-2" in note for note in notes)
        del paths["T2"]
        assert study_from_files(paths).notes == []

    def test_a_colour_image_does_not_stand_in_the_way_of_the_sequence_that_it_is_named_after(
        self, tmp_path: Path
    ) -> None:
        write_series(tmp_path / "1", phantom(1), "1.1", {"0008|103e": "FLAIR"})
        grey = sitk.Cast(phantom(2), sitk.sitkUInt8)
        write_series(tmp_path / "2", sitk.Compose([grey] * 3), "1.2", {"0008|103e": "FLAIR overlay"})
        study = study_from_folder(tmp_path)
        assert study.images["FLAIR"].source == str(tmp_path / "1")
        assert any("not used, a colour image" in note for note in study.notes)

    def test_different_dicom_patients_are_refused_and_different_dates_noted(self, tmp_path: Path) -> None:
        write_series(tmp_path / "1", phantom(0), "1.1", {"0008|103e": "T1"})
        write_series(tmp_path / "2", phantom(1), "1.2", {"0008|103e": "T2", "0008|0020": "20240303"})
        assert "20240102 and 20240303" in study_from_folder(tmp_path).notes[0]
        write_series(tmp_path / "3", phantom(2), "1.3", {"0008|103e": "FLAIR", "0010|0020": "P2"})
        with pytest.raises(UnusableInput, match=r"different DICOM patient IDs.* --same-patient"):
            study_from_folder(tmp_path)
        assert any("different DICOM patient IDs" in note for note in study_from_folder(tmp_path, True).notes)

    def test_an_empty_study_has_no_subset(self) -> None:
        assert Study({}).subset == ()


needs_data = pytest.mark.skipif(not SHARED.is_dir(), reason="the research data beside the repository is absent")


@needs_data
class TestRealStudies:
    @pytest.mark.parametrize(
        ("folder", "size"), [("original/BraTS2021_00495", (240, 240, 155)), ("native/TCGA-FG-6692", (208, 256, 26))]
    )
    def test_a_study_of_nifti_files_is_recognised_completely(self, folder: str, size: tuple[int, int, int]) -> None:
        study = study_from_folder(SHARED / folder)
        assert study.subset == ("FLAIR", "T1", "T1ce", "T2")
        assert study.images["FLAIR"].image.GetSize() == size
        assert all("_seg." in note for note in study.notes)

    def test_the_sequences_of_one_head_are_far_from_alike(self) -> None:
        for folder in ("original/BraTS2021_00495", "native/TCGA-FG-6692"):
            images = [one.image for one in study_from_folder(SHARED / folder).images.values()]
            assert max(likeness(first, second) for first, second in combinations(images, 2)) < 0.8

    def test_brainix_is_recognised_without_its_outline_and_without_t1ce(self, brainix: Path) -> None:
        study = study_from_folder(brainix)
        assert study.subset == ("FLAIR", "T1", "T2")
        assert [image.image.GetDepth() for image in study.images.values()] == [22, 22, 22]
        assert any("ROI" in note and "outline" in note for note in study.notes)
        assert any(".nii.gz: not used, the same image" in note for note in study.notes)


@pytest.fixture(scope="module")
def brainix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brainix")
    with tarfile.open(SHARED / "native" / "BRAINIX_dicom.tar.xz") as archive:
        archive.extractall(folder)
    return folder
