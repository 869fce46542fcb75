"""Which volumes of a scene are proposed for which sequence, and what is said against a choice."""

from __future__ import annotations

import host
import numpy as np
import pytest
import slicer
import vtk

host.start()
from head_phantom import head  # noqa: E402
from MSTKDSegmenterLib.scene.attributes import OUTPUT_ATTRIBUTE  # noqa: E402
from MSTKDSegmenterLib.scene.concerns import concerns  # noqa: E402
from MSTKDSegmenterLib.scene.proposals import propose  # noqa: E402
from MSTKDSegmenterLib.scene.volumes import add_volume  # noqa: E402


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()


def volume(name: str, sequence: str = "FLAIR", patient: int = 0, **header: str):
    """A head in the scene; ``header`` are DICOM tags such as PatientID."""
    node = add_volume(slicer.mrmlScene, head(sequence, patient), name)
    if header:
        uid = f"1.2.{len(HEADERS)}"
        HEADERS[uid] = {TAGS[key]: value for key, value in header.items()}
        node.SetAttribute("DICOM.instanceUIDs", uid)
    return node


HEADERS: dict[str, dict[str, str]] = {}
TAGS = {
    "SeriesDescription": "0008,103e", "PatientID": "0010,0020", "PatientName": "0010,0010",
    "StudyInstanceUID": "0020,000d", "StudyDate": "0008,0020",
}  # fmt: skip


def tag_value(uid: str, tag: str) -> str:
    return HEADERS[uid].get(tag, "")


def proposed(*nodes) -> dict[str, str]:
    found = propose(nodes, tag_value).by_sequence
    return {sequence: proposal.node.GetName() for sequence, proposal in found.items()}


class TestProposals:
    def test_each_sequence_gets_the_volume_that_is_named_after_it_in_channel_order(self) -> None:
        nodes = [volume(name) for name in ("p1_t2", "p1_t1ce", "p1_flair")]
        found = propose(nodes)
        assert list(found.by_sequence) == ["FLAIR", "T1ce", "T2"]
        assert proposed(*nodes) == {"FLAIR": "p1_flair", "T1ce": "p1_t1ce", "T2": "p1_t2"}

    def test_the_header_outweighs_the_name(self) -> None:
        assert proposed(volume("5: t1", SeriesDescription="Ax T2 FLAIR")) == {"FLAIR": "5: t1"}

    def test_of_two_for_one_sequence_the_finer_is_taken_and_the_other_named(self) -> None:
        fine, coarse = volume("flair"), volume("flair thick")
        coarse.SetSpacing(3.0, 3.0, 6.0)
        found = propose([coarse, fine])
        assert found.by_sequence["FLAIR"].node is fine
        assert "'flair thick'" in found.by_sequence["FLAIR"].reason
        assert "'flair' is" in found.reasons[coarse.GetID()]

    def test_volumes_of_two_patients_are_not_mixed(self) -> None:
        nodes = [
            volume("FLAIR", PatientID="A"), volume("T2", "T2", PatientID="A"), volume("T1", "T1", PatientID="B"),
        ]  # fmt: skip
        assert proposed(*nodes) == {"FLAIR": "FLAIR", "T2": "T2"}
        assert "not of one study" in propose(nodes, tag_value).reasons[nodes[2].GetID()]

    def test_results_label_maps_and_diffusion_images_are_never_proposed(self) -> None:
        result = volume("flair probability")
        result.SetAttribute(OUTPUT_ATTRIBUTE, "1")
        labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "t2 labels")
        diffusion = volume("dwi adc")
        found = propose([result, labels, diffusion])
        assert found.by_sequence == {}
        assert set(found.reasons) == {result.GetID(), labels.GetID(), diffusion.GetID()}

    def test_a_scene_without_volumes_gives_no_proposal(self) -> None:
        assert propose([]).by_sequence == {}


class TestConcerns:
    def test_two_sequences_of_one_head_raise_none(self) -> None:
        assert concerns({"FLAIR": volume("flair"), "T1": volume("t1", "T1")}) == []

    def test_the_same_volume_twice_blocks(self) -> None:
        flair = volume("my scan")
        [found] = concerns({"FLAIR": flair, "T2": flair})
        assert found.severity == "blocks"
        assert "my scan" in found.text and "same" in found.text

    def test_a_copy_of_the_voxels_under_another_name_blocks_too(self) -> None:
        found = concerns({"FLAIR": volume("one"), "T2": volume("two")})
        assert [one.severity for one in found] == ["blocks"]

    def test_a_volume_without_voxels_blocks_and_the_others_are_still_looked_at(self) -> None:
        empty = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty")
        found = concerns({"FLAIR": volume("t1 here"), "T2": empty})
        assert [one.severity for one in found] == ["blocks", "warns"]
        assert "'empty' holds no voxels" in found[0].text
        assert "looks like T1" in found[1].text

    def test_different_patients_are_said_without_their_names(self) -> None:
        chosen = {
            "FLAIR": volume("flair", PatientID="4711", PatientName="Doe^Jane"),
            "T2": volume("t2", "T2", PatientID="4712", PatientName="Roe^Richard"),
        }
        [found] = concerns(chosen, tag_value)
        assert (found.severity, "different patient IDs" in found.text) == ("warns", True)
        assert not any(secret in found.text for secret in ("4711", "4712", "Doe", "Roe"))

    @pytest.mark.parametrize(("day", "count"), [("20240130", 0), ("20240601", 1)], ids=["29 days", "five months"])
    def test_examinations_far_apart_in_time_warn(self, day: str, count: int) -> None:
        chosen = {"FLAIR": volume("flair", StudyDate="20240101"), "T2": volume("t2", "T2", StudyDate=day)}
        found = concerns(chosen, tag_value)
        assert [one.severity for one in found] == ["warns"] * count

    def test_volumes_that_lie_apart_block_and_those_that_share_little_warn(self) -> None:
        flair, t2 = volume("flair"), volume("t2", "T2")
        origin = np.array(t2.GetOrigin())
        t2.SetOrigin(origin + np.array((60.0, 0.0, 0.0)))
        [warning] = concerns({"FLAIR": flair, "T2": t2})
        assert (warning.severity, "share only" in warning.text) == ("warns", True)
        t2.SetOrigin(origin + np.array((500.0, 0.0, 0.0)))
        [refusal] = concerns({"FLAIR": flair, "T2": t2})
        assert refusal.severity == "blocks"

    def test_a_warped_volume_blocks_with_the_way_out(self) -> None:
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

    def test_what_blocks_is_what_the_segmentation_refuses(self) -> None:
        from MSTKDSegmenterLib.engine.errors import UnusableInput
        from MSTKDSegmenterLib.engine.study import check_study, study_from_images
        from MSTKDSegmenterLib.scene.volumes import image_from_volume

        chosen = {"FLAIR": volume("one"), "T2": volume("two")}
        [found] = concerns(chosen)
        with pytest.raises(UnusableInput) as refused:
            check_study(study_from_images({s: image_from_volume(n) for s, n in chosen.items()}))
        assert "the same image" in str(refused.value) and "the same image" in found.text
