"""Any study onto one grid and back: the anatomy stays where it is, whatever headers say how it is stored."""

from __future__ import annotations

import json
from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk
from head_phantom import GRID, head, moved, relabelled, rigid, rotation, with_header
from MSTKDSegmenterLib.engine import alignment
from MSTKDSegmenterLib.engine import harmonise as harmonise_module
from MSTKDSegmenterLib.engine.brain import Brain, find_brain
from MSTKDSegmenterLib.engine.errors import Cancelled, UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.harmonise import Harmonised, harmonise, to_reference
from MSTKDSegmenterLib.engine.normalise import normalise
from MSTKDSegmenterLib.engine.progress import Job
from MSTKDSegmenterLib.engine.reference import choose_reference
from MSTKDSegmenterLib.engine.register import Registration
from MSTKDSegmenterLib.engine.sequences import SEQUENCES
from MSTKDSegmenterLib.engine.study import study_from_files, study_from_images
from phantom import make_study

SPACING, MULTIPLE = 4.0, 8


@pytest.fixture(autouse=True, scope="module")
def brain_without_network():
    """The phantom is skull-stripped; what finds brains in heads has its own tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "find_brain", lambda image: Brain(image != 0, stripped=True))
        yield


@pytest.fixture(scope="module")
def images() -> dict[str, sitk.Image]:
    return {sequence: head(sequence, lesion=True) for sequence in SEQUENCES}


def run(images: dict[str, sitk.Image], spacing: float = SPACING) -> Harmonised:
    return harmonise(study_from_images(images), spacing, MULTIPLE)


def registered(harmonised: Harmonised) -> list[str]:
    """The sequences that were registered."""
    return [name for name, what in harmonised.record["registration"].items() if what["registered"]]


def lesion_centre(harmonised: Harmonised) -> np.ndarray:
    """Physical point (mm) of the lesion, from a thresholded T1ce brought back to the reference's grid."""
    bright = (harmonised.channels[2:3] > 1.5).astype(np.float32)
    (native,) = to_reference(bright, harmonised)
    return harmonised.reference_grid.physical(np.argwhere(native > 0.5)[:, ::-1]).mean(axis=0)


class TestStudyOnOneGrid:
    def test_it_is_taken_as_given(self, images):
        result = run(images)
        assert not registered(result)
        assert all(result.record["skull_stripped"].values())
        points = [transform.TransformPoint((1.0, 2.0, 3.0)) for transform in result.transforms.values()]
        assert points == [(1.0, 2.0, 3.0)] * 4
        assert result.findings == []

    def test_at_the_spacing_of_the_input_the_channels_are_its_voxels_normalised(self, images):
        result = run(images, spacing=3.0)
        start = np.round((np.array(result.grid.origin) - GRID.origin) / GRID.spacing).astype(int)[::-1]
        low = np.maximum(start, 0)
        high = np.minimum(start + result.brain.shape, GRID.shape)
        native = tuple(slice(a, b) for a, b in zip(low, high))
        working = tuple(slice(a, b) for a, b in zip(low - start, high - start))
        for number, sequence in enumerate(SEQUENCES):
            array = sitk.GetArrayFromImage(images[sequence])
            expected = normalise(array, array != 0)
            np.testing.assert_allclose(result.channels[number][working], expected[native], atol=1e-4)

    def test_the_result_comes_back_on_the_voxels_of_the_input(self, images):
        result = run(images, spacing=3.0)
        assert result.reference_grid == GRID
        back = np.stack(list(to_reference(result.channels, result)))
        assert back.shape == (4, *GRID.shape)
        array = sitk.GetArrayFromImage(images["T2"])
        np.testing.assert_allclose(back[3], normalise(array, array != 0), atol=1e-4)

    def test_outside_the_working_grid_lies_zero(self, images):
        result = run(images)
        (back,) = to_reference(np.ones((1, *result.grid.shape), dtype=np.float32), result)
        assert back[0, 0, 0] == 0
        assert back[GRID.shape[0] // 2, GRID.shape[1] // 2, GRID.shape[2] // 2] == 1

    def test_the_working_grid_is_a_multiple_of_what_the_network_needs(self, images):
        result = run(images)
        assert result.channels.shape == (4, *result.grid.shape)
        assert result.channels.dtype == np.float32
        assert all(side % MULTIPLE == 0 for side in result.grid.size)

    def test_different_patients_on_one_atlas_grid_are_refused(self, images):
        with pytest.raises(UnusableInput, match="T2 and T1ce: they seem to be of different bodies or patients"):
            run({**images, "T2": head("T2", patient=2)})


class TestAnySubset:
    @pytest.mark.parametrize("sequence", SEQUENCES)
    def test_one_sequence_is_enough(self, images, sequence):
        alone, complete = run({sequence: images[sequence]}), run(images)
        number = SEQUENCES.index(sequence)
        assert alone.present == tuple(name == sequence for name in SEQUENCES)
        np.testing.assert_array_equal(alone.channels[number], complete.channels[number])

    def test_absent_sequences_are_zero(self, images):
        result = run({name: images[name] for name in ("FLAIR", "T2")})
        assert result.present == (True, False, False, True)
        assert not result.channels[1:3].any()
        assert result.channels[0].any()
        assert result.channels[3].any()


@pytest.fixture(scope="module")
def straight(images) -> Harmonised:
    return run(images)


class TestHeaders:
    """The same voxels under another header, and other voxels for the same anatomy."""

    @pytest.mark.parametrize(
        ("order", "flips"), list(product(permutations(range(3)), product((False, True), repeat=3)))[1::6]
    )
    def test_flipped_and_permuted_axes_give_the_same_arrays_and_the_same_place(self, images, straight, order, flips):
        result = run({name: relabelled(image, order, flips) for name, image in images.items()})
        np.testing.assert_array_equal(result.brain, straight.brain)
        np.testing.assert_allclose(result.channels, straight.channels, atol=1e-4)
        assert result.grid.matches(straight.grid)
        assert result.reference_grid.matches(Grid.of(relabelled(images["T1ce"], order, flips)))
        np.testing.assert_allclose(lesion_centre(result), lesion_centre(straight), atol=1e-6)

    @pytest.mark.parametrize("degrees", [0, 12, 40])
    def test_shifted_and_rotated_headers_give_the_same_arrays_at_the_new_place(self, images, straight, degrees):
        turn, shift = rotation(degrees, (2, -1, 1)), np.array((100.0, -30.0, 7.3))
        result = run({name: with_header(image, turn, shift) for name, image in images.items()})
        np.testing.assert_array_equal(result.brain, straight.brain)
        np.testing.assert_allclose(result.channels, straight.channels, atol=1e-4)
        np.testing.assert_allclose(lesion_centre(result), turn @ lesion_centre(straight) + shift, atol=1e-4)

    def test_each_sequence_may_be_stored_in_its_own_way(self, images, straight):
        mixed = {
            "FLAIR": relabelled(images["FLAIR"], (1, 2, 0), (True, False, True)),
            "T1": relabelled(images["T1"], (0, 1, 2), (True, True, False)),
            "T1ce": images["T1ce"],
            "T2": relabelled(images["T2"], (2, 0, 1), (False, True, False)),
        }
        result = run(mixed)
        assert not registered(result)
        np.testing.assert_allclose(result.channels, straight.channels, atol=1e-4)


MOTION = rigid(9.0, (1, 0, 0.3), (4.0, -6.0, 8.0))
WIDE = Grid((64, 72, 64), (3.0,) * 3, (-95.0, -105.0, -88.0), GRID.direction)


@pytest.fixture(scope="module")
def study(images) -> dict[str, sitk.Image]:
    """The patient has moved before FLAIR was measured, on another grid."""
    return {"T1ce": images["T1ce"], "FLAIR": moved(images["FLAIR"], MOTION, WIDE)}


class TestMovedHead:
    def test_a_moved_sequence_is_brought_onto_the_reference(self, images, study):
        events = []
        result = harmonise(study_from_images(study), SPACING, MULTIPLE, Job(progress=events.append))
        expected = run({name: images[name] for name in ("FLAIR", "T1ce")})
        assert result.reference == "T1ce"
        np.testing.assert_array_equal(result.channels[2], expected.channels[2])
        inside = expected.brain & (result.channels[0] != 0)
        assert np.count_nonzero(inside) > 0.97 * np.count_nonzero(expected.brain)
        # interpolated once more on its way, the moved FLAIR agrees voxel by voxel
        assert np.corrcoef(result.channels[0][inside], expected.channels[0][inside])[0, 1] > 0.95
        # what is said about it is plain JSON, and progress goes from nothing to all
        assert json.loads(json.dumps(result.record))["registration"]["FLAIR"]["registered"]
        matrix = np.array(result.record["reference_to_sequence_lps"]["FLAIR"])
        wanted = result.transforms["FLAIR"].TransformPoint((20.0, -10.0, 15.0))
        np.testing.assert_allclose((matrix @ (20.0, -10.0, 15.0, 1.0))[:3], wanted, atol=1e-3)
        fractions = [event.fraction for event in events]
        assert fractions == sorted(fractions)
        assert fractions[-1] == 1.0
        assert "register" in {event.stage for event in events}

    def test_it_can_be_cancelled(self, study):
        with pytest.raises(Cancelled):
            harmonise(study_from_images(study), SPACING, MULTIPLE, Job(cancelled=lambda: True))


def test_a_sequence_that_misses_part_of_the_brain_is_used_where_it_has_data_and_mentioned(images):
    slab = sitk.RegionOfInterest(images["FLAIR"], (52, 60, 24), (0, 0, 16))
    result = run({"FLAIR": slab, "T1ce": images["T1ce"]})
    missing = result.brain & (result.channels[0] == 0)
    assert 0.1 < np.count_nonzero(missing) / np.count_nonzero(result.brain) < 0.4
    assert any("FLAIR shows only" in finding for finding in result.findings)


def test_where_the_reference_shows_nothing_the_brain_is_that_of_the_others_and_mentioned(images):
    whole = run({"FLAIR": images["FLAIR"], "T1ce": images["T1ce"]})
    values = sitk.GetArrayFromImage(images["T1ce"])
    values[-20:] = 0  # as a series that ends early, on the other's grid
    ended = sitk.GetImageFromArray(values)
    ended.CopyInformation(images["T1ce"])
    result = run({"FLAIR": images["FLAIR"], "T1ce": ended})
    assert result.reference == "T1ce"
    assert np.count_nonzero(result.brain) > 0.97 * np.count_nonzero(whole.brain)
    assert any("T1ce, whose grid the result has, shows nothing in" in finding for finding in result.findings)
    assert not any("shows nothing" in finding for finding in whole.findings)


@pytest.mark.parametrize(("degrees", "shift"), [(4.5, (0.0, 0.0, 0.0)), (0.0, (2.0, 0.0, 0.0))])
def test_stripped_sequences_on_one_grid_that_lie_a_little_apart_are_registered(images, degrees, shift):
    result = run({"FLAIR": moved(images["FLAIR"], rigid(degrees, (1, 0, 0), shift)), "T1ce": images["T1ce"]})
    assert registered(result) == ["FLAIR"]


def test_z_scored_sequences_on_one_grid_are_still_seen_to_be_aligned(images):
    def z_scored(image: sitk.Image) -> sitk.Image:
        values = sitk.GetArrayFromImage(image)
        brain = values != 0
        return GRID.image(np.where(brain, (values - values[brain].mean()) / values[brain].std(), 0).astype(np.float32))

    scored = {name: z_scored(image) for name, image in images.items()}
    assert alignment.aligned_brains(scored, "T1ce", stripped=True)


def test_ringing_around_stripped_sequences_is_no_brain(images, monkeypatch):
    monkeypatch.setattr(alignment, "find_brain", find_brain)
    half_a_voxel = sitk.TranslationTransform(3, (1.5, 1.5, 1.5))
    splines = {
        name: sitk.Resample(images[name], images[name], half_a_voxel, sitk.sitkBSpline, 0.0)
        for name in ("FLAIR", "T1ce")
    }
    result = run(splines)
    true_ml = np.count_nonzero(sitk.GetArrayFromImage(images["T1ce"])) * 0.027
    assert result.brain.sum() * SPACING**3 / 1000 < 1.25 * true_ml
    assert min(result.record["share_of_brain_covered"].values()) > 0.9


def test_what_is_nearly_black_within_a_stripped_brain_is_measured_and_zero_is_not(images):
    values = sitk.GetArrayFromImage(images["FLAIR"])
    values[20:24, 28:34, 20:24], values[20:24, 28:34, 28:32] = 0.1, 0
    extents = alignment.align({**images, "FLAIR": GRID.image(values)}, "T1ce", Job()).extents
    measured = sitk.GetArrayFromImage(extents["FLAIR"]) > 0
    assert measured[20:24, 28:34, 20:24].all()
    assert not measured[20:24, 28:34, 28:32].any()


def test_a_mirrored_sequence_that_the_user_insists_on_is_mentioned(images):
    values = np.ascontiguousarray(sitk.GetArrayFromImage(images["FLAIR"])[:, :, ::-1])
    mirrored = study_from_images({"FLAIR": GRID.image(values), "T1ce": images["T1ce"]})
    mirrored.same_patient = True
    result = harmonise(mirrored, SPACING, MULTIPLE)
    assert any("one of them turned left for right" in finding for finding in result.findings)


def test_padding_around_a_head_is_not_measured(images, monkeypatch):
    monkeypatch.setattr(alignment, "find_brain", lambda image: Brain(images["T1ce"] != 0, stripped=False))
    values = sitk.GetArrayFromImage(images["T1"])
    values[:16] = 0
    padded = sitk.GetImageFromArray(values)
    padded.CopyInformation(images["T1"])
    result = alignment.align({"T1ce": images["T1ce"], "T1": padded}, "T1ce", Job())
    extent = sitk.GetArrayFromImage(result.extents["T1"])
    assert not extent[:16].any()
    assert extent[np.nonzero(values)].all()


def test_what_is_padding_changes_nothing_of_what_was_measured(images, monkeypatch):
    monkeypatch.setattr(alignment, "find_brain", lambda image: Brain(images["T1ce"] != 0, stripped=False))
    whole = sitk.GetArrayFromImage(images["T1"]) + np.random.default_rng(0).uniform(200, 210, GRID.shape)
    whole = whole.astype(np.float32)  # bright up to where it was not measured
    values = whole.copy()
    values[:16] = 0
    padded = run({"T1ce": images["T1ce"], "T1": GRID.image(values)})
    cropped = run({"T1ce": images["T1ce"], "T1": GRID.image(whole)[:, :, 16:]})
    place = SEQUENCES.index("T1")
    one, other = padded.channels[place], cropped.channels[place]
    assert np.count_nonzero((one != 0) != (other != 0)) < 0.05 * np.count_nonzero(other)
    both = (one != 0) & (other != 0)
    np.testing.assert_allclose(one[both], other[both], atol=0.3)  # a rim of zeros would be 3 darker
    assert padded.record["share_of_brain_covered"]["T1"] < 0.95


class TestInside:
    """Skull-stripped sequences under one mask, which agree in their outline wherever they lie."""

    @pytest.fixture(scope="class")
    def brains(self) -> tuple[sitk.Image, sitk.Image]:
        study = make_study(seed=3, spacing=2.0)
        return study.images["FLAIR"], study.images["T1ce"]

    def cut(self, flair: sitk.Image, t1ce: sitk.Image) -> dict[str, sitk.Image]:
        mask = sitk.Cast(sitk.BinaryFillhole(t1ce != 0), sitk.sitkFloat32)
        return {"FLAIR": (flair + 100) * mask, "T1ce": (t1ce + 100) * mask}

    def test_those_that_are_aligned_are_left_alone(self, brains):
        result = run(self.cut(*brains), 2.0)
        assert result.findings == []
        assert result.record["registration"]["FLAIR"]["judgement"] == "aligned already"

    @pytest.fixture(scope="class")
    def apart(self, brains) -> tuple[sitk.Image, sitk.Euler3DTransform]:
        """The FLAIR turned and shifted, and how it lies now: from where it was to where it is."""
        flair, _ = brains
        middle = flair.TransformContinuousIndexToPhysicalPoint([length / 2 for length in flair.GetSize()])
        motion = sitk.Euler3DTransform(middle, 0.1, 0.0, 0.0, (4.0, 4.0, 6.0))
        return sitk.Resample(flair, flair, motion.GetInverse()), motion

    def test_of_one_that_lies_apart_it_is_said(self, brains, apart):
        result = run(self.cut(apart[0], brains[1]), 2.0)
        assert "FLAIR and T1ce show the same region and agree little inside it" in result.findings[0]
        assert "agrees little inside" in result.record["registration"]["FLAIR"]["judgement"]

    def test_one_that_lies_apart_is_brought_back_where_registration_finds_how(self, brains, apart, monkeypatch):
        moved_flair, motion = apart
        found = Registration(motion, True, 5.7, 8.2, 1.01, 1.1, 3.0, 1.0, "moved by 9 mm", False)
        monkeypatch.setattr(alignment, "register_inside", lambda *_: found)
        images = self.cut(moved_flair, brains[1])
        result, wanted = run(images, 2.0), run(self.cut(*brains), 2.0)
        assert not any("agree little" in line for line in result.findings)
        assert result.record["registration"]["FLAIR"]["registered"]
        inside = sitk.GetArrayFromImage(sitk.BinaryErode(result.grid.image(result.brain), (8,) * 3)) > 0
        one, other = (one.channels[SEQUENCES.index("FLAIR")][inside] for one in (result, wanted))
        assert np.corrcoef(one, other)[0, 1] > 0.95

    def test_one_of_which_nothing_certain_is_found_stays_where_it_is(self, brains, apart, monkeypatch):
        doubtful = Registration(apart[1], True, 5.7, 8.2, 1.01, 1.1, 2.0, 1.0, "moved by 9 mm", False)
        monkeypatch.setattr(alignment, "register_inside", lambda *_: doubtful)
        result = run(self.cut(apart[0], brains[1]), 2.0)
        assert not result.record["registration"]["FLAIR"]["registered"]
        assert "agree little inside it" in result.findings[0]


class TestReference:
    @staticmethod
    def image(spacing: tuple[float, float, float], extent: float = 200.0) -> sitk.Image:
        size = [round(extent / step) for step in spacing]
        result = sitk.Image(size, sitk.sitkUInt8)
        result.SetSpacing(spacing)
        return result

    def test_thin_slices_come_before_small_voxels(self):
        images = {"T1ce": self.image((0.4, 0.4, 5.0)), "T1": self.image((1.0, 1.0, 1.2))}
        chosen = choose_reference(images)
        assert chosen.sequence == "T1"
        assert "thinnest slices (1.2 mm)" in chosen.reason

    def test_small_voxels_decide_between_equal_slices(self):
        images = {"T1ce": self.image((0.9, 0.9, 5.0)), "T2": self.image((0.45, 0.45, 5.2))}
        chosen = choose_reference(images)
        assert chosen.sequence == "T2"
        assert "smallest voxels" in chosen.reason

    def test_t1ce_is_taken_among_equals(self):
        images = {name: self.image((1.0, 1.0, 1.0)) for name in SEQUENCES}
        assert choose_reference(images).sequence == "T1ce"

    def test_a_thin_slab_is_no_reference_for_a_whole_head(self):
        slab = sitk.RegionOfInterest(self.image((0.5, 0.5, 0.5)), (400, 400, 100), (0, 0, 0))
        chosen = choose_reference({"T1ce": slab, "FLAIR": self.image((1.0, 1.0, 5.0))})
        assert chosen.sequence == "FLAIR"
        assert "whole head" in chosen.reason


def test_a_head_that_the_image_cuts_off_is_said_to_be_cut_off(shared_data, monkeypatch):
    monkeypatch.setattr(alignment, "find_brain", find_brain)
    image = sitk.ReadImage(str(shared_data / "native" / "TCGA-FG-6692" / "TCGA-FG-6692_t2.nii.gz"), sitk.sitkFloat32)
    whole, upper = (harmonise(study_from_images({"T2": part}), 4.0, 8) for part in (image, image[:, :, 13:]))
    assert not any("ends within the brain" in line for line in whole.findings)
    assert any("ends within the brain" in line and "lower bounds" in line for line in upper.findings)


def test_padding_that_cuts_the_head_off_is_said_too(shared_data, monkeypatch):
    monkeypatch.setattr(alignment, "find_brain", find_brain)
    path = shared_data / "native" / "TCGA-FG-6692" / "TCGA-FG-6692_flair.nii.gz"
    image = sitk.ReadImage(str(path), sitk.sitkFloat32)
    tilted = sitk.Euler3DTransform()
    tilted.SetCenter(Grid.of(image).corners().mean(axis=0).tolist())
    tilted.SetRotation(np.radians(20), 0, 0)
    # as another software lays it on another sequence's grid: the head ends in zeros, not at the border of that grid
    padded = sitk.Resample(image[:, :, 5:22], image, tilted, sitk.sitkLinear, 0.0)
    result = harmonise(study_from_images({"FLAIR": padded}), 4.0, 8)
    assert any("ends within the brain" in line for line in result.findings)


def test_the_cut_is_as_large_as_the_plane_through_the_brain():
    z, y, x = np.indices((60, 60, 60)) - 29.5
    radius, normal = 25.0, np.array((2.0, -1.0, 2.0)) / 3
    brain = z**2 + y**2 + x**2 < radius**2
    measured = normal[0] * z + normal[1] * y + normal[2] * x < 7
    cut = harmonise_module._cut_cm2(brain, measured, np.ones(3))
    assert cut == pytest.approx(np.pi * (radius**2 - 7**2) / 100, rel=0.03)
    assert harmonise_module._cut_cm2(brain, np.ones_like(brain), np.ones(3)) == 0


def test_a_brain_of_unlikely_size_is_said_to_be_unlikely():
    small = sitk.Image(50, 50, 50, sitk.sitkUInt8)
    small[10:40, 10:40, 10:40] = 1
    small.SetSpacing((2.0, 2.0, 2.0))
    (line,) = harmonise_module._brain_findings(small, extent=None)
    assert "216 ml, adults have 900 to 2100 ml" in line


def test_a_brats_study_keeps_its_geometry(shared_data):
    folder = shared_data / "original" / "BraTS2021_00495"
    files = {name: next(folder.glob(f"*_{name.lower()}.nii*")) for name in SEQUENCES}
    result = harmonise(study_from_files(files), 2.0, 8)
    assert not registered(result)
    assert result.reference_grid == Grid.of(sitk.ReadImage(str(files["T1ce"])))
    index = np.array(result.grid.origin) - result.reference_grid.origin
    np.testing.assert_allclose(index, index.round(), atol=1e-6)
    brain_ml = result.brain.sum() * 0.008
    native_ml = np.count_nonzero(sitk.GetArrayFromImage(sitk.ReadImage(str(files["T1ce"])))) / 1000
    assert brain_ml == pytest.approx(native_ml, rel=0.01)
    assert result.record["brain_ml"] == pytest.approx(native_ml, rel=0.01)
    assert [channel.shape for channel in to_reference(result.channels[:1], result)] == [(155, 240, 240)]


def test_a_study_of_a_patient_who_moved_between_the_sequences_is_put_together(shared_data, monkeypatch):
    monkeypatch.setattr(alignment, "find_brain", find_brain)
    folder = shared_data / "native" / "TCGA-FG-6692"
    files = {name: folder / f"TCGA-FG-6692_{name.lower()}.nii.gz" for name in ("FLAIR", "T1ce")}
    result = harmonise(study_from_files(files), 2.0, 8)
    flair = result.record["registration"]["FLAIR"]
    assert flair["rotation_deg"] == pytest.approx(14.0, abs=1.0)  # seen in pictures: eyes, ventricles, tumour coincide
    assert flair["sharpness"] > 2.5
    assert result.reference_grid.size == (256, 224, 26)
