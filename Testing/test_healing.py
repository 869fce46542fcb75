"""Heads without their tumour, as further heads to learn from."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training.cache import Sample
from mstkd_training.config import Config
from mstkd_training.data import TrainingSet
from mstkd_training.healing import healed
from MSTKDSegmenterLib.engine.regions import CLASSES

BACKGROUND = CLASSES.index("background")
TUMOUR = 50.0


def symmetric_head(side: int = 24) -> Sample:
    """A brain in the middle whose halves are each other's mirror image, all of it between 1 and 2."""
    half = np.random.default_rng(0).uniform(1, 2, size=(4, side, side, side // 2))
    brain = np.zeros((side,) * 3, dtype=bool)
    brain[2:-2, 2:-2, 2:-2] = True
    image = np.concatenate([half, half[..., ::-1]], axis=-1) * brain
    return Sample("a", image.astype(np.float16), brain, np.full(brain.shape, BACKGROUND, np.uint8), np.zeros(3))


def with_tumour(head: Sample, where: tuple[slice, ...]) -> Sample:
    image, labels = head.image.copy(), head.labels.copy()
    image[(slice(None), *where)] = TUMOUR
    labels[where] = 0
    return Sample(head.patient, image, head.brain, labels, head.origin)


def test_a_symmetric_head_is_what_it_was_before_its_tumour() -> None:
    head = symmetric_head()
    ill = with_tumour(head, (slice(8, 14), slice(6, 12), slice(3, 7)))
    again = healed(ill, feather=2.0)
    assert np.array_equal(again.image, head.image)
    assert np.array_equal(again.labels, head.labels)
    assert ill.image.max() == TUMOUR


def test_the_tissue_beside_a_tumour_blends_into_that_of_the_other_half() -> None:
    head = symmetric_head()
    head.image[..., 12:] += 10 * head.brain[:, :, 12:]  # now one half is told from the other
    again = healed(with_tumour(head, (slice(8, 14), slice(6, 12), slice(3, 7))), feather=2.0)
    row = again.image[0, 11, 9].astype(float) - symmetric_head().image[0, 11, 9]
    # the brain's rim and the tumour are the other half's, then one voxel at full and one at half weight
    assert row[2:11] == pytest.approx([10, 10, 10, 10, 10, 10, 5, 0, 0], abs=0.02)


def test_tumour_on_both_sides_stays_with_its_label() -> None:
    ill = with_tumour(symmetric_head(), (slice(8, 14), slice(6, 12), slice(10, 20)))
    again = healed(ill, feather=2.0)
    left = np.flatnonzero(again.labels[11, 9] != BACKGROUND)
    # from 10 to 19, of which 4 to 13 are opposite; within two voxels of those nothing counts as healthy
    assert left.tolist() == list(range(10, 16))
    assert (again.image[:, 11, 9, left] == TUMOUR).all()
    assert (again.image[:, 11, 9, 16:20] < 3).all()


def test_nothing_of_a_tumour_is_left_where_the_other_half_is_smaller() -> None:
    head = symmetric_head()
    head.brain[:, 6:12, 18:] = False
    head.image *= head.brain
    again = healed(with_tumour(head, (slice(8, 14), slice(7, 11), slice(2, 8))), feather=2.0)
    assert (again.labels == BACKGROUND).all()
    assert again.image[:, head.brain].min() >= 1
    assert again.image.max() <= 2


def test_a_head_without_tumour_stays_as_it_is() -> None:
    head = symmetric_head()
    head.image[..., 12:] += 10 * head.brain[:, :, 12:]
    again = healed(head, feather=2.0)
    assert np.array_equal(again.image, head.image)
    assert np.array_equal(again.labels, head.labels)


def test_as_many_heads_come_without_their_tumour_as_are_asked_for() -> None:
    ill = with_tumour(symmetric_head(), (slice(8, 14), slice(6, 12), slice(3, 7)))
    for share, low, high in ((0, 0, 0), (0.5, 10, 30), (1, 40, 40)):
        config = Config.model_validate({"name": "t", "augment": {"crop": (24,) * 3, "affine": 0, "healed": share}})
        items = TrainingSet([ill], [], config, 1)
        without = sum(bool((items[k]["labels"] == BACKGROUND).all()) for k in range(40))
        assert low <= without <= high
