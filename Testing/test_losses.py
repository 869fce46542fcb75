"""Every term of the objective against a computation in NumPy that shares no code with it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training.losses import features, logits, segmentation, style

RNG = np.random.default_rng(0)
TEACHER, STUDENT = RNG.normal(size=(2, 2, 4, 3, 4, 5))
LABELS = RNG.integers(0, 4, size=(2, 3, 4, 5))
ONE_HOT = np.stack([k == LABELS for k in range(4)], axis=1).astype(float)
FEATURES_F, FEATURES_M = RNG.normal(size=(2, 3, 2, 6, 2, 3, 4))  # three of (B, C, z, y, x) per network
MAPS_F, MAPS_M = RNG.dirichlet(np.ones(7), size=(2, 4, 2, 3, 7))  # four attention maps (B, heads, N, N) per network


def tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array)


def softmax(values: np.ndarray) -> np.ndarray:
    e = np.exp(values)
    return e / e.sum(axis=1, keepdims=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def numpy_relative(f: np.ndarray, m: np.ndarray) -> float:
    return np.mean([((m[b] - f[b]) ** 2).sum() / (f[b] ** 2).sum() for b in range(len(f))])


def official_dice(p: np.ndarray, y: np.ndarray) -> float:
    return 1 - 2 * (p * y).sum() / ((p**2).sum() + (y**2).sum() + 1e-7)


def test_segmentation_is_cross_entropy_plus_region_dice_of_each_sample() -> None:
    p = softmax(STUDENT)
    cross_entropy = -(ONE_HOT * np.log(p)).sum(axis=1).mean()
    dice = []
    for sample in range(2):
        for members in ([0, 1, 2], [0, 2], [2]):
            a, b = p[sample, members].sum(axis=0), ONE_HOT[sample, members].sum(axis=0)
            dice.append(1 - (2 * (a * b).sum() + 1) / (a.sum() + b.sum() + 1))
    value = segmentation.cross_entropy_and_dice(tensor(STUDENT), tensor(LABELS)).item()
    assert value == pytest.approx(cross_entropy + np.mean(dice), rel=1e-5)


@pytest.mark.parametrize("background", ["the student's", "the teacher's"])
def test_official_segmentation_is_four_dice_of_sigmoids_and_the_background_can_be_the_teachers(background: str) -> None:
    p, q = sigmoid(STUDENT), sigmoid(TEACHER)
    last = p[:, 3] if background == "the student's" else q[:, 3]
    wanted = sum(official_dice(p[:, c], ONE_HOT[:, c]) for c in range(3)) + official_dice(last, ONE_HOT[:, 3])
    other = None if background == "the student's" else tensor(TEACHER)
    assert segmentation.official(tensor(STUDENT), tensor(LABELS), other).item() == pytest.approx(wanted, rel=1e-5)


def test_an_absent_class_pushes_false_positives_down_unlike_the_official_dice() -> None:
    nothing = torch.full((1, 4, 4, 4), 3)
    corrected, official = (torch.zeros(1, 4, 4, 4, 4, requires_grad=True) for _ in range(2))
    segmentation.cross_entropy_and_dice(corrected, nothing).backward()
    segmentation.official(official, nothing).backward()
    assert (corrected.grad[:, :3] > 0).all()
    assert (corrected.grad[:, 3] < 0).all()
    assert official.grad[:, :3].abs().max() < 1e-7


def test_consistency_is_the_squared_difference_of_probabilities_summed_over_classes() -> None:
    wanted = sum(((softmax(TEACHER) - softmax(STUDENT))[:, c] ** 2).mean() for c in range(4))
    assert logits.consistency(tensor(TEACHER), tensor(STUDENT)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("teacher_background", [True, False])
def test_official_consistency_replaces_background_by_a_dice_of_the_teacher(teacher_background: bool) -> None:
    p, q = sigmoid(TEACHER), sigmoid(STUDENT)
    squared = [((p - q)[:, c] ** 2).mean() for c in range(4)]
    wanted = sum(squared[:3]) + (official_dice(p[:, 3], ONE_HOT[:, 3]) if teacher_background else squared[3])
    value = logits.official_consistency(tensor(TEACHER), tensor(STUDENT), tensor(LABELS), teacher_background)
    assert value.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("axis", [1, -3])
def test_logit_distillation_is_a_kl_of_standardised_logits_times_the_squared_temperature(axis: int) -> None:
    def z(values: np.ndarray) -> np.ndarray:
        return (values - values.mean(axis, keepdims=True)) / (values.std(axis, ddof=1, keepdims=True) + 1e-7)

    temperature = 7.0
    p, q = softmax(z(TEACHER) / temperature), softmax(z(STUDENT) / temperature)
    wanted = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean() / 4
    value = logits.standardised_kl(tensor(TEACHER), tensor(STUDENT), temperature, axis).item()
    assert value == pytest.approx(wanted, rel=1e-4)


def test_scaling_a_networks_logits_does_not_change_what_logit_distillation_asks_of_it() -> None:
    value = logits.standardised_kl(tensor(TEACHER), tensor(3 * TEACHER + 5), 7.0).item()
    assert value == pytest.approx(0, abs=1e-6)


def test_logit_mean_square() -> None:
    wanted = ((TEACHER - STUDENT) ** 2).mean()
    assert logits.mean_square(tensor(TEACHER), tensor(STUDENT)).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("formula", ["corrected", "official"])
def test_content_and_multiscale_compare_features_with_the_teachers_as_the_unit_unless_official(formula: str) -> None:
    if formula == "official":
        apart = [((f - m) ** 2).mean() for f, m in zip(FEATURES_F, FEATURES_M)]
        content, multiscale = features.official_content, features.official_multiscale
    else:
        apart = [numpy_relative(f, m) for f, m in zip(FEATURES_F, FEATURES_M)]
        content, multiscale = features.content, features.multiscale
    assert content(tensor(FEATURES_F[0]), tensor(FEATURES_M[0])).item() == pytest.approx(apart[0], rel=1e-5)
    value = multiscale(list(map(tensor, FEATURES_F)), list(map(tensor, FEATURES_M))).item()
    assert value == pytest.approx(sum(apart), rel=1e-5)


def test_the_unit_of_a_relative_difference_does_not_pull_at_the_teacher() -> None:
    teacher = tensor(FEATURES_F[0]).requires_grad_()
    features.relative(teacher, tensor(FEATURES_M[0])).backward()
    size = (FEATURES_F[0] ** 2).sum(axis=(1, 2, 3, 4), keepdims=True)
    wanted = 2 * (FEATURES_F[0] - FEATURES_M[0]) / size / len(size)
    assert np.allclose(teacher.grad.numpy(), wanted, rtol=1e-4)


@pytest.mark.parametrize("formula", ["corrected", "official"])
def test_extreme_value_distillation_weighs_each_map_by_the_extremes_over_the_depths(formula: str) -> None:
    wanted = 0.0
    for k in range(4):
        for extreme in (np.max, np.min, np.mean):
            f, m = MAPS_F[k] * extreme(MAPS_F, axis=0), MAPS_M[k] * extreme(MAPS_M, axis=0)
            if formula == "official":
                wanted += 1e8 * ((f - m) ** 2).mean()
            else:
                wanted += numpy_relative(f, m)
    term = features.extreme_value if formula == "corrected" else features.official_extreme_value
    assert term(list(map(tensor, MAPS_F)), list(map(tensor, MAPS_M))).item() == pytest.approx(wanted, rel=1e-4)


def test_extreme_value_distillation_means_the_same_for_any_number_of_tokens_unlike_the_official() -> None:
    def value(term: Callable, tokens: int) -> float:
        rng = np.random.default_rng(1)
        f, m = (list(map(tensor, rng.dirichlet(np.full(tokens, 5.0), size=(4, 1, 2, tokens)))) for _ in range(2))
        return term(f, m).item()

    assert value(features.extreme_value, 240) == pytest.approx(value(features.extreme_value, 120), rel=0.1)
    official = features.official_extreme_value
    assert value(official, 240) < 0.1 * value(official, 120)


def numpy_gram(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    voxels = one.shape[2] * one.shape[3] * one.shape[4]
    return np.einsum("bczyx,bdzyx->bcd", one, other) / voxels


def test_gram_matching_compares_the_stages_in_a_cycle() -> None:
    wanted = 0.0
    for i, j in ((0, 2), (1, 0), (2, 1)):
        f, m = numpy_gram(FEATURES_F[i], FEATURES_F[j]), numpy_gram(FEATURES_M[i], FEATURES_M[j])
        wanted += numpy_relative(f, m)
    value = style.gram(list(map(tensor, FEATURES_F)), list(map(tensor, FEATURES_M))).item()
    assert value == pytest.approx(wanted, rel=1e-5)


def test_official_gram_matching_is_divided_until_nothing_is_left() -> None:
    batch, channels, _, height, width = FEATURES_F[0].shape
    wanted = 0.0
    for i, j in ((0, 2), (1, 0), (2, 1)):
        g = [numpy_gram(f[i], f[j]) / (batch * channels) for f in (FEATURES_F, FEATURES_M)]
        wanted += 1e-4 * ((g[0] - g[1]) ** 2).sum() / (4 * channels**2 * (width * height) ** 2)
    value = style.official_gram(list(map(tensor, FEATURES_F)), list(map(tensor, FEATURES_M))).item()
    assert value == pytest.approx(wanted, rel=1e-4)
    assert value < 1e-8


@pytest.mark.parametrize("term", [style.gram, features.multiscale])
def test_comparing_features_does_not_grow_with_the_features(term: Callable) -> None:
    f, m = list(map(tensor, FEATURES_F)), list(map(tensor, FEATURES_M))
    grown = term([10 * stage for stage in f], [10 * stage for stage in m])
    assert torch.isclose(grown, term(f, m))


def test_gram_does_not_depend_on_how_large_the_crop_is() -> None:
    one = tensor(FEATURES_F[0])
    assert torch.allclose(
        style.cross_gram(one, one), style.cross_gram(one.repeat(1, 1, 2, 1, 1), one.repeat(1, 1, 2, 1, 1))
    )


def test_discriminator_and_student_pull_the_verdict_in_opposite_directions() -> None:
    verdict = np.array([0.3, -1.2])
    softplus = np.log1p(np.exp(verdict))  # -log(1 - sigmoid)
    assert style.fooled(tensor(verdict)).item() == pytest.approx(softplus.mean(), rel=1e-5)
    value = style.discriminated(tensor(verdict), tensor(verdict)).item()
    assert value == pytest.approx(softplus.mean() + (softplus - verdict).mean(), rel=1e-5)


def losses() -> dict[str, Callable[[], torch.Tensor]]:
    """Every term, of float32 tensors as the networks' heads give them."""
    one, other = (torch.from_numpy(array).float() for array in (TEACHER, STUDENT))
    labels = torch.from_numpy(LABELS)
    stages = [list(torch.from_numpy(array).float()) for array in (FEATURES_F, FEATURES_M)]
    maps = [list(torch.from_numpy(array).float()) for array in (MAPS_F, MAPS_M)]
    verdict = torch.tensor([0.3, -1.2])
    return {
        "segmentation": lambda: segmentation.cross_entropy_and_dice(other, labels),
        "official segmentation": lambda: segmentation.official(other, labels, one),
        "consistency": lambda: logits.consistency(one, other),
        "official consistency": lambda: logits.official_consistency(one, other, labels, True),
        "standardisation": lambda: logits.standardised(other, 1),
        "logit_kl": lambda: logits.standardised_kl(one, other, 7.0),
        "logit_mse": lambda: logits.mean_square(one, other),
        "content": lambda: features.content(stages[0][0], stages[1][0]),
        "official content": lambda: features.official_content(stages[0][0], stages[1][0]),
        "multiscale": lambda: features.multiscale(*stages),
        "official multiscale": lambda: features.official_multiscale(*stages),
        "extreme_value": lambda: features.extreme_value(*maps),
        "official extreme_value": lambda: features.official_extreme_value(*maps),
        "cross gram": lambda: style.cross_gram(stages[0][0], stages[0][1]),
        "gram": lambda: style.gram(*stages),
        "official gram": lambda: style.official_gram(*stages),
        "fooled": lambda: style.fooled(verdict),
        "discriminated": lambda: style.discriminated(verdict, verdict + 1),
    }


@pytest.mark.parametrize("term", losses())
def test_autocast_takes_no_digits_from_a_term(term: str) -> None:
    wanted = losses()[term]()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = losses()[term]()
    assert value.dtype == torch.float32
    assert torch.equal(value, wanted)
