"""Pasted lesions that differ each time: size, side and contrast."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import donors
from mstkd_training.cache import Sample
from mstkd_training.config import Config
from mstkd_training.data import TrainingSet
from mstkd_training.donors import BRIGHTNESS, CONTRAST, SIZES, mirrored, scaled, varied
from MSTKDSegmenterLib.engine.regions import CLASSES

BACKGROUND = CLASSES.index("background")
SPACING = 2.0


def patch(sides: tuple[int, int, int] = (20, 21, 22)) -> Sample:
    """A ball of tumour in a ramp along x, y and z that says at which place (mm) a voxel is."""
    origin = np.array([30.0, -50.0, 70.0])
    places = np.stack(np.meshgrid(*map(np.arange, sides), indexing="ij")) * SPACING + origin[::-1, None, None, None]
    labels = np.full(sides, BACKGROUND, np.uint8)
    middle = np.array(sides)[:, None, None, None] // 2
    labels[(np.square(np.indices(sides) - middle).sum(axis=0)) < 36] = 1
    image = np.concatenate([places, places[:1]]).astype(np.float32)
    return Sample("p", image, np.ones(sides, bool), labels, origin)


def middle(of: Sample) -> np.ndarray:
    """Of the tumour, mm (x, y, z)."""
    return np.argwhere(of.labels != BACKGROUND).mean(axis=0)[::-1] * SPACING + of.origin


def volume(of: Sample) -> int:
    return int((of.labels != BACKGROUND).sum())


@pytest.mark.parametrize("factor", [0.5, 0.6, 0.9, 1.2])
def test_a_lesion_is_scaled_about_the_middle_of_its_patch(factor: float) -> None:
    before = patch()
    after = scaled(before, factor, SPACING)
    assert after.labels.shape == tuple(np.rint(np.array(before.labels.shape) * factor).astype(int))
    assert volume(after) == pytest.approx(volume(before) * factor**3, rel=0.15)
    centre = before.origin + SPACING * (np.array(before.labels.shape[::-1]) - 1) / 2
    assert middle(after) - centre == pytest.approx((middle(before) - centre) * factor, abs=1)  # half a voxel
    # what was at a place is `factor` times as far from the middle now
    places = np.arange(after.labels.shape[0]) * SPACING + after.origin[2]
    inner = slice(1, -1)
    shown = after.image[0, inner, 5, 5]
    assert (shown - centre[2]) * factor == pytest.approx((places - centre[2])[inner], abs=1e-3)


def test_a_lesion_of_the_same_size_stays_as_it_is() -> None:
    before = patch()
    after = scaled(before, 1.0, SPACING)
    assert np.array_equal(after.image, before.image)
    assert np.array_equal(after.labels, before.labels)
    assert np.array_equal(after.origin, before.origin)


def test_a_mirrored_lesion_is_as_far_from_the_plane_on_its_other_side() -> None:
    before = patch()
    after = mirrored(before, 10.0, SPACING)
    assert middle(after) == pytest.approx(middle(before) * (-1, 1, 1) + (20, 0, 0))
    again = mirrored(after, 10.0, SPACING)
    assert np.array_equal(again.image, before.image)
    assert np.array_equal(again.origin, before.origin)


def head() -> Sample:
    """A brain that begins and ends elsewhere than its array, which does not begin at 0."""
    sides = (40, 40, 40)
    brain = np.zeros(sides, bool)
    brain[5:30, 5:30, 3:34] = True
    return Sample("h", np.ones((4, *sides)), brain, np.full(sides, BACKGROUND), np.array([7.0, -60.0, 40.0]))


def test_a_lesion_has_any_size_between_the_least_and_the_largest_on_either_side() -> None:
    plane = 7.0 + SPACING * (3 + 33) / 2
    before = patch()
    sizes, mirror_images = [], 0
    for seed in range(60):
        one, again = (varied(before, head(), np.random.default_rng(seed), SPACING) for _ in range(2))
        assert np.array_equal(one.image, again.image)
        sizes.append((volume(one) / volume(before)) ** (1 / 3))
        if middle(one)[0] < plane:
            mirror_images += 1
            assert 2 * plane - middle(one)[0] == pytest.approx(middle(before)[0], abs=1)  # half a voxel
    assert min(sizes) == pytest.approx(SIZES[0], abs=0.05)
    assert max(sizes) == pytest.approx(SIZES[1], abs=0.08)
    assert 15 < mirror_images < 45


def test_each_sequence_of_a_lesion_gets_a_contrast_and_a_brightness_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(donors, "SIZES", (1.0, 1.0))
    before = patch()
    before.image[:] = np.random.default_rng(0).normal(size=before.image.shape)
    factors, offsets = [], []
    for seed in range(60):
        after = varied(before, head(), np.random.default_rng(seed), SPACING)
        turned = after.image if after.origin[0] == before.origin[0] else after.image[..., ::-1]
        fits = [np.polyfit(was.ravel(), now.ravel(), 1) for was, now in zip(before.image, turned, strict=True)]
        assert np.ptp(fits, axis=0).min() > 1e-3  # no two sequences alike
        factors += [fit[0] for fit in fits]
        offsets += [fit[1] for fit in fits]
    assert (min(factors), max(factors)) == pytest.approx((1 - CONTRAST, 1 + CONTRAST), abs=0.02)
    assert (min(offsets), max(offsets)) == pytest.approx((-BRIGHTNESS, BRIGHTNESS), abs=0.02)


def test_voxels_outside_of_the_brain_stay_zero() -> None:
    before = patch()
    before.brain[:5] = False
    before.image[:, :5] = 0
    after = varied(before, head(), np.random.default_rng(0), SPACING)
    assert not after.image[:, ~after.brain].any()
    assert after.image[:, after.brain].all()


def samples(varied_share: float, count: int = 6) -> list[np.ndarray]:
    augment = {"crop": [24, 24, 24], "affine": 0, "flips": [], "intensity": False, "varied": varied_share}
    augment |= {"transplant": 1, "healthy_share": 0}
    config = Config.model_validate({"name": "tiny", "augment": augment, "teacher": {"kind": "none"}})
    generator = np.random.default_rng(0)
    study = Sample(
        "h", generator.normal(size=(4, 24, 24, 24)), np.ones((24,) * 3, bool), np.full((24,) * 3, BACKGROUND, np.uint8),
        np.zeros(3),
    )  # fmt: skip
    lesion = patch((8, 8, 8))
    lesion.labels[2:6, 2:6, 2:6] = 1
    lesion.origin = np.array([4.0, 16.0, 16.0])
    items = TrainingSet([study], [lesion], config, 1)
    return [items[number]["labels"].numpy() for number in range(count)]


def test_each_paste_of_the_one_lesion_there_is_is_another() -> None:
    plain, changed = samples(0.0), samples(1.0)
    assert all(np.array_equal(one, plain[0]) for one in plain)
    assert len({one.tobytes() for one in changed}) > 3  # of eight voxels' sides there are not many sizes
