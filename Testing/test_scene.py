"""Volume nodes to images and back, and regions as segments, through real MRML (slicer-core outside the application)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import slicer
import vtk
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.scene.attributes import RELIABILITY_TAG
from MSTKDSegmenterLib.scene.segmentation import add_segmentation, write_segmentation
from MSTKDSegmenterLib.scene.terminology import APPEARANCES, CONTEXT
from MSTKDSegmenterLib.scene.volumes import add_volume, image_from_volume

TERMINOLOGY = Path(__file__).parents[1] / "MSTKDSegmenter" / "Resources" / "MSTKDSegmenter.term.json"


def rotation(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    transform = sitk.VersorTransform(np.array(axis, dtype=float) / np.linalg.norm(axis), np.radians(degrees))
    return np.array(transform.GetMatrix()).reshape(3, 3)


GRIDS = {
    "LPS": Grid((9, 8, 7), (1.0, 1.5, 2.0), (-10.0, 20.0, -30.0), tuple(np.eye(3).ravel())),
    "RAS": Grid((9, 8, 7), (1.0, 1.0, 1.0), (90.0, 126.0, -72.0), tuple(np.diag([-1.0, -1.0, 1.0]).ravel())),
    "sagittal": Grid((9, 8, 7), (0.5, 0.5, 5.0), (3.0, 2.0, 1.0), (0, 0, 1, 1, 0, 0, 0, -1, 0)),
    "oblique": Grid((9, 8, 7), (0.9, 1.1, 3.3), (12.34, -5.6, 7.8), tuple(rotation(23, (1, 2, 3)).ravel())),
    "mirrored": Grid((9, 8, 7), (1.0, 2.0, 3.0), (0.0, 0.0, 0.0), tuple(np.diag([1.0, -1.0, 1.0]).ravel())),
}


@pytest.fixture
def scene():
    return slicer.vtkMRMLScene()


def numbers(grid: Grid, dtype=np.int16) -> np.ndarray:
    return np.arange(np.prod(grid.shape), dtype=dtype).reshape(grid.shape)


def nested_masks(grid: Grid) -> dict[str, np.ndarray]:
    masks = {region: np.zeros(grid.shape, dtype=bool) for region in ("WT", "TC", "ET")}
    masks["WT"][1:6, 1:7, 2:8] = True
    masks["TC"][2:5, 2:5, 3:7] = True
    masks["ET"][3, 3, 4:6] = True
    return masks


def read_back(path: Path):
    scene = slicer.vtkMRMLScene()
    node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    storage = scene.AddNewNodeByClass("vtkMRMLSegmentationStorageNode")
    storage.SetFileName(str(path))
    assert storage.ReadData(node)
    return scene, node


def true_points(mask: np.ndarray, grid: Grid) -> set[tuple[float, ...]]:
    """Where the voxels of a mask lie: LPS points, to a micrometre."""
    indices = np.argwhere(mask)[:, ::-1]
    return {tuple(point) for point in np.round(grid.physical(indices), 3) + 0.0}


def segment_points(node, identifier: str) -> set[tuple[float, ...]]:
    """The same for a segment, asked of MRML itself (RAS), by the image-to-world matrix of its labelmap."""
    labelmap = slicer.vtkOrientedImageData()
    node.GetBinaryLabelmapRepresentation(identifier, labelmap)
    to_world = vtk.vtkMatrix4x4()
    labelmap.GetImageToWorldMatrix(to_world)
    low_i, high_i, low_j, high_j, low_k, high_k = labelmap.GetExtent()
    points = set()
    for k in range(low_k, high_k + 1):
        for j in range(low_j, high_j + 1):
            for i in range(low_i, high_i + 1):
                if labelmap.GetScalarComponentAsDouble(i, j, k, 0) > 0:
                    x, y, z, _ = to_world.MultiplyPoint((i, j, k, 1))
                    points.add(tuple(np.round([-x, -y, z], 3) + 0.0))
    return points


class TestVolumes:
    @pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
    def test_an_image_survives_the_way_into_a_volume_node_and_back(self, scene, grid, dtype) -> None:
        values = numbers(grid, dtype)
        image = image_from_volume(add_volume(scene, grid.image(values), "T1"))
        assert np.array_equal(sitk.GetArrayFromImage(image), values)
        assert sitk.GetArrayFromImage(image).dtype == dtype
        np.testing.assert_allclose(Grid.of(image).corners(), grid.corners(), atol=1e-9)

    def test_without_transform_no_digit_of_the_geometry_changes(self, scene) -> None:
        grid = GRIDS["oblique"]
        assert Grid.of(image_from_volume(add_volume(scene, grid.image(numbers(grid)), "T1"))) == grid

    def test_mrml_and_itk_agree_where_a_voxel_is(self, scene) -> None:
        grid = GRIDS["oblique"]
        node = add_volume(scene, grid.image(numbers(grid)), "T1")
        matrix = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(matrix)
        right, anterior, superior, _ = matrix.MultiplyPoint((3, 4, 5, 1))
        lps = grid.image(numbers(grid)).TransformIndexToPhysicalPoint((3, 4, 5))
        np.testing.assert_allclose((-right, -anterior, superior), lps)

    def test_a_file_that_slicer_reads_lies_where_simpleitk_puts_it(self, scene, tmp_path) -> None:
        grid = GRIDS["oblique"]
        sitk.WriteImage(grid.image(numbers(grid)), str(tmp_path / "T2.nrrd"))
        storage = scene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
        storage.SetFileName(str(tmp_path / "T2.nrrd"))
        node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "T2")
        assert storage.ReadData(node)
        image = image_from_volume(node)
        np.testing.assert_allclose(Grid.of(image).corners(), grid.corners(), atol=1e-6)
        assert np.array_equal(sitk.GetArrayFromImage(image), numbers(grid))

    def test_a_linear_transform_moves_the_image_and_leaves_the_node_alone(self, scene) -> None:
        grid = GRIDS["oblique"]
        node = add_volume(scene, grid.image(numbers(grid)), "T1")
        under_two_transforms(scene, node)
        before = node.GetSpacing(), node.GetOrigin(), node.GetTransformNodeID()
        image = image_from_volume(node)
        assert (node.GetSpacing(), node.GetOrigin(), node.GetTransformNodeID()) == before
        to_world = vtk.vtkMatrix4x4()
        node.GetParentTransformNode().GetMatrixTransformToWorld(to_world)
        ijk_to_ras = vtk.vtkMatrix4x4()
        node.GetIJKToRASMatrix(ijk_to_ras)
        for index in ((0, 0, 0), (8, 7, 6), (4, 0, 3)):
            right, anterior, superior, _ = to_world.MultiplyPoint(ijk_to_ras.MultiplyPoint((*index, 1)))
            np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(index), (-right, -anterior, superior))

    def test_hardening_the_transform_in_slicer_gives_the_same_image(self, scene) -> None:
        grid = GRIDS["oblique"]
        node = add_volume(scene, grid.image(numbers(grid)), "T1")
        under_two_transforms(scene, node)
        world = Grid.of(image_from_volume(node))
        node.HardenTransform()
        np.testing.assert_allclose(Grid.of(image_from_volume(node)).corners(), world.corners(), atol=1e-9)

    def test_a_sheared_volume_is_resampled_in_place(self, scene) -> None:
        grid = Grid((20, 20, 20), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), tuple(np.eye(3).ravel()))
        blob = np.zeros(grid.shape, dtype=np.float32)
        blob[12:15, 5:8, 9:12] = 100
        node = add_volume(scene, grid.image(blob), "T1")
        shear = transform(scene, [[1, 0.2, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        node.SetAndObserveTransformNodeID(shear.GetID())
        image = image_from_volume(node)
        found = Grid.of(image)
        np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(3), atol=1e-12)
        # RAS centre of the blob, sheared by hand: x = -10 + 0.2 * -6 + 5
        values = sitk.GetArrayFromImage(image)
        centre = found.physical(np.array([np.average(axis, weights=values) for axis in np.indices(values.shape)])[::-1])
        np.testing.assert_allclose(centre, (6.2, 6.0, 13.0), atol=0.05)
        assert values.sum() == pytest.approx(blob.sum(), rel=0.02)

    def test_a_transform_that_is_not_linear_is_refused_by_name(self, scene) -> None:
        node = add_volume(scene, GRIDS["LPS"].image(numbers(GRIDS["LPS"])), "T2 axial")
        warp = scene.AddNewNodeByClass("vtkMRMLBSplineTransformNode", "my warp")
        node.SetAndObserveTransformNodeID(warp.GetID())
        with pytest.raises(UnusableInput, match=r"'T2 axial' is under the transform 'my warp'.*Harden"):
            image_from_volume(node)

    def test_a_volume_without_extent_is_refused_by_name(self, scene) -> None:
        flat = transform(scene, [[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
        spoilers = (
            lambda node: node.SetSpacing(1, -1, 1),
            lambda node: node.SetAndObserveTransformNodeID(flat.GetID()),
        )
        for spoil in spoilers:
            node = add_volume(scene, GRIDS["LPS"].image(numbers(GRIDS["LPS"])), "T2 axial")
            spoil(node)
            with pytest.raises(UnusableInput, match="'T2 axial' has no extent in space"):
                image_from_volume(node)

    def test_a_volume_without_voxels_is_refused(self, scene) -> None:
        with pytest.raises(UnusableInput, match="'empty' holds no voxels"):
            image_from_volume(scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))

    def test_a_colour_volume_is_refused(self, scene) -> None:
        node = scene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "screenshot")
        voxels = vtk.vtkImageData()
        voxels.SetDimensions(4, 4, 4)
        voxels.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
        node.SetAndObserveImageData(voxels)
        with pytest.raises(UnusableInput, match="'screenshot' has 3 values per voxel"):
            image_from_volume(node)


def transform(scene, rows, parent=None):
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.array(rows, dtype=float).ravel())
    node.SetMatrixTransformToParent(matrix)
    if parent is not None:
        node.SetAndObserveTransformNodeID(parent.GetID())
    return node


def under_two_transforms(scene, node) -> None:
    """A rotation inside a translation, as after loading a registration into a moved scene."""
    outer = transform(scene, [[1, 0, 0, 50], [0, 1, 0, -20], [0, 0, 1, 5], [0, 0, 0, 1]])
    turn = np.eye(4)
    turn[:3, :3] = rotation(35, (0, 1, 1))
    inner = transform(scene, turn, outer)
    node.SetAndObserveTransformNodeID(inner.GetID())


class TestSegments:
    @pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
    def test_three_overlapping_regions_come_back_from_the_file_where_they_were(self, grid, tmp_path) -> None:
        masks = nested_masks(grid)
        write_segmentation(tmp_path / "segmentation.seg.nrrd", masks, grid)
        _scene, node = read_back(tmp_path / "segmentation.seg.nrrd")
        assert node.GetSegmentation().GetSegmentIDs() == ("WT", "TC", "ET")
        for region, mask in masks.items():
            assert segment_points(node, region) == true_points(mask, grid)

    def test_the_file_spans_the_whole_grid_and_not_only_the_tumour(self, tmp_path) -> None:
        grid = GRIDS["oblique"]
        write_segmentation(tmp_path / "s.seg.nrrd", nested_masks(grid), grid)
        layers = sitk.ReadImage(str(tmp_path / "s.seg.nrrd"))
        assert Grid.of(layers).matches(grid)

    def test_order_names_colours_and_codes_survive_the_file(self, tmp_path) -> None:
        grid = GRIDS["LPS"]
        masks = nested_masks(grid)
        shuffled = {region: masks[region] for region in ("ET", "WT", "TC")}
        write_segmentation(tmp_path / "s.seg.nrrd", shuffled, grid, algorithm="student 1.0")
        _scene, node = read_back(tmp_path / "s.seg.nrrd")
        segmentation = node.GetSegmentation()
        assert segmentation.GetSegmentIDs() == ("WT", "TC", "ET")
        for region in masks:
            segment, appearance = segmentation.GetSegment(region), APPEARANCES[region]
            assert segment.GetName() == region
            np.testing.assert_allclose(segment.GetColor(), appearance.rgb, atol=1e-5)
            assert segment.GetTerminology() == appearance.terminology
            assert tag(segment, "DICOM.SegmentAlgorithmType") == "AUTOMATIC"
            assert tag(segment, "DICOM.SegmentAlgorithmName") == "student 1.0"

    @pytest.mark.parametrize("empty", [("ET",), ("TC", "ET"), ("WT", "TC", "ET")], ids="+".join)
    def test_an_empty_region_stays_a_segment_without_a_voxel(self, empty, tmp_path) -> None:
        grid = GRIDS["LPS"]
        masks = {r: np.zeros(grid.shape, bool) if r in empty else m for r, m in nested_masks(grid).items()}
        write_segmentation(tmp_path / "s.seg.nrrd", masks, grid)
        _scene, node = read_back(tmp_path / "s.seg.nrrd")
        identifiers = list(node.GetSegmentation().GetSegmentIDs())
        assert identifiers == ["WT", "TC", "ET"]
        assert [region for region in identifiers if not segment_points(node, region)] == list(empty)

    def test_the_reference_volume_gives_its_geometry(self, scene) -> None:
        grid = GRIDS["oblique"]
        volume = add_volume(scene, grid.image(numbers(grid)), "FLAIR")
        node = add_segmentation(scene, nested_masks(grid), grid, "tumour", volume)
        assert node.GetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole()) == volume.GetID()
        matrix, extent = reference_geometry(node)
        expected = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(expected)
        np.testing.assert_allclose(slicer.util.arrayFromVTKMatrix(matrix), slicer.util.arrayFromVTKMatrix(expected))
        assert extent == [0, 8, 0, 7, 0, 6]

    def test_segments_lie_on_a_reference_that_is_under_a_transform(self, scene) -> None:
        grid = GRIDS["oblique"]
        volume = add_volume(scene, grid.image(numbers(grid)), "FLAIR")
        under_two_transforms(scene, volume)
        world = Grid.of(image_from_volume(volume))
        masks = nested_masks(grid)
        node = add_segmentation(scene, masks, world, "tumour", volume)
        assert segment_points(node, "TC") == true_points(masks["TC"], world)
        assert reference_geometry(node)[1] == [0, 8, 0, 7, 0, 6]

    def test_large_regions_are_more_transparent_than_what_they_enclose(self, scene) -> None:
        grid = GRIDS["LPS"]
        display = add_segmentation(scene, nested_masks(grid), grid, "tumour").GetDisplayNode()
        surfaces = [display.GetSegmentOpacity3D(region) for region in ("WT", "TC", "ET")]
        fills = [display.GetSegmentOpacity2DFill(region) for region in ("WT", "TC", "ET")]
        assert surfaces == sorted(surfaces)
        assert surfaces[0] < 0.5 < surfaces[2]
        assert fills == sorted(fills)

    def test_a_region_that_is_not_reliable_is_marked_by_name_colour_and_tag_and_keeps_its_identifier(
        self, tmp_path
    ) -> None:
        grid = GRIDS["LPS"]
        grades = {"WT": "good", "TC": "fair", "ET": "not reliable"}
        write_segmentation(tmp_path / "s.seg.nrrd", nested_masks(grid), grid, grades=grades)
        _scene, node = read_back(tmp_path / "s.seg.nrrd")
        segmentation = node.GetSegmentation()
        assert segmentation.GetSegmentIDs() == ("WT", "TC", "ET")
        segments = {region: segmentation.GetSegment(region) for region in grades}
        assert [segment.GetName() for segment in segments.values()] == ["WT", "TC", "ET (not reliable)"]
        assert {region: tag(segment, RELIABILITY_TAG) for region, segment in segments.items()} == grades
        changed = [not np.allclose(segments[r].GetColor(), APPEARANCES[r].rgb, atol=1e-5) for r in grades]
        assert changed == [False, False, True]
        paler, usual = segments["ET"].GetColor(), APPEARANCES["ET"].rgb
        assert all(new > old for new, old in zip(paler, usual))
        assert segments["ET"].GetTerminology() == APPEARANCES["ET"].terminology

    def test_a_marked_region_is_fainter_where_it_is_drawn(self, scene) -> None:
        grid = GRIDS["LPS"]
        node = add_segmentation(scene, nested_masks(grid), grid, "tumour", grades={"TC": "not reliable"})
        display = node.GetDisplayNode()
        assert display.GetSegmentOpacity2DFill("TC") < APPEARANCES["TC"].fill
        assert display.GetSegmentOpacity3D("TC") < APPEARANCES["TC"].surface
        assert display.GetSegmentOpacity3D("ET") == APPEARANCES["ET"].surface

    def test_without_a_measured_quality_nothing_is_claimed(self, scene) -> None:
        grid = GRIDS["LPS"]
        segmentation = add_segmentation(scene, nested_masks(grid), grid, "tumour").GetSegmentation()
        assert not any(segmentation.GetSegment(region).HasTag(RELIABILITY_TAG) for region in ("WT", "TC", "ET"))

    def test_a_mask_of_another_grid_is_refused_before_a_node_is_made(self, scene) -> None:
        masks = nested_masks(GRIDS["LPS"])
        masks["ET"] = masks["ET"][1:]
        with pytest.raises(ValueError, match="mask of ET"):
            add_segmentation(scene, masks, GRIDS["LPS"], "tumour")
        assert scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0

    def test_a_folder_that_is_not_there_is_said(self, tmp_path) -> None:
        grid = GRIDS["LPS"]
        with pytest.raises(OSError, match="could not be written"):
            write_segmentation(tmp_path / "nowhere" / "s.seg.nrrd", nested_masks(grid), grid)


class TestTerminology:
    def test_slicer_understands_every_entry_and_has_the_same_colours_in_the_file(self) -> None:
        logic = slicer.vtkSlicerTerminologiesModuleLogic()
        assert logic.LoadTerminologyFromFile(str(TERMINOLOGY)) == CONTEXT
        category = slicer.vtkSlicerTerminologyCategory()
        assert logic.GetNthCategoryInTerminology(CONTEXT, 0, category)
        for index, (region, appearance) in enumerate(APPEARANCES.items()):
            entry = slicer.vtkSlicerTerminologyEntry()
            assert logic.DeserializeTerminologyEntry(appearance.terminology, entry)
            assert entry.GetCategoryObject().GetCodeValue() == category.GetCodeValue()
            assert entry.GetRegionObject().GetCodeMeaning() == "Brain"
            listed = slicer.vtkSlicerTerminologyType()
            assert logic.GetNthTypeInTerminologyCategory(CONTEXT, category, index, listed)
            for ask in ("GetCodingSchemeDesignator", "GetCodeValue", "GetCodeMeaning"):
                assert getattr(entry.GetTypeObject(), ask)() == getattr(listed, ask)()
            assert tuple(listed.GetRecommendedDisplayRGBValue()) == appearance.colour
            assert listed.GetSlicerLabel() == region

    def test_the_file_is_plain_json_with_one_category(self) -> None:
        content = json.loads(TERMINOLOGY.read_text(encoding="utf-8"))
        assert len(content["SegmentationCodes"]["Category"]) == 1


def tag(segment, name: str) -> str:
    value = vtk.reference("")
    assert segment.GetTag(name, value)
    return str(value)


def reference_geometry(node):
    name = slicer.vtkSegmentationConverter.GetReferenceImageGeometryParameterName()
    serialised = node.GetSegmentation().GetConversionParameter(name)
    values = [float(text) for text in serialised.split(";") if text]
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(values[:16])
    return matrix, [int(value) for value in values[16:]]
