"""Training: losses against NumPy, transplants, samples that depend on nothing but seed and index, exact resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import cache, losses
from mstkd_training.config import AugmentConfig, Config, OptimConfig, SubsetConfig, load
from mstkd_training.data import Composite, TrainingSet, transplant
from mstkd_training.trainer import Trainer, validate
from MSTKDSegmenterLib.engine.network import NetworkConfig, build
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name

CONFIG = Config(
    name="tiny", seed=3, augment=AugmentConfig(crop=(16, 16, 16), shift=(1, 1, 1)), optim=OptimConfig(steps=60)
)


def sample(seed: int, side: int = 20, patient: str = "a") -> cache.Sample:
    rng = np.random.default_rng(seed)
    brain = np.zeros((side,) * 3, dtype=bool)
    brain[2:-2, 2:-2, 2:-2] = True
    labels = np.where(brain, rng.integers(0, 4, size=brain.shape), 3).astype(np.uint8)
    image = (rng.normal(size=(4, *brain.shape)) * brain).astype(np.float16)
    return cache.Sample(patient, image, brain, labels, np.zeros(3))


def numpy_segmentation_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.stack([labels == k for k in range(4)], axis=1).astype(float)
    cross_entropy = -(truth * np.log(p)).sum(axis=1).mean()
    dice = 0.0
    for members in ([0, 1, 2], [0, 2], [2]):
        a, b = p[:, members].sum(axis=1), truth[:, members].sum(axis=1)
        dice += (1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1)) / 3
    return cross_entropy + dice


def test_segmentation_loss_is_cross_entropy_plus_region_dice() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(2, 4, 3, 4, 5)), rng.integers(0, 4, size=(2, 3, 4, 5))
    value = losses.segmentation(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    assert value == pytest.approx(numpy_segmentation_loss(logits, labels), rel=1e-5)


def test_an_absent_region_still_pushes_false_positives_down() -> None:
    logits = torch.zeros(1, 4, 4, 4, 4, requires_grad=True)
    losses.segmentation(logits, torch.full((1, 4, 4, 4), 3)).backward()
    assert (logits.grad[:, :3] > 0).all()
    assert (logits.grad[:, 3] < 0).all()


def test_a_transplant_lands_at_its_physical_place_with_its_labels() -> None:
    base = Composite(np.zeros((4, 12, 12, 12), np.float32), np.full((12, 12, 12), 3, np.uint8))
    donor = cache.Sample(
        "b", np.ones((4, 6, 6, 6), np.float16), np.ones((6, 6, 6), bool), np.zeros((6, 6, 6), np.uint8),
        np.array([14.0, 16.0, 18.0]),
    )  # fmt: skip
    transplant(base, origin=np.array([10.0, 10.0, 10.0]), donor=donor, spacing=2.0, feather=2.0)
    where = np.argwhere(base.labels == 0)
    # the donor's first voxel is (x, y, z) = (2, 3, 4); feathered over two voxels, its outermost layer stays the base's
    assert where.min(axis=0).tolist() == [5, 4, 3]
    assert where.max(axis=0).tolist() == [8, 7, 6]
    assert base.image[:, 6, 5, 4] == pytest.approx(1.0)
    assert base.image[0, 4, 5, 4] == pytest.approx(0.25)
    assert not base.image[:, :, :3].any()


def test_a_transplant_that_sticks_out_is_cut_at_the_border() -> None:
    base = Composite(np.zeros((4, 8, 8, 8), np.float32), np.full((8, 8, 8), 3, np.uint8))
    donor = sample(1, side=10)
    donor.origin = np.array([-8.0, 0.0, 8.0])
    transplant(base, np.zeros(3), donor, 2.0, 1.0)
    assert base.image.any()
    assert not base.image[:, :4].any()


def test_a_training_sample_depends_on_seed_and_index_alone() -> None:
    studies, patches = [sample(0), sample(1, patient="b")], [sample(2, side=8, patient="c")]
    first, second = (TrainingSet(studies, patches, CONFIG) for _ in range(2))
    for index in (4, 0):
        second[7]  # what was drawn before must not matter
        for key, value in first[index].items():
            assert torch.equal(value, second[index][key]), key
    assert not torch.equal(first[0]["image"], first[1]["image"])


def test_absent_sequences_are_zero_and_present_ones_are_not() -> None:
    items = TrainingSet([sample(0)], [sample(2, side=8)], CONFIG)
    counts = set()
    for index in range(12):
        item = items[index]
        assert item["image"].flatten(1).ne(0).any(dim=1).tolist() == item["present"].bool().tolist()
        assert item["labels"].min() >= 0
        assert item["labels"].max() <= 3
        counts.add(int(item["present"].sum()))
    assert len(counts) > 1


def test_subsets_are_equally_likely_until_the_step_where_weights_begin() -> None:
    subsets = SubsetConfig(weights={"T1": 4, "t1ce+T1": 2}, from_step=100)
    assert subsets.probabilities(99) == [1 / 15] * 15
    later = dict(zip([subset_name(s) for s in SUBSETS], subsets.probabilities(100), strict=True))
    assert later["T1"] == pytest.approx(4 / 19)
    assert later["T1+T1ce"] == pytest.approx(2 / 19)
    assert later["FLAIR"] == pytest.approx(1 / 19)


def test_validation_counts_as_a_plain_dice_would() -> None:
    torch.manual_seed(0)
    network = build(NetworkConfig(width=8, blocks=(1, 1, 1, 1)))
    study = sample(5, side=16)
    score = validate(network, [study], torch.device("cpu"))["FLAIR+T1+T1ce+T2"]["TC"]
    with torch.no_grad():
        p = network(torch.from_numpy(study.image.astype(np.float32))[None]).softmax(dim=1)[0].numpy()
    guess, truth = (p[0] + p[2]) > 0.5, np.isin(study.labels, [0, 2])
    assert score == pytest.approx(2 * (guess & truth).sum() / (guess.sum() + truth.sum()), abs=1e-4)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for number, patient in enumerate(("a", "b", "held")):
        cache.save(sample(number, patient=patient), tmp_path / "cache" / "studies" / f"{patient}.npz")
    cache.save(sample(9, side=8, patient="p"), tmp_path / "cache" / "patches" / "p.npz")
    path = tmp_path / "tiny.yaml"
    path.write_text(
        f"name: tiny\nruns: {tmp_path / 'runs'}\nvalidate_every: 100\n"
        f"data: {{cache: {tmp_path / 'cache'}, held_out: [held]}}\n"
        # not bf16: its convolution gradients on a 2x2x2 bottleneck hold garbage now and then (oneDNN, torch 2.13)
        "augment: {crop: [16, 16, 16], shift: [1, 1, 1]}\noptim: {steps: 4, warm_up: 1, threads: 1, bf16: false}\n"
    )
    return load(path)


def test_two_steps_and_resume_and_two_steps_equal_four_steps_exactly(config: Config, tmp_path: Path) -> None:
    straight = Trainer(config)
    straight.fit()
    broken = Trainer(config.model_copy(update={"runs": tmp_path / "other"}))
    original = broken.train_step

    def stop_after_two(item: dict) -> dict:
        values = original(item)
        broken.stop = broken.step == 2
        return values

    broken.train_step = stop_after_two
    broken.fit()
    resumed = Trainer(config.model_copy(update={"runs": tmp_path / "other"}))
    assert resumed.resume()
    assert resumed.step == 2
    resumed.fit()
    for name, wanted in straight.average.state_dict().items():
        assert torch.equal(wanted, resumed.average.state_dict()[name]), name


def test_a_held_out_study_that_is_not_there_is_named(config: Config) -> None:
    data = config.data.model_copy(update={"held_out": ("nobody",)})
    with pytest.raises(ValueError, match="'nobody'"):
        Trainer(config.model_copy(update={"data": data})).fit()


def test_overrides_reach_nested_keys_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    assert load(path, ["optim.steps=7"]).optim.steps == 7
    with pytest.raises(ValueError, match="stepz"):
        load(path, ["optim.stepz=7"])
    with pytest.raises(ValueError, match="expected key=value"):
        load(path, ["optim.steps"])
