"""What is said against a choice of volumes before anything is computed."""

from __future__ import annotations

import host
import numpy as np
import pytest
import slicer
import vtk

host.start()
from MSTKDSegmenterLib.engine.errors import UnusableInput  # noqa: E402
from MSTKDSegmenterLib.engine.study import check_study, study_from_images  # noqa: E402
from MSTKDSegmenterLib.scene import concerns as module  # noqa: E402
from MSTKDSegmenterLib.scene.attributes import OUTPUT_ATTRIBUTE  # noqa: E402
from MSTKDSegmenterLib.scene.concerns import Memory, concerns, hearsay  # noqa: E402
from MSTKDSegmenterLib.scene.volumes import image_from_volume  # noqa: E402
from scene_volumes import put_below, tag_value, volume  # noqa: E402


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()


def test_two_sequences_of_one_head_raise_none() -> None:
    assert concerns({"FLAIR": volume("flair"), "T1": volume("t1", "T1")}) == []


def test_the_same_volume_twice_blocks() -> None:
    flair = volume("my scan")
    [found] = concerns({"FLAIR": flair, "T2": flair})
    assert found.severity == "blocks"
    assert "my scan" in found.text and "same" in found.text


def test_a_copy_of_the_voxels_under_another_name_blocks_too() -> None:
    found = concerns({"FLAIR": volume("one"), "T2": volume("two")})
    assert [one.severity for one in found] == ["blocks"]


def test_a_volume_without_voxels_blocks_and_the_others_are_still_looked_at() -> None:
    empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
    found = concerns({"FLAIR": volume("t1 here"), "T2": empty})
    assert [one.severity for one in found] == ["blocks", "warns"]
    assert "'empty' holds no voxels" in found[0].text
    assert "looks like T1" in found[1].text


def test_different_patients_are_said_without_their_names() -> None:
    chosen = {
        "FLAIR": volume("flair", PatientID="4711", PatientName="Doe^Jane"),
        "T2": volume("t2", "T2", PatientID="4712", PatientName="Roe^Richard"),
    }
    [found] = concerns(chosen, tag_value)
    assert (found.severity, "different patient IDs" in found.text) == ("blocks", True)
    assert "tick 'Same patient" in found.text
    [known] = concerns(chosen, tag_value, same_patient=True)
    assert (known.severity, "tick" in known.text) == ("warns", False)
    assert not any(secret in found.text for secret in ("4711", "4712", "Doe", "Roe"))


@pytest.mark.parametrize(("day", "count"), [("20240130", 0), ("20240601", 1)], ids=["29 days", "five months"])
def test_examinations_far_apart_in_time_warn(day: str, count: int) -> None:
    chosen = {"FLAIR": volume("flair", StudyDate="20240101"), "T2": volume("t2", "T2", StudyDate=day)}
    found = concerns(chosen, tag_value)
    assert [one.severity for one in found] == ["warns"] * count


def test_volumes_that_lie_apart_block_and_those_that_share_little_warn() -> None:
    flair, t2 = volume("flair"), volume("t2", "T2")
    origin = np.array(t2.GetOrigin())
    t2.SetOrigin(origin + np.array((60.0, 0.0, 0.0)))
    [warning] = concerns({"FLAIR": flair, "T2": t2})
    assert (warning.severity, "share only" in warning.text) == ("warns", True)
    t2.SetOrigin(origin + np.array((500.0, 0.0, 0.0)))
    [refusal] = concerns({"FLAIR": flair, "T2": t2})
    assert refusal.severity == "blocks"


def test_a_warped_volume_blocks_with_the_way_out() -> None:
    flair = volume("flair")
    warp = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode")
    points = vtk.vtkPoints()
    points.InsertNextPoint(0.0, 0.0, 0.0)
    spline = vtk.vtkThinPlateSplineTransform()
    spline.SetSourceLandmarks(points)
    spline.SetTargetLandmarks(points)
    warp.SetAndObserveTransformToParent(spline)
    flair.SetAndObserveTransformNodeID(warp.GetID())
    [found] = concerns({"FLAIR": flair})
    assert (found.severity, "Harden" in found.text) == ("blocks", True)


def test_what_blocks_is_what_the_segmentation_refuses() -> None:
    chosen = {"FLAIR": volume("one"), "T2": volume("two")}
    [found] = concerns(chosen)
    with pytest.raises(UnusableInput) as refused:
        check_study(study_from_images({s: image_from_volume(n) for s, n in chosen.items()}))
    assert "the same image" in str(refused.value) and "the same image" in found.text


def test_patients_and_dates_of_the_subject_hierarchy_count_where_there_is_no_header() -> None:
    flair, t2 = volume("flair"), volume("t2", "T2")
    put_below(flair, "A", "20240101")
    put_below(t2, "A", "2024-06-01")
    [found] = concerns({"FLAIR": flair, "T2": t2})
    assert "152 days apart" in found.text
    put_below(t2, "B", "20240101")
    [found] = concerns({"FLAIR": flair, "T2": t2})
    assert "different patient IDs" in found.text


def test_one_name_written_in_two_ways_is_one_patient() -> None:
    chosen = {"FLAIR": volume("flair", PatientName="Doe^Jane"), "T2": volume("t2", "T2", PatientName="DOE, JANE ")}
    assert concerns(chosen, tag_value) == []


def test_voxels_that_are_no_numbers_warn() -> None:
    flair = volume("flair")
    voxels = slicer.util.arrayFromVolume(flair).astype(np.float32)
    voxels[:2] = np.nan
    slicer.util.updateVolumeFromArray(flair, voxels)
    [found] = concerns({"FLAIR": flair})
    assert (found.severity, "NaN" in found.text) == ("warns", True)


def test_a_colour_volume_blocks() -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "screenshot")
    voxels = vtk.vtkImageData()
    voxels.SetDimensions(8, 8, 8)
    voxels.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(voxels)
    [found] = concerns({"FLAIR": node})
    assert (found.severity, "3 values per voxel" in found.text) == ("blocks", True)


@pytest.mark.parametrize("kind", ["vtkMRMLScalarVolumeNode", "vtkMRMLLabelMapVolumeNode"])
def test_what_the_logic_refuses_as_no_image_blocks(kind: str) -> None:
    node = volume("probability WT")
    if kind == "vtkMRMLScalarVolumeNode":
        node.SetAttribute(OUTPUT_ATTRIBUTE, "1")
    else:
        labels = slicer.mrmlScene.AddNewNodeByClass(kind, "labels")
        labels.SetAndObserveImageData(node.GetImageData())
        node = labels
    [found] = concerns({"T2": node})
    assert (found.severity, "is a label map or a result of this module" in found.text) == ("blocks", True)


class TestNames:
    @pytest.mark.parametrize(
        ("flair", "t1"),
        [
            ("smith_flair", "miller_t1"),
            ("case1_flair", "case2_t1"),
            ("sub-001_FLAIR", "sub-002_T1w"),
            ("sub-001_ses-1_FLAIR", "sub-001_ses-2_T1w"),
            ("BraTS-GLI-00001-000-t2f", "BraTS-GLI-00005-000-t1n"),
            ("pat1_20230105_flair", "pat1_20240310_t1"),
            ("pat1_scan1_flair", "pat1_scan2_t1"),
        ],
    )
    def test_of_two_patients_or_days_warn(self, flair: str, t1: str) -> None:
        chosen = {"FLAIR": volume(flair), "T1": volume(t1, "T1")}
        [found] = concerns(chosen)
        assert found.severity == "warns"
        assert found.text.startswith(f"The names of '{flair}' (FLAIR) and '{t1}' (T1) differ in more than")
        assert concerns(chosen, same_patient=True) == []

    @pytest.mark.parametrize(
        ("flair", "t1"),
        [
            ("flair", "t1"),
            ("smith_flair", "t1"),
            ("smith t2 tirm tra dark-fluid", "t1_fl2d_tra_smith"),
            ("t2_tirm_tra_dark-fluid_p2", "smith_t1"),
            ("smith_flair_denoised", "smith_t1"),
            ("3 AX FLAIR dark fluid", "4 T1 MPRAGE sag"),
            ("sub-001_acq-highres_FLAIR", "sub-001_rec-norm_T1w"),
            ("BraTS-GLI-00001-000-t2f", "BraTS-GLI-00001-000-t1n"),
            ("UPENN-GBM-00001_11_FLAIR", "UPENN-GBM-00001_11_T1"),
            ("Series3 flair", "Series4 t1"),
            ("output", "scan"),
        ],
    )
    def test_of_one_study_do_not(self, flair: str, t1: str) -> None:
        assert hearsay({"FLAIR": volume(flair), "T1": volume(t1, "T1")}) == []

    def test_do_not_matter_where_the_header_says_that_it_is_one_patient_or_already_says_that_it_is_not(self) -> None:
        one, other = (volume(name, kind, PatientID="1") for name, kind in (("a_flair", "FLAIR"), ("b_t1", "T1")))
        assert concerns({"FLAIR": one, "T1": other}, tag_value) == []
        third = volume("c_t2", "T2", PatientID="2")
        assert [found.severity for found in concerns({"FLAIR": one, "T2": third}, tag_value)] == ["blocks"]

    def test_of_several_pairs_are_told_once(self) -> None:
        chosen = {"FLAIR": volume("smith_flair"), "T1": volume("miller_t1", "T1"), "T2": volume("miller_t2", "T2")}
        [found] = concerns(chosen)
        assert "'smith_flair' (FLAIR), 'miller_t1' (T1) and 'miller_t2' (T2)" in found.text


def test_a_misspelt_sequence_is_an_error_of_the_caller() -> None:
    with pytest.raises(KeyError, match="T1c"):
        concerns({"T1c": volume("t1")})


class TestMemory:
    @pytest.fixture
    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of the volumes whose voxels are read."""
        names: list[str] = []

        def reading(node):
            names.append(node.GetName())
            return image_from_volume(node)

        monkeypatch.setattr(module, "image_from_volume", reading)
        return names

    def test_voxels_are_read_once_whatever_else_is_asked(self, read: list[str]) -> None:
        memory, flair = Memory(), volume("flair", PatientID="1")
        chosen = {"FLAIR": flair, "T1": volume("t1", "T1", PatientID="2")}
        before = concerns(chosen, tag_value, memory=memory)
        volume("another", "T2")
        flair.Modified()
        assert concerns(chosen, tag_value, memory=memory) == before
        assert [one.severity for one in concerns(chosen, tag_value, True, memory)] == ["warns"]
        assert read == ["flair", "t1"]

    def test_of_a_volume_that_is_chosen_or_left_out_the_others_are_not_asked_again(self, read: list[str]) -> None:
        memory, chosen = Memory(), {"FLAIR": volume("flair"), "T1": volume("t1", "T1"), "T2": volume("t2", "T1")}
        [same] = concerns(chosen, memory=memory)
        assert same.severity == "blocks"
        del chosen["T2"], read[:]
        assert concerns(chosen, memory=memory) == []
        assert read == []

    def test_a_volume_that_cannot_be_used_is_not_compared(self, read: list[str]) -> None:
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        memory, chosen = Memory(), {"FLAIR": volume("flair"), "T1": empty}
        for _ in range(2):
            assert [one.severity for one in concerns(chosen, memory=memory)] == ["blocks"]
        assert read == ["flair", "empty"]

    def test_they_are_read_again_when_they_or_their_place_or_name_change(self, read: list[str]) -> None:
        memory, flair = Memory(), volume("flair")
        voxels = slicer.util.arrayFromVolume(flair)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
        flair.SetAndObserveTransformNodeID(transform.GetID())
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 3, 5.0)
        assert concerns({"FLAIR": flair}, memory=memory) == []

        def paint() -> None:
            voxels[:] = 0
            slicer.util.arrayFromVolumeModified(flair)

        changes = (
            lambda: flair.SetName("scan"),
            lambda: flair.SetSpacing(*(1.1 * length for length in flair.GetSpacing())),
            lambda: transform.SetMatrixTransformToParent(matrix),
            paint,
        )
        for number, change in enumerate(changes, 2):
            change()
            found = concerns({"FLAIR": flair}, memory=memory)
            assert len(read) == number
        assert "all voxels are 0" in found[0].text
