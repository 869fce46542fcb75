"""One distillation step: who learns from whom, and that the official defects are where they are asked for."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training.config import Config
from mstkd_training.discriminator import StyleDiscriminator
from mstkd_training.distillation import Distillation, StepResult
from mstkd_training.ensemble import Ensemble
from mstkd_training.networks import new_average, new_student, new_teacher
from MSTKDSegmenterLib.engine.network import SIZES, build, count_parameters
from pydantic import ValidationError

SMALL = {
    "width": 8, "blocks": [1, 1, 1, 1], "dropout": 0.0,
    "transformer": {"width": 16, "heads": 2, "mlp": 16, "grid": [2, 2, 2], "dropout": 0.0},
}  # fmt: skip
OFFICIAL = {"segmentation": "official", "background": "official"}


def configuration(**changes: object) -> Config:
    changes.setdefault("terms", {"adversarial": {"weight": 0}})
    return Config.model_validate({"name": "tiny", "network": SMALL, **changes})


def distillation(config: Config) -> Distillation:
    torch.manual_seed(0)
    student = new_student(config)
    return Distillation(student, new_teacher(config, new_average(student, 0.9)), config)


def step(module: Distillation, config: Config, side: int = 32, **options: object) -> StepResult:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(1, 4, side, side, side, generator=generator)
    labels = torch.randint(0, 4, (1, side, side, side), generator=generator)
    present = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    return module(image, present, labels, config.terms.weights(config.optim.steps), **options)


def gradients(module: torch.nn.Module) -> float:
    return sum(p.grad.abs().sum().item() for p in module.parameters() if p.grad is not None)


def test_all_terms_are_computed_and_the_total_is_their_weighted_sum() -> None:
    config = configuration(terms={"logit_mse": {"weight": 0.5}, "adversarial": {"weight": 1e-3}})
    result = step(distillation(config), config, side=64, discriminator=StyleDiscriminator(64))
    weights = config.terms.weights(config.optim.steps)
    assert set(result.terms) == set(weights)
    total = sum(weights[name] * value.item() for name, value in result.terms.items())
    assert result.total.item() == pytest.approx(total, rel=1e-5)


def test_a_term_without_weight_is_not_computed() -> None:
    config = configuration(terms={"gram": {"weight": 0}, "adversarial": {"weight": 0}})
    result = step(distillation(config), config)
    assert "gram" not in result.terms
    assert "adversarial" not in result.terms


def test_gram_matching_has_a_share_at_the_start_that_can_be_measured_and_the_official_one_has_none() -> None:
    shares = {}
    for formula in ("corrected", "official"):
        config = configuration(formulas={"gram": formula})
        result = step(distillation(config), config)
        shares[formula] = (config.terms.gram.weight * result.terms["gram"] / result.total).item()
    assert 1e-4 < shares["corrected"] < 0.3
    assert shares["official"] < 1e-10


@pytest.mark.parametrize("gradients_wanted", [False, True])
def test_distillation_terms_pull_at_a_joint_teacher_only_where_it_is_asked_for(gradients_wanted: bool) -> None:
    config = configuration(teacher={"kind": "joint", "gradients": gradients_wanted})
    module = distillation(config)
    result = step(module, config)
    (result.total - config.terms.teacher_segmentation.weight * result.terms["teacher_segmentation"]).backward()
    assert (gradients(module.teacher) > 1e-3) == gradients_wanted
    assert gradients(module.student) > 0


def test_a_joint_teacher_learns_from_the_labels() -> None:
    config = configuration()
    module = distillation(config)
    step(module, config).terms["teacher_segmentation"].backward()
    assert gradients(module.teacher) > 0
    assert gradients(module.student) == 0


def test_an_ema_teacher_is_the_average_itself_sees_all_sequences_and_gets_no_gradient() -> None:
    config = configuration(teacher={"kind": "ema"})
    module = distillation(config)
    result = step(module, config)
    result.total.backward()
    assert not module.teacher.training
    assert gradients(module.teacher) == 0
    # the same weights: what differs is that the teacher sees more
    assert result.terms["consistency"].item() > 0


def test_the_students_background_is_learnt_from_the_student_unless_the_official_formula_is_asked_for() -> None:
    def background_gradient(formulas: dict[str, str]) -> float:
        config = configuration(formulas=formulas, terms={"adversarial": {"weight": 0}, "logit_kl": {"weight": 0}})
        module = distillation(config)
        result = step(module, config)
        (result.terms["segmentation"] + result.terms["consistency"]).backward()
        return module.student.head.bias.grad[3].abs().item()

    assert background_gradient({"segmentation": "official"}) > 0
    assert background_gradient(OFFICIAL) == 0


def test_a_larger_teacher_is_compared_through_projections_that_are_trained() -> None:
    config = configuration(
        terms={"adversarial": {"weight": 0}, "extreme_value": {"weight": 0}},
        teacher={"kind": "joint", "size": "compact"},
    )
    module = distillation(config)
    assert count_parameters(module.teacher) > count_parameters(module.student)
    step(module, config).total.backward()
    assert gradients(module.adapters) > 0


def test_terms_that_cannot_compare_these_two_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"terms\.extreme_value\.weight to 0"):
        distillation(configuration(teacher={"kind": "joint", "size": "compact"}))
    with pytest.raises(ValueError, match=r"terms\.multiscale\.weight to 0"):
        distillation(configuration(network={**SMALL, "transformer": None}))


def test_impossible_configurations_are_refused_with_what_to_do() -> None:
    with pytest.raises(ValidationError, match="needs a run"):
        configuration(teacher={"kind": "frozen"})
    with pytest.raises(ValidationError, match="background"):
        configuration(formulas={"background": "official"})
    with pytest.raises(ValidationError, match="joint teacher would learn nothing"):
        configuration(terms={"teacher_segmentation": {"weight": 0}})


def test_the_discriminator_has_the_official_size_and_takes_other_crops() -> None:
    assert count_parameters(StyleDiscriminator(128)) == 3_149_249
    assert StyleDiscriminator(8)(torch.randn(2, 8, 8, 10, 9)).shape == (2, 1, 1, 1, 1)
    with pytest.raises(ValueError, match="crops of at least 64"):
        StyleDiscriminator(8)(torch.randn(1, 8, 4, 8, 8))


def test_weights_ramp_up_as_published() -> None:
    terms = configuration(terms={"consistency": {"weight": 10, "ramp_up": 20}}).terms
    assert terms.weights(0)["consistency"] == pytest.approx(0.0674, abs=1e-4)
    assert terms.weights(20)["consistency"] == 10
    assert terms.weights(500)["consistency"] == 10


@pytest.mark.parametrize("kind", ["joint", "ema"])
def test_only_a_teacher_that_learns_from_the_labels_counts_towards_the_total_for_it(kind: str) -> None:
    config = configuration(teacher={"kind": kind})
    result = step(distillation(config), config)
    assert ("teacher_segmentation" in result.terms) == (kind == "joint")
    weights = config.terms.weights(config.optim.steps)
    total = sum(weights[name] * value.item() for name, value in result.terms.items())
    assert result.total.item() == pytest.approx(total, rel=1e-5)


def test_a_crop_that_one_of_the_networks_cannot_take_is_refused_at_once_with_one_that_fits() -> None:
    patches = {**SMALL, "transformer": {**SMALL["transformer"], "decoder": "unetr", "patch": 4}}
    terms = {"adversarial": {"weight": 0}, "extreme_value": {"weight": 0}}
    with pytest.raises(ValueError, match=r"crop is \[64, 80, 64\].*student .* of 32: set augment\.crop=\[64, 96, 64\]"):
        distillation(configuration(network=patches, terms=terms, teacher={"kind": "none"}))
    config = configuration(network=patches, terms=terms, teacher={"kind": "none"}, augment={"crop": [64, 96, 64]})
    assert distillation(config).student.multiple == 32


def test_a_crop_has_to_suit_the_larger_teacher_too() -> None:
    with torch.device("meta"):  # 154 million parameters, of which only the shapes matter here
        student, teacher = (build(SIZES[name]) for name in ("compact", "paper"))
    config = configuration(network={}, augment={"crop": [64, 80, 64]})
    with pytest.raises(ValueError, match=r"student .* of 8 and for the teacher .* of 32: set .*=\[64, 96, 64\]"):
        Distillation(student, teacher, config)


def test_logits_that_are_known_but_for_a_constant_are_not_compared_as_they_are() -> None:
    config = configuration(terms={"logit_mse": {"weight": 0.5}, "adversarial": {"weight": 0}})
    members = [new_student(config) for _ in range(2)]
    with pytest.raises(
        ValueError, match=r"several teachers are known but for a constant: set terms\.logit_mse\.weight"
    ):
        Distillation(new_student(config), Ensemble(members), config)


def test_a_frozen_teacher_is_as_large_as_its_run_says() -> None:
    with pytest.raises(ValidationError, match=r"teacher\.size with a frozen teacher"):
        configuration(teacher={"kind": "frozen", "run": "first", "size": "paper"})
