"""The presets: each is what its comment says, and recipes that are compared differ in what is compared alone."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training.config import load
from mstkd_training.networks import network_config
from MSTKDSegmenterLib.engine.sequences import SEQUENCES, SUBSETS, subset_name
from presets import CONFIGS, preset


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_is_valid_and_its_run_is_named_after_it(path: Path) -> None:
    config = load(path)
    assert config.name == path.stem
    if config.teacher.kind != "frozen":
        network_config(config)


def test_the_official_preset_has_the_published_weights_and_every_official_formula() -> None:
    config = preset("official")
    assert set(config.formulas.model_dump(exclude={"temperature"}).values()) == {"official"}
    assert config.terms.weights(10**9) == {
        "teacher_segmentation": 0.4, "segmentation": 0.6, "consistency": 10.0, "content": 0.2, "multiscale": 0.2,
        "extreme_value": 1.0, "gram": 1.0, "adversarial": 2e-4, "logit_kl": 1.0,
    }  # fmt: skip
    assert config.teacher.gradients
    assert (config.optim.optimiser, config.optim.ema, config.augment.flips) == ("adam", 0, ("x", "y", "z"))


@pytest.mark.parametrize(
    ("ablation", "gone"),
    [
        ("without_mstkd", {"multiscale", "extreme_value"}),
        ("without_gsme", {"gram", "adversarial"}),
        ("without_slkd", {"logit_kl"}),
    ],
)
def test_an_ablation_is_the_corrected_preset_without_one_group_of_terms(ablation: str, gone: set[str]) -> None:
    full, ablated = (preset(name) for name in ("corrected", ablation))
    assert set(full.terms.weights(0)) - set(ablated.terms.weights(0)) == gone
    assert ablated.model_copy(update={"name": full.name, "terms": full.terms}) == full


@pytest.mark.parametrize("name", ["corrected", "without_gsme", "without_mstkd", "without_slkd", "teacher", "compact"])
def test_the_network_is_told_which_sequences_are_there_but_in_the_released_formulas(name: str) -> None:
    assert network_config(preset(name)).availability
    assert not network_config(preset("official")).availability


def test_a_teacher_to_be_frozen_sees_all_sequences_nearly_always_and_is_judged_by_that() -> None:
    config = preset("teacher")
    assert config.subsets.probabilities(0)[SUBSETS.index(SEQUENCES)] > 0.98
    assert config.validation.only == (subset_name(SEQUENCES),)
    taught = preset("corrected", ["teacher.kind=frozen", "teacher.run=teacher"])
    assert (config.size, config.network, config.data) == (taught.size, taught.network, taught.data)


def test_what_ships_differs_from_going_on_with_the_middle_of_the_head_in_what_it_is_shown_alone() -> None:
    boxes, middle = (preset(name) for name in ("whole_boxes", "further"))
    shown = {"crop": boxes.augment.crop, "shift": boxes.augment.shift}
    assert middle.model_copy(update={"name": boxes.name, "augment": middle.augment.model_copy(update=shown)}) == boxes
    assert all(one > other for one, other in zip(boxes.augment.crop, middle.augment.crop, strict=True))


def test_a_recipe_that_goes_on_from_another_has_its_folds() -> None:
    going_on = {config.name: config for config in map(load, CONFIGS.rglob("*.yaml")) if config.start}
    assert set(going_on) == {
        "whole_grid",
        "more_lesions",
        "taught_lesions",
        "taught_logits",
        "further",
        "taught_further",
        "whole_boxes",
        "taught_boxes",
    }
    for config in going_on.values():
        start = preset(config.start)
        assert config.data.folds == start.data.folds[: len(config.data.folds)]


def test_recipes_are_compared_with_one_that_differs_in_what_is_compared_and_in_steps_alone() -> None:
    plain, taught, synthetic = (preset(f"rung_{name}") for name in ("dropout", "distilled", "synthetic"))
    optim = plain.optim.model_copy(update={"steps": taught.optim.steps})
    same = {"name": taught.name, "teacher": taught.teacher, "terms": taught.terms, "optim": optim}
    assert plain.model_copy(update=same) == taught
    assert (plain.teacher.kind, taught.teacher.kind) == ("none", "ema")
    data = plain.data.model_copy(update={"synthetic": synthetic.data.synthetic})
    assert plain.model_copy(update={"name": synthetic.name, "data": data}) == synthetic
    assert (plain.data.synthetic, synthetic.data.synthetic) == (0, 0.25)


def test_with_half_of_the_patients_a_recipe_differs_in_them_alone() -> None:
    plain, half = preset("rung_dropout"), preset("rung_half")
    data = plain.data.model_copy(update={"omitted": half.data.omitted, "splits": half.data.splits})
    assert plain.model_copy(update={"name": half.name, "data": data}) == half
    for fold in half.data.folds:
        assert set(fold) & set(half.data.omitted) == {sorted(fold)[1], sorted(fold)[3]}


def test_of_the_distilled_recipes_one_compares_logits_alone_and_one_has_a_teacher_that_does_not_follow() -> None:
    taught, logits, frozen = (preset(f"rung_{name}") for name in ("distilled", "logits", "frozen"))
    gone = set(taught.terms.weights(0)) - set(logits.terms.weights(0))
    assert gone == {"content", "multiscale", "extreme_value", "gram"}
    kept = {name: getattr(taught.terms, name) for name in logits.terms.weights(0)}
    assert {name: getattr(logits.terms, name) for name in kept} == kept
    assert logits.model_copy(update={"name": taught.name, "terms": taught.terms}) == taught
    assert (frozen.teacher.kind, frozen.teacher.run) == ("frozen", ("rung_dropout",))
    assert frozen.model_copy(update={"name": taught.name, "teacher": taught.teacher}) == taught


def test_what_is_taught_differs_in_that_alone_and_by_logits_in_the_terms_alone() -> None:
    plain, taught, logits = (preset(name) for name in ("more_lesions", "taught_lesions", "taught_logits"))
    assert taught.model_copy(update={"name": plain.name, "teacher": plain.teacher, "terms": plain.terms}) == plain
    assert logits.model_copy(update={"name": taught.name, "terms": taught.terms}) == taught
    assert (taught.teacher.kind, taught.teacher.run) == ("frozen", (plain.start,))
    assert set(taught.terms.weights(0)) - set(logits.terms.weights(0)) == {
        "content", "multiscale", "extreme_value", "gram"
    }  # fmt: skip


def test_the_student_that_is_born_again_differs_from_its_teacher_in_having_one_alone() -> None:
    again, teacher, taught = (preset(name) for name in ("born_again", "many_lesions", "taught_lesions"))
    assert (again.teacher.kind, again.teacher.run) == ("frozen", (teacher.name,))
    same = {"name": teacher.name, "teacher": teacher.teacher, "terms": teacher.terms}
    assert again.model_copy(update=same) == teacher
    assert again.terms == taught.terms


@pytest.mark.parametrize(
    ("name", "without", "teachers"),
    [
        ("taught_further", "further", ("varied_lesions", "many_lesions")),
        ("taught_boxes", "whole_boxes", ("whole_boxes",)),
    ],
)
def test_a_taught_student_differs_from_one_without_teachers_in_having_them_alone(
    name: str, without: str, teachers: tuple[str, ...]
) -> None:
    taught, plain, again = (preset(config) for config in (name, without, "born_again"))
    assert (taught.teacher.kind, taught.teacher.run) == ("frozen", teachers)
    same = {"name": plain.name, "teacher": plain.teacher, "terms": plain.terms}
    assert taught.model_copy(update=same) == plain
    assert taught.terms == again.terms


def test_the_recipe_with_varied_lesions_differs_in_them_in_healed_heads_and_in_how_long_it_learns() -> None:
    base, recipe = (preset(name) for name in ("many_lesions", "varied_lesions"))
    augment = base.augment.model_copy(update={"varied": 0.75, "healed": 0.5})
    same = {"name": recipe.name, "augment": augment, "optim": recipe.optim}
    same |= {"checkpoint_every": recipe.checkpoint_every, "mirror": True}  # which only inference uses
    assert base.model_copy(update=same) == recipe
    assert recipe.optim.batch * recipe.optim.steps == 16000


def test_the_short_recipes_differ_in_what_they_are_to_tell_apart_alone() -> None:
    long, short, taught = (preset(name) for name in ("varied_lesions", "varied_short", "taught_short"))
    assert short.augment == long.augment
    many = preset("many_lesions")
    assert many.model_copy(update={"name": short.name, "augment": long.augment}) == short
    same = {"name": short.name, "teacher": short.teacher, "terms": short.terms}
    assert taught.model_copy(update=same) == short
    assert (taught.teacher.kind, taught.teacher.run) == ("frozen", (long.name,))
    assert taught.terms == preset("born_again").terms


def test_the_recipe_with_healed_heads_differs_in_them_alone() -> None:
    plain, recipe = (preset(name) for name in ("many_lesions", "healed_heads"))
    augment = recipe.augment.model_copy(update={"healed": plain.augment.healed})
    assert recipe.model_copy(update={"name": plain.name, "augment": augment}) == plain
    assert (plain.augment.healed, recipe.augment.healed) == (0, 0.5)
