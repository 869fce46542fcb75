"""What a finished segmentation leaves in the scene, through real MRML (slicer-core outside the application)."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.scene.attributes import OUTPUT_ATTRIBUTE, RELIABILITY_TAG, REPORT_ATTRIBUTE
from MSTKDSegmenterLib.scene.results import add_result, class_grades
from MSTKDSegmenterLib.scene.terminology import APPEARANCES
from MSTKDSegmenterLib.scene.volumes import add_volume, image_from_volume

GRID = Grid((9, 8, 7), (1.0, 1.5, 2.0), (-10.0, 20.0, -30.0), (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))
VOXEL_ML = 0.003
SIZES = {"NCR": 6, "ED": 20, "ET": 4}
"""Voxels of each class in LABELS."""

LABELS = np.zeros(GRID.shape, dtype=np.uint8)
LABELS.ravel()[100:130] = [2] * 20 + [1] * 6 + [3] * 4


def report(expected: dict[str, tuple[float, str]] | None = None) -> dict:
    expected = (
        {"WT": (0.88, "good"), "TC": (0.6, "fair"), "ET": (0.3, "not reliable")} if expected is None else expected
    )
    return {
        "harmonising": {"reference": "T2"},
        "model": {"name": "student", "version": "1.2"},
        "expected": {region: {"dice": dice, "grade": grade} for region, (dice, grade) in expected.items()},
        "findings": ['Ärger; with: all "signs" | % <that> mean\nsomething'],
    }


@pytest.fixture
def scene():
    return slicer.vtkMRMLScene()


@pytest.fixture
def inputs(scene) -> dict:
    image = GRID.image(np.arange(LABELS.size, dtype=np.int16).reshape(GRID.shape))
    return {"FLAIR": add_volume(scene, image, "dark fluid"), "T2": add_volume(scene, image, "T2 axial")}


@pytest.fixture
def study(scene, inputs) -> int:
    """The inputs stand under a study in the subject hierarchy."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    item = hierarchy.CreateStudyItem(patient, "study")
    for node in inputs.values():
        hierarchy.CreateItem(item, node)
    return item


def probabilities() -> dict[str, sitk.Image]:
    values = np.linspace(0, 1, LABELS.size, dtype=np.float32).reshape(GRID.shape)
    return {region: GRID.image(values / number) for number, region in enumerate(("WT", "TC", "ET"), 1)}


def everything(scene, inputs):
    return add_result(scene, LABELS, GRID, report(), inputs, exclusive=True, probabilities=probabilities())


def nodes_of(result) -> list:
    return [result.segmentation, result.exclusive, *result.probabilities.values(), result.table]


def voxels(node, segment: str) -> int:
    return int(np.count_nonzero(slicer.util.arrayFromSegmentInternalBinaryLabelmap(node, segment)))


def cells(table) -> list[list[str]]:
    return [
        [table.GetCellText(row, column) for column in range(table.GetNumberOfColumns())]
        for row in range(table.GetNumberOfRows())
    ]


class TestSegments:
    def test_only_what_is_wanted_is_added(self, scene, inputs) -> None:
        result = add_result(scene, LABELS, GRID, report(), inputs)
        assert (result.exclusive, result.probabilities) == (None, {})
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 1
        assert scene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == len(inputs)

    def test_the_overlapping_regions_are_unions_of_the_classes_and_one_is_marked(self, scene, inputs) -> None:
        node = add_result(scene, LABELS, GRID, report(), inputs).segmentation
        segmentation = node.GetSegmentation()
        assert segmentation.GetSegmentIDs() == ("WT", "TC", "ET")
        names = [segmentation.GetSegment(region).GetName() for region in ("WT", "TC", "ET")]
        assert names == ["WT", "TC", "ET (not reliable)"]
        assert [voxels(node, region) for region in ("WT", "TC", "ET")] == [30, 10, 4]
        assert node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()) == inputs["T2"]

    def test_the_exclusive_classes_do_not_overlap_and_share_one_layer(self, scene, inputs) -> None:
        node = everything(scene, inputs).exclusive
        segmentation = node.GetSegmentation()
        assert segmentation.GetSegmentIDs() == ("NCR", "ED", "ET")
        assert segmentation.GetNumberOfLayers() == 1
        for part, size in SIZES.items():
            labelmap = slicer.vtkOrientedImageData()
            node.GetBinaryLabelmapRepresentation(part, labelmap)
            scalars = labelmap.GetPointData().GetScalars()
            assert sum(scalars.GetTuple1(i) > 0 for i in range(scalars.GetNumberOfTuples())) == size

    def test_the_voxels_have_the_name_without_which_the_export_to_dicom_takes_them_for_none(
        self, scene, inputs
    ) -> None:
        result = everything(scene, inputs)
        for segmentation in (result.segmentation.GetSegmentation(), result.exclusive.GetSegmentation()):
            for name in segmentation.GetSegmentIDs():
                labelmap = segmentation.GetSegment(name).GetRepresentation("Binary labelmap")
                assert labelmap.GetPointData().GetArray("ImageScalars").GetRange()[1] > 0
        for node in result.probabilities.values():
            assert node.GetImageData().GetPointData().GetArray("ImageScalars") is not None

    def test_all_of_it_goes_where_its_reference_goes(self, scene, inputs) -> None:
        motion = sitk.Euler3DTransform((10.0, -20.0, 30.0), 0.1, -0.2, 0.3, (12.0, -7.0, 4.0))
        transform = under(scene, inputs["T2"], np.reshape(motion.GetMatrix(), (3, 3)), motion.GetTranslation())
        world = Grid.of(image_from_volume(inputs["T2"]))
        assert not world.matches(GRID)
        image = world.image(np.zeros(GRID.shape, dtype=np.float32))
        result = add_result(scene, LABELS, world, report(), inputs, True, {"WT": image})
        moved = (result.segmentation, result.exclusive, result.probabilities["WT"])
        assert [node.GetParentTransformNode() for node in moved] == [transform] * 3
        assert Grid.of(image_from_volume(result.probabilities["WT"])).matches(world)
        name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
        geometry = result.segmentation.GetSegmentation().GetConversionParameter(name)
        plain = add_result(scene, LABELS, GRID, report(), {"T2": inputs["FLAIR"]}).segmentation.GetSegmentation()
        assert geometry == plain.GetConversionParameter(name)

    def test_nothing_is_put_under_a_transform_that_shears(self, scene, inputs) -> None:
        under(scene, inputs["T2"], np.array([[1, 0.3, 0], [0, 1, 0], [0, 0, 1]]), (0.0, 0.0, 0.0))
        world = Grid.of(image_from_volume(inputs["T2"]))
        labels = np.ones(world.shape, dtype=np.uint8)
        node = add_result(scene, labels, world, report(), inputs).segmentation
        assert node.GetParentTransformNode() is None
        assert voxels(node, "WT") == labels.size

    def test_the_exclusive_classes_are_coded_and_tagged_for_dicom(self, scene, inputs) -> None:
        segmentation = everything(scene, inputs).exclusive.GetSegmentation()
        for part in SIZES:
            segment = segmentation.GetSegment(part)
            assert tag(segment, segment.GetTerminologyEntryTagName()) == APPEARANCES[part].terminology
            assert tag(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
            assert tag(segment, "DICOM.SegmentAlgorithmName") == "MSTKDSegmenter student 1.2"
        codes = [APPEARANCES[part].code[2] for part in SIZES]
        assert codes == ["Necrosis", "Edema", "Enhancing Lesion"]

    def test_the_exclusive_classes_are_hidden_at_first(self, scene, inputs) -> None:
        result = everything(scene, inputs)
        assert not result.exclusive.GetDisplayNode().GetVisibility()
        assert result.segmentation.GetDisplayNode().GetVisibility()

    def test_a_class_is_no_more_reliable_than_the_regions_that_bound_it(self) -> None:
        grades = class_grades({"WT": "good", "TC": "fair", "ET": "not reliable"})
        assert grades == {"NCR": "not reliable", "ED": "fair", "ET": "not reliable"}
        assert class_grades({}) == {}

    def test_marked_classes_carry_the_mark_in_the_scene(self, scene, inputs) -> None:
        segmentation = everything(scene, inputs).exclusive.GetSegmentation()
        names = [segmentation.GetSegment(part).GetName() for part in SIZES]
        assert names == ["NCR (not reliable)", "ED", "ET (not reliable)"]
        assert tag(segmentation.GetSegment("ED"), RELIABILITY_TAG) == "fair"

    def test_an_empty_result_gives_three_empty_segments(self, scene, inputs) -> None:
        result = add_result(scene, np.zeros_like(LABELS), GRID, report(), inputs, True)
        assert result.segmentation.GetSegmentation().GetSegmentIDs() == ("WT", "TC", "ET")
        assert result.exclusive.GetSegmentation().GetSegmentIDs() == ("NCR", "ED", "ET")
        assert [row[1:3] for row in cells(result.table)] == [["0", "0"]] * 5


class TestProbabilities:
    def test_they_lie_where_the_segments_do_and_keep_their_values(self, scene, inputs) -> None:
        result = everything(scene, inputs)
        for region, expected in probabilities().items():
            image = image_from_volume(result.probabilities[region])
            np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sitk.GetArrayFromImage(expected))
            np.testing.assert_allclose(Grid.of(image).corners(), GRID.corners(), atol=1e-9)

    def test_they_are_shown_from_0_to_1(self, scene, inputs) -> None:
        display = everything(scene, inputs).probabilities["TC"].GetDisplayNode()
        assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0, 1)
        assert not display.GetAutoWindowLevel()


class TestTable:
    def test_it_has_a_row_for_each_segment_with_volume_voxels_and_reliability(self, scene, inputs) -> None:
        table = everything(scene, inputs).table
        titles = [table.GetColumnName(column) for column in range(table.GetNumberOfColumns())]
        rows = cells(table)
        assert titles == ["Region", "Volume (ml)", "Voxels", "Reliability"]
        assert [row[0] for row in rows] == ["WT", "TC", "ET", "NCR", "ED"]
        assert [int(row[2]) for row in rows] == [30, 10, 4, 6, 20]
        assert [float(row[1]) for row in rows] == pytest.approx([int(row[2]) * VOXEL_ML for row in rows])
        assert [row[3] for row in rows] == ["good", "fair", "not reliable", "not reliable", "fair"]

    def test_what_was_not_measured_is_not_graded(self, scene, inputs) -> None:
        table = add_result(scene, LABELS, GRID, report(expected={}), inputs).table
        assert {row[3] for row in cells(table)} == {"not measured"}


class TestScene:
    def test_everything_stands_beside_the_inputs_under_the_same_study(self, scene, inputs, study) -> None:
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        parents = [
            hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in nodes_of(everything(scene, inputs))
        ]
        assert parents == [study] * 6

    def test_without_a_subject_hierarchy_none_is_made(self, scene, inputs) -> None:
        everything(scene, inputs)
        assert scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0

    def test_every_node_says_that_it_is_a_result(self, scene, inputs) -> None:
        result = everything(scene, inputs)
        assert [node.GetAttribute(OUTPUT_ATTRIBUTE) for node in nodes_of(result)] == ["1"] * 6
        assert all(node.GetAttribute(OUTPUT_ATTRIBUTE) is None for node in inputs.values())

    def test_a_second_result_touches_nothing_of_the_first_and_has_names_of_its_own(self, scene, inputs) -> None:
        first = everything(scene, inputs)
        before = {node.GetID(): node.GetMTime() for node in nodes_of(first)}
        second = everything(scene, inputs)
        assert {node.GetID(): node.GetMTime() for node in nodes_of(first)} == before
        names = [node.GetName() for node in nodes_of(first) + nodes_of(second)]
        assert len(set(names)) == 12
        assert names[0] == "T2 axial tumor"

    def test_a_reference_that_was_deleted_leaves_the_place_to_the_other_input(self, scene, inputs, study) -> None:
        scene.RemoveNode(inputs["T2"])
        result = everything(scene, inputs)
        hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
        assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result.table)) == study
        assert result.segmentation.GetName() == "T2 axial tumor"
        assert (
            result.segmentation.GetNodeReference(result.segmentation.GetReferenceImageGeometryReferenceRole()) is None
        )

    def test_without_any_input_left_the_result_is_still_there(self, scene, inputs, study) -> None:
        for node in inputs.values():
            scene.RemoveNode(node)
        result = everything(scene, inputs)
        assert [node.GetScene() == scene for node in nodes_of(result)] == [True] * 6
        assert voxels(result.segmentation, "WT") == 30

    def test_the_report_survives_saving_the_scene(self, scene, inputs) -> None:
        add_result(scene, LABELS, GRID, report(), inputs)
        scene.SetSaveToXMLString(1)
        scene.Commit()
        loaded = slicer.vtkMRMLScene()
        loaded.SetLoadFromXMLString(1)
        loaded.SetSceneXMLString(scene.GetSceneXMLString())
        loaded.Connect()
        node = loaded.GetFirstNodeByClass("vtkMRMLSegmentationNode")
        assert json.loads(node.GetAttribute(REPORT_ATTRIBUTE)) == report()


def under(scene, node, turn: np.ndarray, shift: tuple[float, ...]):
    """A new linear transform that the node is put under."""
    matrix = vtk.vtkMatrix4x4()
    for row in range(3):
        for column, value in enumerate((*turn[row], shift[row])):
            matrix.SetElement(row, column, value)
    transform = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    transform.SetMatrixTransformToParent(matrix)
    node.SetAndObserveTransformNodeID(transform.GetID())
    return transform


def tag(segment, name: str) -> str:
    value = vtk.reference("")
    assert segment.GetTag(name, value)
    return str(value)
