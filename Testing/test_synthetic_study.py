"""Synthetic studies: reproducible, bright in the order of real sequences, and labelled where there is tumour only."""

from __future__ import annotations

import io
import lzma
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import ingredients, shapes, splits, study_files, tumours
from mstkd_training import synthetic_study as synthetic_study_module
from mstkd_training.anatomy import NAMES
from mstkd_training.cache import Sample, save
from mstkd_training.cases import find_cases
from mstkd_training.config import AugmentConfig, Config, DataConfig, OptimConfig
from mstkd_training.contrasts import ORDER, TISSUES, draw_contrast
from mstkd_training.data import TrainingSet
from mstkd_training.growth import FRONT, grow
from mstkd_training.heads import CHANNELS, SPACING, Head, head_from_tissue
from mstkd_training.prepare import read_study
from mstkd_training.scanner import scan
from mstkd_training.shapes import CAVITY, ED, ET, NCR, NONE, Shape
from mstkd_training.synthetic_study import synthetic_study
from mstkd_training.tumours import Site, draw_tumour
from MSTKDSegmenterLib.engine.normalise import normalise
from MSTKDSegmenterLib.engine.sequences import SEQUENCES

FLAIR, T1, T1CE, T2 = range(4)


def ball(side: int, radius: float, middle: float | None = None) -> np.ndarray:
    middle = (side - 1) / 2 if middle is None else middle
    z, y, x = np.ogrid[:side, :side, :side]
    return (z - (side - 1) / 2) ** 2 + (y - (side - 1) / 2) ** 2 + (x - middle) ** 2 < radius**2


@pytest.fixture(scope="module")
def head() -> Head:
    """A ball of white matter with a ventricle, cortex from 34 to 40 mm, fluid to 43 mm, skin to 48 mm."""
    tissue = np.zeros((104, 104, 104), np.uint8)
    for radius, name in ((48, "skin"), (43, "csf"), (40, "cortex"), (34, "white_matter")):
        tissue[ball(104, radius)] = NAMES.index(name)
    tissue[ball(104, 8)] = NAMES.index("ventricle")
    return head_from_tissue(tissue, "toy")


@pytest.fixture(scope="module")
def shape() -> Shape:
    """Oedema of 14 mm radius around a ring of enhancement around necrosis, 15 mm to the left of the middle."""
    labels = np.full((29, 29, 29), NONE, np.uint8)
    for radius, value in ((14, ED), (8, ET), (5, NCR)):
        labels[ball(29, radius)] = value
    return Shape(labels, np.ones(3), np.array([0.0, 0.0, 15.0]))


@pytest.fixture(scope="module")
def studies(head: Head, shape: Shape) -> list[Sample]:
    return [synthetic_study([head], [shape], [], seed, random=0.0) for seed in range(10)]


def test_shares_of_tissues_make_whole_voxels_and_keep_volumes(head: Head) -> None:
    shares = dict(zip(CHANNELS, head.shares.astype(float) / 255))
    total = sum(share for name, share in shares.items() if name != "brain")
    np.testing.assert_allclose(total, 1)
    assert shares["white_matter"].sum() * 8 == pytest.approx(ball(104, 34).sum() - ball(104, 8).sum(), rel=0.01)
    np.testing.assert_allclose(head.centre, (np.array(head.shares.shape[1:]) - 1) / 2, atol=0.1)


def test_equal_seeds_give_equal_studies_and_other_seeds_others(head: Head, shape: Shape) -> None:
    first, again, other = (synthetic_study([head], [shape], [], seed) for seed in ((3, 1), (3, 1), (3, 2)))
    for name in ("image", "brain", "labels", "origin"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert first.image.shape != other.image.shape or np.abs(first.image - other.image).max() > 0.5


def test_a_study_looks_like_a_prepared_one(studies: list[Sample]) -> None:
    for study in studies:
        assert (study.image.dtype, study.brain.dtype, study.labels.dtype) == (np.float16, bool, np.uint8)
        assert study.image.shape == (4, *study.labels.shape)
        assert all(side % 8 == 0 for side in study.labels.shape)
        used = np.argwhere(study.brain)
        assert used.min() >= 2  # air around the brain
        assert (np.array(study.brain.shape) - 1 - used.max(axis=0)).min() >= 2
        middle = (used.mean(axis=0) * SPACING)[::-1] + study.origin
        np.testing.assert_allclose(middle, shapes.BRAIN, atol=8)


def test_intensities_are_the_engines_z_scores(head: Head, shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = []

    def recorded(image: np.ndarray, brain: np.ndarray) -> np.ndarray:
        raw.append(image)
        return normalise(image, brain)

    monkeypatch.setattr(synthetic_study_module, "normalise", recorded)
    study = synthetic_study([head], [shape], [], 4)
    assert min(image.min() for image in raw) >= 0
    for channel, image in zip(study.image, raw, strict=True):
        np.testing.assert_array_equal(channel, normalise(image, study.brain).astype(np.float16))
        inside = channel[study.brain].astype(np.float32)
        assert inside.mean() == pytest.approx(0, abs=0.03)
        assert inside.std() == pytest.approx(1, abs=0.05)
        assert not channel[~study.brain].any()


def test_tumour_stays_within_the_brain_and_regions_are_nested(studies: list[Sample]) -> None:
    kinds = set()
    for study in studies:
        assert not (study.labels[~study.brain] != NONE).any()
        assert study.labels.max() <= NONE  # one class per voxel, so ET in TC in WT
        kinds |= set(np.unique(study.labels).tolist())
    assert kinds == {NCR, ED, ET, NONE}


def test_contrast_has_the_order_of_the_sequences_unless_it_is_random() -> None:
    rng = np.random.default_rng(0)
    column = {name: number for number, name in enumerate(TISSUES)}
    violated = 0
    for _ in range(60):
        mean, any_order = draw_contrast(rng, random=0.0).mean, draw_contrast(rng, random=1.0).mean
        assert mean[FLAIR, column["ED"]] > mean[FLAIR, column["white_matter"]]
        assert mean[T2, column["ED"]] > mean[T2, column["white_matter"]]
        assert mean[T1, column["ED"]] < mean[T1, column["white_matter"]]
        assert mean[T1CE, column["ET"]] > mean[T1CE, column["white_matter"]] > mean[T1CE, column["csf"]]
        assert mean[T1, column["white_matter"]] > mean[T1, column["cortex"]] > mean[T1, column["csf"]]
        violated += any(
            any_order[number, column[one]] < any_order[number, column[other]]
            for number, sequence in enumerate(SEQUENCES)
            for one, other in ORDER[sequence]
        )
    assert violated > 50


def test_images_show_the_tumour_as_each_sequence_does(studies: list[Sample]) -> None:
    """On average over studies, for bias fields and thick slices may hide it in one."""
    contrast: dict[int, list[np.ndarray]] = {ED: [], ET: []}
    for study in studies:
        rest = study.brain & (study.labels == NONE)
        for value, found in contrast.items():
            if np.count_nonzero(study.labels == value) > 100:
                inside = study.image[:, study.labels == value].astype(np.float32)
                found.append(inside.mean(axis=1) - study.image[:, rest].astype(np.float32).mean(axis=1))
    oedema, enhancing = (np.mean(contrast[value], axis=0) for value in (ED, ET))
    assert oedema[FLAIR] > 1.0
    assert oedema[T2] > 0.3
    assert oedema[T1] < 0.2
    assert enhancing[T1CE] > 1.0
    assert enhancing[T1] < 0.2


def test_what_only_looks_like_tumour_is_not_labelled(head: Head, shape: Shape) -> None:
    bright = np.zeros(4, int)
    for seed in range(8):
        study = synthetic_study([head], [shape], [shape], seed, free=1.0, random=0.0)
        assert (study.labels == NONE).all()
        bright += (study.image > 2.0).any(axis=(1, 2, 3))
    assert bright[FLAIR] >= 3
    assert bright[T1CE] >= 6


def test_tumour_free_studies_are_as_frequent_as_asked_for() -> None:
    brain = ball(12, 5).astype(np.float32)
    site = Site(brain, np.zeros_like(brain), brain, brain, 4.0, np.array([5.5] * 3), 1.0)
    rng = np.random.default_rng(0)
    free = sum(draw_tumour(site, [], [], rng, free=0.1).kind == "none" for _ in range(300))
    assert 15 <= free <= 48  # binomial, three standard deviations


def test_a_resection_cavity_is_background_and_looks_like_fluid(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tumours, "REAL_SHARE", 1.0)
    labels = np.full((33, 33, 33), NONE, np.uint8)
    labels[ball(33, 16)] = ED
    labels[ball(33, 9)] = CAVITY
    differences = []
    for seed in range(8):
        made = synthetic_study([head], [], [Shape(labels, np.ones(3), np.zeros(3))], seed, free=0.0, random=0.0)
        assert made.labels.max() <= NONE
        hole = ndimage.binary_fill_holes(made.labels == ED) & (made.labels == NONE)
        hole = ndimage.binary_erosion(hole)
        if np.count_nonzero(hole) > 30:
            image = made.image.astype(np.float32)
            differences.append(image[:, hole].mean(axis=1) - image[:, made.labels == ED].mean(axis=1))
    assert len(differences) >= 3
    mean = np.mean(differences, axis=0)
    assert mean[T1] < -0.5
    assert mean[FLAIR] < -0.5
    assert mean[T2] > 0.5


def test_cells_follow_white_matter_and_do_not_cross_fluid() -> None:
    white, grey = np.zeros((2, 25, 25, 25), np.float32)
    white[:, :, :13] = 1  # a wall of fluid at x = 18
    grey[:, :, 13:18] = 1
    white[:, :, 19:] = 1
    seed = np.array([[12, 12, 12]])
    density = grow(white, grey, seed, 4.0, width=6.0, volume=60.0, rng=np.random.default_rng(0))
    assert density.min() >= 0
    assert density.max() <= 1 + 1e-5
    assert not density[:, :, 18:].any()
    reached = np.flatnonzero((density > FRONT).any(axis=(0, 1)))
    assert 12 - reached[0] > 1.5 * (reached[-1] - 12)
    assert 60 <= np.count_nonzero(density > FRONT) * 0.064 <= 90


def test_a_core_pushes_the_brain_away_from_it_but_not_the_skull(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tumours, "REAL_SHARE", 1.0)
    brain = ball(30, 12).astype(np.float32)
    site = Site(brain, np.zeros_like(brain), brain, brain, 4.0, np.array([14.5] * 3), 1.0)
    tumour = draw_tumour(site, [shape], [], np.random.default_rng(1), free=0.0)
    length = np.sqrt((tumour.push**2).sum(axis=0))
    assert 0.3 < length.max() < 8
    assert not length[brain == 0].any()
    core = np.argwhere(np.isin(tumour.labels, (NCR, ET))).mean(axis=0) / 2 - 0.25
    outwards = np.indices(brain.shape) - core.reshape(3, 1, 1, 1)
    assert ((tumour.push * outwards).sum(axis=0)[length > 0.2] > 0).mean() > 0.95


def test_a_shape_comes_to_where_it_is_put_about_as_large_as_it_was(shape: Shape) -> None:
    at = np.array([60.0, 70.0, 50.0])
    for seed in range(5):
        placed = shapes.place(shape, (60, 70, 60), 2.0, at, np.random.default_rng(seed), mirrored=bool(seed % 2))
        ratio = np.count_nonzero(placed != NONE) * 8 / np.count_nonzero(shape.labels != NONE)
        assert (0.75 * 0.9) ** 3 * 0.9 < ratio < (1.3 * 1.1) ** 3 * 1.1
        np.testing.assert_allclose(np.argwhere(placed != NONE).mean(axis=0) * 2, at, atol=5)
        radius = {v: np.abs(np.argwhere(placed == v) * 2 - at).max() for v in (ED, ET, NCR)}
        assert radius[ED] > radius[ET] > radius[NCR]


def test_shapes_are_read_at_their_places_and_without_the_patients_that_are_kept_apart(tmp_path: Path) -> None:
    before = np.zeros((2, 128, 128, 128), np.uint8)
    before[:, 60:68, 60:68, 60:68] = 4
    after = np.zeros((1, 30, 40, 50), np.uint8)
    after[0, 10:20, 5:15, 30:40] = 4
    affine = np.array([[-1.0, 0, 0, 10], [0, 1, 0, -40], [0, 0, 1, -20], [0, 0, 0, 1]])
    for name, arrays in (
        (shapes.MASKS, {"labels": before, "patient": np.array(["a", "b"])}),
        (shapes.TREATED, {"labels": after, "case": np.array(["BraTS-GLI-00007-101"]), "affine": affine}),
    ):
        stream = io.BytesIO()
        np.savez(stream, **arrays)
        (tmp_path / name).write_bytes(lzma.compress(stream.getvalue(), preset=0))
    untreated, treated = shapes.load_shapes(tmp_path, without=["b"])
    assert (len(untreated), len(treated)) == (1, 1)
    assert (untreated[0].labels == ET).all()
    # the middle of the mask is the middle of the BraTS field: 240 x 240 x 155 mm from (0, -239, 0)
    middle = np.array([119.5, -119.5, 77.0]) - shapes.BRAIN
    np.testing.assert_allclose(untreated[0].offset, middle[::-1], atol=1e-6)
    assert (treated[0].labels == CAVITY).all()
    # RAS (10 - 14.5, -40 + 9.5, -20 + 34.5) is LPS (4.5, 30.5, 14.5); the brain's middle in MNI space is (0, 20, 8)
    np.testing.assert_allclose(treated[0].offset, (6.5, 10.5, 4.5))
    assert shapes.patients(tmp_path) == {"a", "b", "BraTS-GLI-00007"}
    assert shapes.load_shapes(tmp_path, without=["BraTS-GLI-00007"])[1] == []


def test_a_scanner_keeps_what_is_bright_bright() -> None:
    image = np.where(ball(40, 8), 2.0, 0.0).astype(np.float32)
    for seed in range(8):
        scanned = scan(image, "FLAIR", 2.0, np.random.default_rng(seed))
        assert scanned.min() >= 0
        assert scanned[ball(40, 5)].mean() > scanned[~ball(40, 12)].mean()


def test_studies_survive_the_way_through_files_and_preparation(studies: list[Sample], tmp_path: Path) -> None:
    study = studies[0]
    study_files.write(study, tmp_path / "data" / "Synthetic_00000", SPACING)
    (case,) = find_cases(DataConfig(source=tmp_path / "data", layout="brats2021"))
    back = read_study(case, DataConfig(layout="brats2021"))
    shift = np.rint((back.origin - study.origin) / SPACING).astype(int)[::-1]
    low, high = np.maximum(shift, 0), np.minimum(shift + back.labels.shape, study.labels.shape)
    here = tuple(slice(a, b) for a, b in zip(low, high))
    there = tuple(slice(a, b) for a, b in zip(low - shift, high - shift))
    np.testing.assert_array_equal(back.labels[there], study.labels[here])
    np.testing.assert_array_equal(back.brain[there], study.brain[here])
    np.testing.assert_allclose(
        back.image[(slice(None), *there)], study.image[(slice(None), *here)], atol=0.06, rtol=0.05
    )
    assert np.count_nonzero(back.brain) == np.count_nonzero(study.brain)


def test_a_contact_sheet_is_a_picture(studies: list[Sample], tmp_path: Path) -> None:
    study_files.contact_sheet({"0": studies[0], "1": studies[1]}, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_training_draws_the_share_of_synthetic_studies_that_it_was_told(studies: list[Sample]) -> None:
    config = Config(
        name="t", data=DataConfig(synthetic=0.3), optim=OptimConfig(steps=60),
        augment=AugmentConfig(crop=(16, 16, 16), shift=(1, 1, 1), intensity=False),
    )  # fmt: skip
    marked = Sample("real", np.zeros((4, 20, 20, 20), np.float16), np.ones((20,) * 3, bool),
                    np.full((20,) * 3, ET, np.uint8), np.zeros(3))  # fmt: skip
    seeds = []

    def made(seed: int) -> Sample:
        seeds.append(seed)
        return studies[seed % len(studies)]

    items = TrainingSet([marked], [], config, 1, made)
    first = [items[k] for k in range(60)]
    assert 8 <= len(seeds) <= 28
    assert len(set(seeds)) == len(seeds)
    for k in (41, 5):
        assert torch.equal(items[k]["image"], first[k]["image"])
        assert torch.equal(items[k]["labels"], first[k]["labels"])


def test_a_pool_of_synthetic_studies_is_made_once_and_without_anyone_who_is_there_as_a_study(
    studies: list[Sample], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = Config(name="t", data=DataConfig(cache=tmp_path, synthetic=0.5, synthetic_pool=2, held_out=["a"]))
    splits.write(splits.make(["a", "b"], config), config)
    made, without = [], []

    class Made:
        def study(self, seed: int) -> Sample:
            made.append(seed)
            return studies[seed]

    monkeypatch.setattr(ingredients, "read", lambda source, cache, apart: without.append(apart) or Made())
    study = ingredients.for_training(config)
    found = [study(number) for number in (0, 1, 2, 5, 4)]
    assert made == [0, 1]
    assert without == [{"a", "b"}]
    for number, one in zip((0, 1, 0, 1, 0), found):
        assert np.array_equal(one.image, studies[number].image)


def test_a_pool_goes_to_a_process_that_is_not_forked(studies: list[Sample], tmp_path: Path) -> None:
    save(studies[0], tmp_path / "00000.npz")
    pool = pickle.loads(pickle.dumps(ingredients.Pool(ingredients.Ingredients((), (), ()), tmp_path, 1)))
    assert np.array_equal(pool(3).image, studies[0].image)


def test_without_a_share_nothing_synthetic_is_read_and_other_grids_are_refused() -> None:
    assert ingredients.for_training(Config(name="t", data=DataConfig(source=Path("nowhere")))) is None
    with pytest.raises(ValueError, match="spacing=1"):
        ingredients.for_training(Config(name="t", data=DataConfig(synthetic=0.5, spacing=1.0)))
