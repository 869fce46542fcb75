"""Which volume of a scene is proposed for which sequence, and why."""

from __future__ import annotations

import host
import pytest
import SimpleITK as sitk
import slicer

host.start()
from MSTKDSegmenterLib.scene.attributes import OUTPUT_ATTRIBUTE  # noqa: E402
from MSTKDSegmenterLib.scene.proposals import propose  # noqa: E402
from MSTKDSegmenterLib.scene.recognition import recognise_volume  # noqa: E402
from MSTKDSegmenterLib.scene.volumes import add_volume  # noqa: E402
from phantom import make_study  # noqa: E402
from scene_volumes import put_below, tag_value, volume  # noqa: E402


@pytest.fixture(autouse=True)
def empty_scene():
    slicer.mrmlScene.Clear()


@pytest.fixture(scope="module")
def t2() -> sitk.Image:
    """A simulated T2 that is recognised by its intensities, see test_appearance.py."""
    return make_study(seed=3, spacing=1.5).images["T2"]


def proposed(*nodes) -> dict[str, str]:
    found = propose(nodes, tag_value).by_sequence
    return {sequence: proposal.node.GetName() for sequence, proposal in found.items()}


def test_each_sequence_gets_the_volume_that_is_named_after_it_in_channel_order() -> None:
    nodes = [volume(name) for name in ("p1_t2", "p1_t1ce", "p1_flair")]
    found = propose(nodes)
    assert list(found.by_sequence) == ["FLAIR", "T1ce", "T2"]
    assert proposed(*nodes) == {"FLAIR": "p1_flair", "T1ce": "p1_t1ce", "T2": "p1_t2"}


def test_the_header_outweighs_the_name() -> None:
    assert proposed(volume("5: t1", SeriesDescription="Ax T2 FLAIR")) == {"FLAIR": "5: t1"}


def test_of_two_for_one_sequence_the_finer_is_taken_and_the_other_named() -> None:
    fine, coarse = volume("flair"), volume("flair thick")
    coarse.SetSpacing(3.0, 3.0, 6.0)
    found = propose([coarse, fine])
    assert found.by_sequence["FLAIR"].node is fine
    assert "'flair thick'" in found.by_sequence["FLAIR"].reason
    assert "'flair' is" in found.reasons[coarse.GetID()]


def test_volumes_of_two_patients_are_not_mixed() -> None:
    nodes = [
        volume("FLAIR", PatientID="A"), volume("T2", "T2", PatientID="A"), volume("T1", "T1", PatientID="B"),
    ]  # fmt: skip
    assert proposed(*nodes) == {"FLAIR": "FLAIR", "T2": "T2"}
    assert "not of one study" in propose(nodes, tag_value).reasons[nodes[2].GetID()]


def test_results_label_maps_and_diffusion_images_are_never_proposed() -> None:
    result = volume("flair probability")
    result.SetAttribute(OUTPUT_ATTRIBUTE, "1")
    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "t2 labels")
    diffusion = volume("dwi adc")
    found = propose([result, labels, diffusion])
    assert found.by_sequence == {}
    assert set(found.reasons) == {result.GetID(), labels.GetID(), diffusion.GetID()}


def test_a_scene_without_volumes_gives_no_proposal() -> None:
    assert propose([]).by_sequence == {}


def test_the_contrast_tag_turns_a_t1_into_a_t1ce_and_only_the_first_instance_is_asked() -> None:
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "5: t1 axial")
    node.SetAttribute("DICOM.instanceUIDs", "1.2.3 1.2.4")
    header = {"0008,0060": "MR", "0008,103e": "AX T1 SE", "0018,0010": "GADOVIST"}
    asked = []
    seen = recognise_volume(node, lambda uid, tag: asked.append(uid) or header.get(tag))
    assert (seen.sequence, set(asked)) == ("T1ce", {"1.2.3"})


def test_a_header_that_does_not_say_leaves_it_to_the_name_and_that_to_the_file() -> None:
    assert proposed(volume("my FLAIR", PatientID="1")) == {"FLAIR": "my FLAIR"}
    node = volume("Volume_1")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName("/data/t1 project/patient_t2.nii.gz")
    node.SetAndObserveStorageNodeID(storage.GetID())
    seen = recognise_volume(node)
    assert (seen.sequence, seen.evidence) == ("T2", "name")
    assert "file 'patient_t2.nii.gz'" in seen.reason


def test_where_names_are_silent_the_intensities_speak_and_the_reason_says_so(t2) -> None:
    node = add_volume(slicer.mrmlScene, t2, "Series 4")
    proposal = propose([node]).by_sequence["T2"]
    assert proposal.node is node
    assert "the name holds no sequence; looks like a T2" in proposal.reason


def test_intensities_weigh_less_than_a_name(t2) -> None:
    looks, named = add_volume(slicer.mrmlScene, t2, "Series 4"), volume("t2", "T2")
    named.SetSpacing(3.0, 3.0, 6.0)
    assert proposed(looks, named) == {"T2": "t2"}


@pytest.mark.parametrize("name", ["t1 and t2", "adc", "t2 mask"])
def test_intensities_neither_settle_a_contradiction_nor_overrule_a_name_that_excludes(t2, name: str) -> None:
    node = add_volume(slicer.mrmlScene, t2, name)
    found = propose([node])
    assert found.by_sequence == {}
    assert found.reasons[node.GetID()].startswith("Not proposed: ")


def test_names_that_differ_by_the_patient_are_not_mixed_and_others_are() -> None:
    names = ["smith_flair", "smith_t1", "jones_t2", "jones_flair", "jones_t1ce"]
    assert proposed(*map(volume, names)) == {"FLAIR": "jones_flair", "T1ce": "jones_t1ce", "T2": "jones_t2"}
    slicer.mrmlScene.Clear()
    names = ["scan1_flair", "scan1_t1", "scan1_t2", "scan2_flair", "scan2_t1ce"]  # two days
    assert proposed(*map(volume, names)) == {"FLAIR": "scan1_flair", "T1": "scan1_t1", "T2": "scan1_t2"}
    slicer.mrmlScene.Clear()
    assert proposed(*map(volume, ["5: AX FLAIR", "t1 brain", "smith t2"])).keys() == {"FLAIR", "T1", "T2"}


def test_patients_of_the_subject_hierarchy_are_told_apart_without_dicom_tags() -> None:
    nodes = [volume("FLAIR"), volume("T2", "T2"), volume("T1", "T1")]
    for node, patient in zip(nodes, "AAB"):
        put_below(node, patient, "20240101")
    assert proposed(*nodes) == {"FLAIR": "FLAIR", "T2": "T2"}


def test_of_two_examinations_of_one_patient_the_later_is_taken() -> None:
    nodes = [
        volume(f"{day} {sequence}", sequence, PatientID="A", StudyDate=day)
        for day in ("20240601", "20230101")
        for sequence in ("FLAIR", "T2")
    ]
    assert proposed(*nodes) == {"FLAIR": "20240601 FLAIR", "T2": "20240601 T2"}
    assert "517 days apart" in propose(nodes, tag_value).reasons[nodes[3].GetID()]  # 2024 is a leap year


def test_a_volume_that_its_module_hides_or_that_is_one_slice_is_not_proposed() -> None:
    hidden, slice_ = volume("flair"), add_volume(slicer.mrmlScene, sitk.Image(64, 64, 1, sitk.sitkInt16), "t2")
    hidden.SetHideFromEditors(True)
    found = propose([hidden, slice_])
    assert found.by_sequence == {}
    assert "64 x 64 x 1 voxels are no volume" in found.reasons[slice_.GetID()]


def test_what_is_proposed_goes_with_what_the_user_has_chosen() -> None:
    names = ("pat7_2023_t1ce", "pat7_2024_flair", "pat7_2024_t1ce", "pat7_2024_t2")
    nodes, flair = [volume(name) for name in names], volume("pat7_2023_flair")
    found = propose(nodes, chosen={"FLAIR": flair})
    assert {sequence: one.node for sequence, one in found.by_sequence.items()} == {"T1ce": nodes[0]}
    assert "chosen are not of one study" in found.reasons[nodes[3].GetID()]


@pytest.mark.parametrize("name", ["pat7_flair_denoised", "output"])
def test_a_chosen_name_that_says_more_than_the_others_or_nothing_of_the_kind_rules_out_none(name: str) -> None:
    nodes, own = [volume("pat7_flair"), volume("pat7_t2")], volume(name)
    assert propose(nodes, chosen={"FLAIR": own}).by_sequence["T2"].node is nodes[1]


def test_a_chosen_name_that_tells_nothing_stays_with_the_study_that_it_was_chosen_in() -> None:
    first, second = ([volume(f"{case}_{word}") for word in ("flair", "t1", "t1ce")] for case in ("pat7", "pat8"))
    own = volume("series 12")
    both = [*first[:2], *second]
    beside = {"FLAIR": first[0], "T1": first[1]}
    found = propose(both, chosen={"T2": own}, beside=beside)
    assert {sequence: one.node for sequence, one in found.by_sequence.items()} == beside
    # a name that tells something is followed
    found = propose(both, chosen={"T2": volume("pat8_t2")}, beside=beside)
    assert [one.node for one in found.by_sequence.values()] == second


def test_volumes_beside_a_chosen_one_of_another_patient_do_not_hold_it() -> None:
    first, second = ([volume(f"{case}_{word}") for word in ("flair", "t1")] for case in ("pat7", "pat8"))
    own = volume("series 12")
    for patient, nodes in (("A", first), ("B", [*second, own])):
        for node in nodes:
            put_below(node, patient, "20240101")
    found = propose([*first, *second], chosen={"T2": own}, beside={"FLAIR": first[0], "T1": first[1]})
    assert [one.node for one in found.by_sequence.values()] == second
