"""Finding the brain: on real scans with and without skull, whatever the header's axes, and on what is no head."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib.engine import brain
from MSTKDSegmenterLib.engine.background import background_value
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid, resample
from MSTKDSegmenterLib.engine.package import default_folder, load


def dice(first: sitk.Image, second: sitk.Image) -> float:
    a, b = sitk.GetArrayFromImage(first) > 0, sitk.GetArrayFromImage(second) > 0
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def toy_head(background: float = 0.0, skull: bool = True) -> tuple[sitk.Image, sitk.Image]:
    """An egg-shaped T1-like head of 3 mm voxels with ventricles, fluid, bone and scalp, and its brain."""
    z, y, x = np.ogrid[0:64, 0:80, 0:64]
    radius = np.sqrt(((z - 32) / 24) ** 2 + ((y - 40) / 29) ** 2 + ((x - 32) / 23) ** 2)
    inside = radius < 1
    values = np.zeros(radius.shape, dtype=np.float32)
    if skull:
        values[radius < 1.32] = 90
        values[radius < 1.18] = 10
        values[radius < 1.08] = 20
    values[inside] = 50
    values[radius < 0.85] = 65
    values[(np.abs(z - 34) < 4) & (np.abs(y - 40) < 8) & (np.abs(x - 32) < 4)] = 20
    values += np.random.default_rng(0).normal(0, 2, values.shape).astype(np.float32) * (values > 0)
    image, truth = (sitk.GetImageFromArray(array) for array in (values + background, inside.astype(np.uint8)))
    for volume in (image, truth):
        volume.SetSpacing((3.0, 3.0, 3.0))
        volume.SetOrigin((-96.0, -120.0, -96.0))
    return image, truth


@pytest.fixture(scope="module")
def brats(shared_data: Path) -> dict[str, sitk.Image]:
    folder = shared_data / "original" / "BraTS2021_00495"
    return {s: sitk.ReadImage(str(folder / f"BraTS2021_00495_{s}.nii.gz")) for s in ("flair", "t1", "t1ce", "t2")}


@pytest.fixture(scope="module")
def tcga(shared_data: Path) -> dict[str, sitk.Image]:
    folder = shared_data / "native" / "TCGA-FG-6692"
    return {s: sitk.ReadImage(str(folder / f"TCGA-FG-6692_{s}.nii.gz")) for s in ("flair", "t1", "t1ce", "t2")}


@pytest.fixture(scope="module")
def brainix(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, sitk.Image]:
    folder = tmp_path_factory.mktemp("brainix")
    with tarfile.open(shared_data / "native" / "BRAINIX_dicom.tar.xz") as archive:
        archive.extractall(folder)

    def series(name: str) -> sitk.Image:
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(next(folder.rglob(name))))
        return sitk.ReadImage(files)

    return {name: series(name) for name in ("T1", "T2", "FLAIR", "ROI")}


def test_the_shipped_package_says_what_it_is_and_is_small():
    package = load(default_folder("brain"), "brain")
    assert package.kind == "brain"
    assert "Apache-2.0" in package.licence
    assert package.quality.table
    assert (package.folder / "weights.safetensors").stat().st_size < 2e6


def test_brain_of_a_simple_head_is_found_without_its_skull():
    image, truth = toy_head()
    found = brain.find_brain(image)
    assert not found.stripped
    assert dice(found.mask, truth) > 0.9
    assert Grid.of(found.mask).matches(Grid.of(image))
    assert found.mask.GetPixelID() == sitk.sitkUInt8
    assert found.volume_ml == pytest.approx(sitk.GetArrayFromImage(found.mask).sum() * 0.027)


def test_a_head_on_exact_zeros_is_not_taken_for_a_stripped_brain():
    image, _ = toy_head()
    assert background_value(image) == 0.0
    assert not brain.find_brain(image).stripped


@pytest.mark.parametrize("background", [0.0, -1000.0, 52.0])
def test_a_stripped_brain_is_recognised_on_any_constant_background(background):
    image, truth = toy_head(skull=False)
    values = sitk.GetArrayFromImage(image)
    values[sitk.GetArrayFromImage(truth) == 0] = background
    stripped = Grid.of(image).image(values)
    found = brain.find_brain(stripped)
    assert found.stripped
    # of its outermost voxels, those as bright as the background are lost
    assert dice(found.mask, truth) > 0.998


def test_an_image_cropped_to_a_stripped_brain_shows_all_of_it(brats):
    for image in brats.values():
        whole = sitk.Cast(image != 0, sitk.sitkUInt8)
        shape = sitk.LabelShapeStatisticsImageFilter()
        shape.Execute(whole)
        cropped = sitk.RegionOfInterest(image, *np.reshape(shape.GetBoundingBox(1), (2, 3))[::-1].tolist())
        found = brain.find_brain(cropped)
        assert found.stripped
        assert found.volume_ml == pytest.approx(brain.find_brain(image).volume_ml, rel=0.01)


def test_zeros_inside_a_stripped_brain_belong_to_it():
    image, truth = toy_head(skull=False)
    values = sitk.GetArrayFromImage(image)
    values[30:36, 36:44, 30:34] = 0
    assert dice(brain.brain_mask(Grid.of(image).image(values)), truth) == 1.0


def test_the_axes_of_the_header_do_not_change_where_the_brain_is():
    image, _ = toy_head()
    expected = brain.brain_mask(image)
    turned = sitk.PermuteAxes(sitk.Flip(image, (True, False, True)), (2, 0, 1))
    found = brain.brain_mask(turned)
    assert Grid.of(found).matches(Grid.of(turned))
    back = resample(found, Grid.of(expected), sitk.sitkNearestNeighbor)
    assert dice(back, expected) > 0.999


def test_units_do_not_change_where_the_brain_is():
    image, _ = toy_head()
    scaled = sitk.Cast(image * 17.0, sitk.sitkInt16)
    assert dice(brain.brain_mask(scaled), brain.brain_mask(image)) > 0.99


def test_standardise_makes_head_one_and_ignores_how_much_air_there_is():
    volume = np.zeros((8, 8, 8))
    volume[:4] = 500.0
    np.testing.assert_allclose(np.unique(brain.standardise(volume)), [0.0, 1.0])
    np.testing.assert_allclose(np.unique(brain.standardise(np.pad(volume, 8))), [0.0, 1.0])
    assert brain.standardise(volume * [[[1e6]]]).max() <= 3.0


@pytest.mark.parametrize("what", ["nothing", "noise", "a small ball"])
def test_what_is_no_head_is_refused(what):
    rng = np.random.default_rng(0)
    values = np.zeros((48, 48, 48), dtype=np.float32)
    if what == "noise":
        values = rng.random(values.shape, dtype=np.float32)
    if what == "a small ball":
        z, y, x = np.ogrid[0:48, 0:48, 0:48]
        values[(z - 24) ** 2 + (y - 24) ** 2 + (x - 24) ** 2 < 25] = 100
    with pytest.raises(UnusableInput, match="brain"):
        brain.find_brain(sitk.GetImageFromArray(values))


def test_brats_study_is_stripped_and_its_mask_is_what_it_shows(brats):
    for image in brats.values():
        found = brain.find_brain(image)
        assert found.stripped
        assert dice(found.mask, image != 0) > 0.99


def test_the_network_itself_agrees_with_the_stripping_of_brats(brats):
    for image in brats.values():
        assert dice(brain.network_mask(image), image != 0) > 0.93


@pytest.mark.parametrize("sequence", ["flair", "t1", "t1ce", "t2"])
def test_thick_slices_with_skull_give_a_brain_of_adult_size(tcga, sequence):
    found = brain.find_brain(tcga[sequence])
    assert not found.stripped
    assert 1000 < found.volume_ml < 1800


@pytest.mark.parametrize("sequence", ["flair", "t1", "t1ce", "t2"])
def test_an_image_cut_off_close_to_the_brain_shows_nearly_all_of_it(tcga, sequence):
    image = tcga[sequence]
    whole = brain.brain_mask(image)
    shape = sitk.LabelShapeStatisticsImageFilter()
    shape.Execute(whole)
    first, size = (np.array(part) for part in np.reshape(shape.GetBoundingBox(1), (2, 3)))
    border = np.round(10 / np.array(image.GetSpacing())).astype(int)
    first, end = np.maximum(first - border, 0), np.minimum(first + size + border, image.GetSize())
    box = ((end - first).tolist(), first.tolist())
    cut = sitk.RegionOfInterest(image, *box)
    assert background_value(cut) is None
    assert dice(brain.brain_mask(cut), sitk.RegionOfInterest(whole, *box)) > 0.98


def test_two_sequences_of_one_head_give_the_same_brain(tcga, brainix):
    for first, second in (
        (tcga["t1"], tcga["t1ce"]),
        (brainix["T2"], brainix["T1"]),
        (brainix["T2"], brainix["FLAIR"]),
    ):
        one, other = brain.brain_mask(first), brain.brain_mask(second)
        assert dice(one, resample(other, Grid.of(one), sitk.sitkNearestNeighbor)) > 0.93


def test_the_tumour_that_a_reader_outlined_lies_in_the_brain(brainix):
    outlined = brainix["ROI"] > 0
    for sequence in ("T1", "T2", "FLAIR"):
        mask = resample(brain.brain_mask(brainix[sequence]), Grid.of(outlined), sitk.sitkNearestNeighbor)
        inside = sitk.GetArrayFromImage(mask & outlined).sum() / sitk.GetArrayFromImage(outlined).sum()
        assert inside > 0.95


def test_a_scan_with_its_noise_set_to_zero_is_still_a_scan_with_skull(tcga):
    for image in tcga.values():
        zeroed = sitk.Mask(image, image > 60)
        padded = sitk.ConstantPad(zeroed, (20, 20, 2), (20, 20, 2), 0)
        assert background_value(padded) == 0.0
        assert not brain.find_brain(padded).stripped
