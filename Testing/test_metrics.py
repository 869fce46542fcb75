"""Metrics against definitions written out, MONAI's own functions and scipy; lesions and statistics against cases whose
answer is known."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import wilcoxon

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from mstkd_training import published as published_module
from mstkd_training.lesions import lesion_scores
from mstkd_training.metrics import PENALTY, crop, region_scores
from mstkd_training.published import published
from mstkd_training.statistics import compare, corrected, estimate, holm, paired
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from scipy import ndimage

SPACING = (3.0, 1.0, 0.5)


def empty(side: int = 40) -> np.ndarray:
    return np.zeros((side,) * 3, dtype=bool)


def box(start: tuple[int, int, int], size: tuple[int, int, int], side: int = 40) -> np.ndarray:
    mask = empty(side)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def blobs(seed: int) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(24, 28, 32)), 3)
    return noise > 0.6 * noise.max()


def surface_points(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * SPACING


def directed(found: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of surface points, nothing clever."""
    a, b = surface_points(found), surface_points(truth)
    table = np.linalg.norm(a[:, None] - b[None], axis=-1)
    return table.min(axis=1), table.min(axis=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_distances_in_mm_are_those_of_all_pairs_of_surface_points(seed: int) -> None:
    found, truth = blobs(seed), blobs(seed + 10)
    there, back = directed(found, truth)
    scores = region_scores(found, truth, SPACING)
    larger = max(np.percentile(there, 95), np.percentile(back, 95))
    assert scores["hd95_brats"] == scores["hd95_excluded"] == pytest.approx(larger, rel=1e-5)
    pooled = np.percentile(np.concatenate([there, back]), 95)
    assert scores["hd95_official"] == pytest.approx(pooled, rel=1e-5)
    assert scores["hd95_official"] < scores["hd95_brats"]
    for tolerance in (1, 2):
        share = np.mean(np.concatenate([there, back]) <= tolerance)
        assert scores[f"surface_dice_{tolerance}mm"] == pytest.approx(share, abs=1e-6)


def test_distances_are_those_of_monai_on_the_whole_array() -> None:
    found, truth = blobs(3), blobs(4)
    scores = region_scores(found, truth, SPACING)
    one_hot = [mask[None, None].astype(np.float32) for mask in (found, truth)]
    hausdorff = compute_hausdorff_distance(*one_hot, include_background=True, percentile=95, spacing=list(SPACING))
    assert scores["hd95_brats"] == pytest.approx(hausdorff.item(), rel=1e-5)
    surface = compute_surface_dice(
        *map(torch.from_numpy, one_hot), class_thresholds=[2.0], include_background=True, spacing=list(SPACING)
    )
    assert scores["surface_dice_2mm"] == pytest.approx(surface.item(), rel=1e-5)


def test_dice_and_volumes_are_counts_of_voxels() -> None:
    truth, found = box((5, 5, 5), (10, 10, 10)), box((10, 5, 5), (10, 10, 10))
    scores = region_scores(found | box((30, 30, 30), (1, 1, 10)), truth, SPACING)
    assert scores["dice"] == pytest.approx(2 * 500 / (1000 + 1010))
    assert scores["true_ml"] == pytest.approx(1000 * math.prod(SPACING) / 1000)
    assert scores["error_ml"] == pytest.approx(10 * math.prod(SPACING) / 1000)
    assert scores["error_percent"] == pytest.approx(1.0)


def test_the_three_conventions_differ_exactly_where_a_mask_is_empty() -> None:
    both = region_scores(empty(), empty(), SPACING)
    missed = region_scores(empty(), box((5, 5, 5), (4, 4, 4)), SPACING)
    invented = region_scores(box((5, 5, 5), (4, 4, 4)), empty(), SPACING)
    assert [both[f"hd95_{name}"] for name in ("official", "brats", "excluded")] == [0, 0, None]
    for one in (missed, invented):
        assert [one[f"hd95_{name}"] for name in ("official", "brats", "excluded")] == [0, PENALTY, None]
        assert one["dice"] == one["surface_dice_1mm"] == one["surface_dice_2mm"] == 0
    assert both["dice"] == both["surface_dice_1mm"] == both["surface_dice_2mm"] == 1
    assert missed["error_percent"] == -100
    assert invented["error_percent"] is None


def test_cropping_changes_no_score_and_refuses_different_grids() -> None:
    found, truth = box((0, 5, 30), (9, 9, 10)), box((2, 5, 28), (9, 9, 10))
    wide = [np.pad(mask, 7) for mask in (found, truth)]
    assert region_scores(found, truth, SPACING) == region_scores(*wide, SPACING)
    assert lesion_scores(found, truth, SPACING) == lesion_scores(*wide, SPACING)
    with pytest.raises(ValueError, match="same grid"):
        crop(empty(4), empty(5), 1)


def test_a_missed_and_a_false_lesion_cost_as_much_as_the_tumour_itself() -> None:
    tumour = box((2, 2, 2), (8, 8, 8))
    truth = tumour | box((30, 30, 30), (5, 5, 5))
    found = tumour | box((2, 30, 30), (1, 1, 1))
    scores = lesion_scores(found, truth, (1, 1, 1))
    assert scores["lesion_dice"] == pytest.approx(1 / 3)
    assert scores["lesion_hd95"] == pytest.approx(2 * PENALTY / 3)
    assert (scores["lesions"], scores["lesions_missed"], scores["lesions_false"]) == (2, 1, 1)


@pytest.mark.parametrize(("gap", "lesions"), [(6, 1), (7, 2)])
def test_fragments_whose_dilations_touch_are_one_lesion(gap: int, lesions: int) -> None:
    truth = box((2, 2, 2), (6, 6, 6)) | box((2, 2, 8 + gap), (6, 6, 6))
    assert lesion_scores(truth, truth, (1, 1, 1))["lesions"] == lesions


@pytest.mark.parametrize(("size", "dice"), [((5, 5, 2), 1.0), ((1, 3, 17), 0.5)])
def test_lesions_of_up_to_fifty_cubic_millimetres_are_not_missed(size: tuple[int, int, int], dice: float) -> None:
    tumour = box((2, 2, 2), (8, 8, 8))
    assert lesion_scores(tumour, tumour | box((30, 20, 20), size), (1, 1, 1))["lesion_dice"] == dice


def test_what_is_found_at_an_unscored_lesion_is_not_false() -> None:
    tumour, small = box((2, 2, 2), (8, 8, 8)), box((30, 30, 30), (3, 3, 3))
    scores = lesion_scores(tumour | small, tumour | small, (1, 1, 1))
    assert (scores["lesions"], scores["lesions_false"], scores["lesion_dice"]) == (1, 0, 1.0)


def test_a_component_within_reach_of_two_lesions_is_compared_with_both() -> None:
    left, right = box((10, 10, 2), (6, 6, 6)), box((10, 10, 20), (6, 6, 6))
    bridge = left | right | box((12, 12, 8), (1, 1, 12))
    scores = lesion_scores(bridge, left | right, (1, 1, 1))
    assert scores["lesions"] == 2
    assert scores["lesion_dice"] == pytest.approx(2 * 216 / (216 + 444))


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    assert lesion_scores(empty(), empty(), (1, 1, 1)) == {
        "lesion_dice": 1.0, "lesion_hd95": 0.0, "lesions": 0, "lesions_missed": 0, "lesions_false": 0,
    }  # fmt: skip


def test_the_interval_of_a_mean_is_that_of_normal_theory_for_many_cases() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.2, size=400)
    result = estimate(values.tolist(), [str(n) for n in range(400)])
    half = 1.96 * values.std() / 20
    assert result.mean == pytest.approx(values.mean())
    assert (result.low, result.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)
    assert estimate(values.tolist(), [str(n) for n in range(400)]) == result


def test_repeating_the_studies_of_a_patient_makes_no_interval_narrower() -> None:
    values, patients = [0.2, 0.5, 0.9, 0.4], list("abcd")
    once, often = estimate(values, patients), estimate(values * 15, patients * 15)
    assert (often.low, often.high, often.patients) == pytest.approx((once.low, once.high, 4))


def rows(dice: dict[str, list[float | None]]) -> list[dict]:
    """Patient -> one Dice per subset."""
    return [
        {"study": name, "patient": name, "subset": subset_name(SUBSETS[number]), "WT_dice": value}
        | {f"{region}_true_ml": 1.0 for region in REGIONS}
        for name, values in dice.items()
        for number, value in enumerate(values)
    ]


def test_two_runs_are_compared_patient_by_patient() -> None:
    rng = np.random.default_rng(0)
    first = {f"p{n}": rng.uniform(0.3, 0.9, size=3).tolist() for n in range(12)}
    second = {name: [value + rng.normal(0.05, 0.05) for value in values] for name, values in first.items()}
    result = compare(paired(rows(first), rows(dict(reversed(second.items())))), "WT_dice")
    means = [np.mean(second[name]) - np.mean(first[name]) for name in first]
    assert result.difference.mean == pytest.approx(np.mean(means))
    assert result.difference.patients == 12
    assert result.p_value == pytest.approx(wilcoxon(means).pvalue)
    assert result.difference.low < np.mean(means) < result.difference.high


def test_holm_corrects_like_the_procedure_step_by_step() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        p_values = rng.uniform(0, 0.1, size=7)
        adjusted = holm(p_values.tolist())
        for level in (0.01, 0.05, 0.2):
            rejected, ordered = set(), np.argsort(p_values)
            for rank, index in enumerate(ordered):  # as Holm describes it: stop at the first that does not hold
                if p_values[index] > level / (7 - rank):
                    break
                rejected.add(index)
            assert {k for k, value in enumerate(adjusted) if value <= level} == rejected
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_differences_that_do_not_exist_are_not_corrected_for() -> None:
    same = rows({"a": [0.5, 0.6], "b": [0.7, None]})
    one = compare(paired(same, same), "WT_dice")
    family = corrected({"WT": replace(one, p_value=0.02), "TC": None, "ET": replace(one, p_value=0.03)})
    assert family["TC"] is None
    assert [family[region].p_holm for region in ("WT", "ET")] == pytest.approx([0.04, 0.04])


def test_a_run_does_not_differ_from_itself() -> None:
    same = rows({"a": [0.5, 0.6], "b": [0.7, None]})
    result = compare(paired(same, same), "WT_dice")
    assert (result.difference.mean, result.difference.low, result.difference.high, result.p_value) == (0, 0, 0, 1)
    assert result.first == pytest.approx(0.6)  # the row that the metric leaves out is left out


def test_runs_on_different_cases_or_truths_are_not_compared() -> None:
    one = rows({"a": [0.5], "b": [0.6]})
    with pytest.raises(ValueError, match="study b with FLAIR"):
        paired(one, rows({"a": [0.5]}))
    with pytest.raises(ValueError, match=r"TC_true_ml is 1\.0 in the first run and 2\.0"):
        paired(one, [row | {"TC_true_ml": 2.0} for row in one])
    with pytest.raises(ValueError, match="repeat a study"):
        paired(one, [*one, one[0]])


def test_published_averages_are_the_means_of_their_rows_but_for_the_five_noted() -> None:
    content = yaml.safe_load(Path(published_module.__file__).with_name("published.yaml").read_text())
    assert content["subsets"] == [subset_name(subset) for subset in SUBSETS]
    off = [
        (data, metric, region, method)
        for data, metrics in content["tables"].items()
        for metric, regions in metrics.items()
        for region, methods in regions.items()
        for method, row in methods.items()
        if abs(np.mean(row["subsets"]) - row["average"]) > 0.11
    ]
    noted = [tuple(one[key] for key in ("data", "metric", "region", "method")) for one in content["mismatches"]]
    assert sorted(off) == sorted(noted)
    assert len(noted) == 5


def test_published_numbers_are_those_of_the_paper() -> None:
    dice, hd95 = published("BraTS 2024", "dice"), published("FeTS 2024", "hd95")
    assert [dice["MST-KDNet"][region].average for region in REGIONS] == [0.818, 0.595, 0.598]
    assert dice["MST-KDNet"]["ET"].subsets["T1ce"] == 0.686
    assert dice["RA-HVED"]["ET"].subsets["T1"] == 0.0924
    assert hd95["SMUNet"]["TC"].subsets["FLAIR+T1+T1ce+T2"] == 3.6
    assert len(dice) == len(hd95) == 7
