"""Training samples and configuration: transplants, samples that depend on nothing but seed and index."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import cache, data
from mstkd_training.config import (
    AugmentConfig,
    Config,
    DataConfig,
    OptimConfig,
    SubsetConfig,
    TeacherConfig,
    load,
)
from mstkd_training.data import Composite, TrainingSet, transplant
from mstkd_training.distributed import World
from mstkd_training.learner import Learner
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
    first, second = (TrainingSet(studies, patches, CONFIG, 1) for _ in range(2))
    for index in (4, 0):
        second[7]  # what was drawn before must not matter
        for key, value in first[index].items():
            assert torch.equal(value, second[index][key]), key
    assert not torch.equal(first[0]["image"], first[1]["image"])


def test_a_sample_with_a_healed_head_does_not_depend_on_the_heads_that_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = CONFIG.model_copy(update={"augment": CONFIG.augment.model_copy(update={"healed": 0.7})})
    studies = [sample(0), sample(1)]  # of one patient
    first = TrainingSet(studies, [], config, 1)
    wanted = [first[index] for index in range(12)]
    monkeypatch.setattr(data, "HEALED_KEPT", 1)
    second = TrainingSet(studies, [], config, 1)
    for index in reversed(range(12)):
        for key, value in second[index].items():
            assert torch.equal(value, wanted[index][key]), key


def test_crops_around_tumour_have_it_in_their_middle() -> None:
    study = sample(0, side=60)
    study.labels[:] = 3
    study.labels[48:52, 12:16, 30:34] = 0
    augment = {**CONFIG.augment.model_dump(), "rotation": 0, "scaling": 0, "shift": (0, 0, 0), "flips": ()}

    def middles(focus: float) -> list[bool]:
        config = CONFIG.model_copy(update={"augment": AugmentConfig(**{**augment, "focus": focus})})
        items = TrainingSet([study], [], config, 1)
        # voxels of the middle may be the lesion's border, so some of its 4 x 4 x 4 voxels are nearby
        return [bool((items[k]["labels"][4:12, 4:12, 4:12] == 0).any()) for k in range(12)]

    assert all(middles(1.0))
    assert not all(middles(0.01))


def test_crops_stay_in_the_brains_box_and_hold_the_chosen_tumour() -> None:
    study = sample(0, side=60)
    study.image[:, :20] = 0  # the brain is from 20 to 58 along z
    study.labels[:] = 3
    study.labels[21:25, 30:34, 55:57] = 0  # at its corner
    still = {"rotation": 0, "scaling": 0, "shift": (0, 0, 0), "flips": (), "intensity": False, "focus": 1.0}
    config = Config.model_validate({"name": "tiny", "augment": {**still, "crop": (16, 16, 16)}})
    items = TrainingSet([study], [], config, 1)
    for index in range(6):
        assert (items[index]["labels"] == 0).sum() > 0.7 * 4 * 4 * 2
        assert (items[index]["image"] != 0).float().mean() > 0.9
    larger = TrainingSet(
        [study], [], Config.model_validate({"name": "tiny", "augment": {**still, "crop": (48,) * 3}}), 1
    )
    # 38 of 48 voxels along z and 48 of 56 along y and x: the brain is in the middle of what is longer than it
    planes = np.flatnonzero((larger[0]["image"] != 0).any(dim=0).float().mean(dim=(1, 2)) > 0.3)
    assert abs((planes[0] + planes[-1]) / 2 - 23.5) <= 1


def test_an_item_that_is_not_turned_has_the_voxels_of_its_study() -> None:
    study = sample(0, side=20)
    config = Config.model_validate({"name": "t", "augment": {"crop": (16,) * 3, "intensity": False, "affine": 0.5}})
    middle = study.image[:, 2:-2, 2:-2, 2:-2].astype(np.float32)
    items = TrainingSet([study], [], config, 1)
    same = [any(np.array_equal(items[k]["image"], image) for image in (middle, middle[..., ::-1])) for k in range(20)]
    assert 5 <= sum(same) <= 15


def test_several_lesions_are_pasted_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pasted = []
    monkeypatch.setattr(data, "transplant", lambda *arguments: pasted.append(arguments))
    augment = {**CONFIG.augment.model_dump(), "transplant": 1, "transplants": 3}
    items = TrainingSet(
        [sample(0)], [sample(2, side=8)], CONFIG.model_copy(update={"augment": AugmentConfig(**augment)}), 1
    )
    numbers = set()
    for index in range(20):
        pasted.clear()
        items[index]
        numbers.add(len(pasted))
    assert numbers == {1, 2, 3}


def test_a_fold_tests_its_own_patients_in_a_folder_of_its_own() -> None:
    config = CONFIG.model_copy(update={"data": DataConfig(folds=(("a", "b"), ("c",)), splits="cv")})
    fold = config.of_fold(1)
    assert (fold.data.held_out, fold.data.splits, fold.folder) == (("c",), "cv-fold1", config.folder / "fold1")
    assert fold.whole.folder == config.folder
    with pytest.raises(ValueError, match=r"fold 2 of data\.folds, which has 2: expected 0 to 1"):
        config.of_fold(2)
    with pytest.raises(ValueError, match="fold 0 of a run that is fold 1 already"):
        fold.of_fold(0)


def test_a_fold_that_keeps_nobody_apart_is_refused() -> None:
    data = DataConfig(folds=(("a",), ("b",)), test_share=0, validation_share=0)
    for fold, held_out in ((1, ()), (1, ("a",)), (2, ())):
        with pytest.raises(ValueError, match=f"fold={fold}: ask for it with --fold {fold}, which keeps its patients"):
            Config(name="x", fold=fold, data=data.model_copy(update={"held_out": held_out}))


def test_what_a_teacher_of_this_kind_would_ignore_is_refused() -> None:
    for kind, ignored in (("none", {"size": "large"}), ("none", {"gradients": True}), ("ema", {"gradients": True})):
        with pytest.raises(ValueError, match=rf"teacher\.{next(iter(ignored))} with(out a teacher| teacher\.kind)"):
            TeacherConfig(kind=kind, **ignored)


def test_a_fold_may_start_from_a_package_of_its_own() -> None:
    data = DataConfig(folds=(("a",), ("b",)), test_share=0, validation_share=0)
    config = Config(name="x", init=Path("all"), init_folds=(Path("without_a"), Path("without_b")), data=data)
    assert [config.init, config.of_fold(0).init, config.of_fold(1).init] == [
        *map(Path, ("all", "without_a", "without_b"))
    ]
    assert Config.model_validate_json(config.of_fold(1).model_dump_json()) == config.of_fold(1)
    assert Config(name="x", init=Path("all"), data=data).of_fold(1).init == Path("all")


@pytest.mark.parametrize("given", [{"init": "all", "init_folds": ["one"]}, {"init_folds": ["one", "two"]}])
def test_packages_of_the_folds_are_one_for_each_and_there_is_one_for_everybody(given: dict) -> None:
    data = {"folds": [["a"], ["b"]], "test_share": 0, "validation_share": 0}
    with pytest.raises(
        ValueError, match=r"init_folds has \d packages for 2 folds, and init is (all|None): give one for"
    ):
        Config.model_validate({"name": "x", "data": data, **given})


@pytest.mark.parametrize("other", [{"held_out": ["c"]}, {"test_share": 0.2}, {"validation_share": 0.1}])
def test_with_folds_nobody_is_kept_out_besides(other: dict) -> None:
    shares = {"test_share": 0, "validation_share": 0, "held_out": []}
    with pytest.raises(ValueError, match="with folds everybody tests once"):
        Config(name="x", data=DataConfig(folds=(("a",), ("b",)), **{**shares, **other}))


def test_folds_that_share_a_patient_are_refused() -> None:
    with pytest.raises(ValueError, match=r"data\.folds names a patient twice"):
        Config(name="x", data=DataConfig(folds=(("a", "b"), ("b",)), test_share=0, validation_share=0))


def test_a_fold_builds_on_the_same_fold_of_another_run() -> None:
    config = CONFIG.model_copy(update={"data": DataConfig(folds=(("a",), ("b",)))})
    assert config.folder_of("teacher") == Path("runs/teacher")
    assert config.of_fold(1).folder_of("teacher") == Path("runs/teacher/fold1")


def test_a_student_starts_from_a_package_or_from_a_run() -> None:
    with pytest.raises(ValueError, match="init=folder with start=other: the student starts from one of them"):
        Config(name="x", init=Path("folder"), start="other")


def test_a_sample_holds_all_sequences_and_which_of_them_the_student_sees() -> None:
    items = TrainingSet([sample(0)], [sample(2, side=8)], CONFIG, 1)
    counts = set()
    for index in range(12):
        item = items[index]
        assert item["image"].flatten(1).ne(0).any(dim=1).all()
        assert item["present"].any()
        assert item["labels"].min() >= 0
        assert item["labels"].max() <= 3
        assert item["labels"].dtype == torch.uint8  # an eighth of what travels to the device
        counts.add(int(item["present"].sum()))
    assert len(counts) > 1


def test_subsets_are_equally_likely_until_the_step_where_weights_begin() -> None:
    subsets = SubsetConfig(weights={"T1": 4, "t1ce+T1": 2}, from_step=100)
    assert subsets.probabilities(99) == [1 / 15] * 15
    later = dict(zip([subset_name(s) for s in SUBSETS], subsets.probabilities(100), strict=True))
    assert later["T1"] == pytest.approx(4 / 19)
    assert later["T1+T1ce"] == pytest.approx(2 / 19)
    assert later["FLAIR"] == pytest.approx(1 / 19)


def test_overrides_reach_nested_keys_and_unknown_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    assert load(path, ["optim.steps=7"]).optim.steps == 7
    with pytest.raises(ValueError, match="stepz"):
        load(path, ["optim.stepz=7"])
    with pytest.raises(ValueError, match="expected key=value"):
        load(path, ["optim.steps"])
    for text, expected in (("name: [x", "c.yaml is not YAML"), ("- name", "c.yaml holds a list, expected keys")):
        path.write_text(text)
        with pytest.raises(ValueError, match=expected):
            load(path)


def test_a_configuration_builds_on_another_and_overrides_come_last(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("name: base\noptim: {steps: 5, batch: 2}\n")
    (tmp_path / "c.yaml").write_text("base: base.yaml\nname: c\noptim: {steps: 7}\n")
    config = load(tmp_path / "c.yaml", ["optim.warm_up=3"])
    assert (config.name, config.optim.steps, config.optim.batch, config.optim.warm_up) == ("c", 7, 2, 3)


def test_studies_are_mirrored_along_the_axes_that_are_asked_for() -> None:
    study = sample(0, side=16)
    study.image[:] = np.arange(16**3).reshape(16, 16, 16) % 2039 + 1
    still = {"rotation": 0, "scaling": 0, "shift": [0, 0, 0], "crop": [16, 16, 16], "intensity": False}
    for flips in ((), ("z",), ("x", "y")):
        config = Config.model_validate({"name": "tiny", "augment": {**still, "flips": flips}})
        items = TrainingSet([study], [], config, 1)
        seen = {items[index]["image"][0].numpy().tobytes() for index in range(24)}
        wanted = set()
        for number in range(len(flips) + 1):
            for chosen in itertools.combinations(flips, number):
                axes = ["zyx".index(axis) for axis in chosen]
                wanted.add(np.flip(study.image[0].astype(np.float32), axes).tobytes())
        assert seen == wanted


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)])
def test_the_optimiser_is_the_one_that_is_asked_for(name: str, kind: type) -> None:
    config = Config.model_validate(
        {"name": "tiny", "teacher": {"kind": "none"}, "optim": {"optimiser": name, "bf16": False}}
    )
    assert type(Learner(config, World(0, 1, torch.device("cpu"))).optimizer) is kind


def test_on_a_cpu_the_layout_of_voxels_stays_as_it_is() -> None:
    optim = {"channels_last": True, "bf16": False, "threads": 1}
    config = Config.model_validate({"name": "tiny", "teacher": {"kind": "none"}, "optim": optim})
    learner = Learner(config, World(0, 1, torch.device("cpu")))
    assert learner.layout is torch.contiguous_format
    assert all(parameter.is_contiguous() for parameter in learner.distillation.parameters())


def test_studies_are_rotated_and_scaled_about_all_three_axes() -> None:
    affine = TrainingSet([], [], Config.model_validate({"name": "tiny"}), 1).geometry.transforms[0].rand_affine
    affine.randomize()
    assert len(affine.rand_affine_grid.rotate_params) == len(affine.rand_affine_grid.scale_params) == 3
