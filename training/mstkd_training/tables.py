"""Tables of an evaluation, for people: Markdown beside the published numbers, and the comparison of two runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name

from .published import METHOD, published, source
from .statistics import Difference, Estimate, Row, compare, corrected, estimate_rows, paired

METRICS = {
    "dice": ("Dice", 3),
    "hd95_official": ("HD95 in mm, directions pooled, 0 if a mask is empty (as published)", 1),
    "hd95_brats": ("HD95 in mm, larger direction, 374 if one mask is empty (BraTS)", 1),
    "hd95_excluded": ("HD95 in mm, larger direction, without empty masks", 1),
    "surface_dice_1mm": ("surface Dice (Nikolov et al., arXiv:1809.04430), tolerance 1 mm", 3),
    "surface_dice_2mm": ("surface Dice (Nikolov et al., arXiv:1809.04430), tolerance 2 mm", 3),
    "lesion_dice": ("lesion-wise Dice (BraTS 2023)", 3),
    "lesion_hd95": ("lesion-wise HD95 in mm (BraTS 2023)", 1),
    "lesions_missed": ("missed lesions per study", 2),
    "lesions_false": ("false lesions per study", 2),
    "error_ml": ("volume found minus true, ml", 1),
    "absolute_error_ml": ("volume error, ml", 1),
    "error_percent": ("volume found minus true, % of true", 0),
}
"""Metric -> how it is called, and decimals."""
PRIMARY = "dice"
"""What a comparison is about; the other metrics tell more about it."""
FEW = 10  # patients; below, resampling them cannot show more than how they differ among themselves
NAMES = tuple(subset_name(subset) for subset in SUBSETS)
ALL = f"mean of {len(SUBSETS)}"


def table(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Mean Dice over the studies: subset -> region -> Dice, in the order of SUBSETS; goes into model.json."""
    return {
        name: {
            region: round(float(np.mean([row[f"{region}_dice"] for row in of(rows, name)])), 3) for region in REGIONS
        }
        for name in NAMES
    }


def of(rows: Sequence[Row], subset: str) -> list[Row]:
    """The rows of one subset."""
    return [row for row in rows if row["subset"] == subset]


def document(name: str, rows: Sequence[Row], data: str) -> str:
    """A run's evaluation as Markdown; `data` names the published tables to put beside it."""
    studies, patients = (len({row[key] for row in rows}) for key in ("study", "patient"))
    return f"""# {name}

{studies} test studies of {patients} patients, all {len(SUBSETS)} subsets. Brackets: 95 % bootstrap interval over
patients. Published: {data}, {source()}. Those are other
test studies: the published numbers are for orientation, not a like-for-like comparison.{_caution(patients)}

{_refusals(rows)}
## Dice

{_by_subset(rows, data)}
## Beside published methods, mean of the {len(SUBSETS)} subsets

{_beside(name, rows, data)}
## All metrics, mean of the {len(SUBSETS)} subsets

{_all_metrics(rows)}"""


def comparison(first: str, second: str, first_rows: Sequence[Row], second_rows: Sequence[Row]) -> tuple[str, dict]:
    """Second run minus first run, as Markdown and as values: metric -> region -> Difference, and Dice by subset.

    Raises:
        ValueError: the runs were not measured on the same rows.
    """
    pairs = paired(first_rows, second_rows)
    overall = {
        metric: corrected({region: compare(pairs, f"{region}_{metric}") for region in REGIONS}) for metric in METRICS
    }
    family = corrected(
        {
            (name, region): compare([pair for pair in pairs if pair[0]["subset"] == name], f"{region}_{PRIMARY}")
            for name in NAMES
            for region in REGIONS
        }
    )
    by_subset = {name: {region: family[name, region] for region in REGIONS} for name in NAMES}
    studies, patients = (len({row[key] for row in first_rows}) for key in ("study", "patient"))
    lines = [
        f"# {second} minus {first}",
        "",
        f"{studies} test studies of {patients} patients, {len(pairs)} pairs. Brackets: 95 % bootstrap interval of the",
        "mean difference over patients; p: Wilcoxon signed-rank test of the patients' mean differences; p Holm: that,",
        f"corrected for the {len(REGIONS)} regions of a metric, by subset for all {len(family)} rows. The primary",
        f"metric is {METRICS[PRIMARY][0]}, mean of {len(SUBSETS)} subsets; metrics are not corrected for each other."
        + _caution(patients),
        f"Refused, and counted as empty masks: {_refused(first_rows)} of {first}, {_refused(second_rows)} of {second}.",
        "",
        f"## Mean of the {len(SUBSETS)} subsets",
        "",
        *_head("metric", "region", first, second, "difference", "p", "p Holm"),
    ]
    for metric, (label, digits) in METRICS.items():
        for region, one in overall[metric].items():
            lines.append(_line(label, region, *_difference_cells(one, digits)))
    lines += ["", "## Dice by subset", "", *_head("subset", "region", first, second, "difference", "p", "p Holm")]
    for name, regions in by_subset.items():
        lines += [_line(name, region, *_difference_cells(one, 3)) for region, one in regions.items()]
    return "\n".join(lines) + "\n", {"overall": overall, "dice": by_subset}


def _caution(patients: int) -> str:
    return f" With {patients} patients an interval is hardly more than their range." if patients < FEW else ""


def _refused(rows: Sequence[Row]) -> int:
    return sum(row["refused"] is not None for row in rows)


def _refusals(rows: Sequence[Row]) -> str:
    """How many studies and subsets got no answer, and why."""
    told = f"Refused by the software, and counted as empty masks: {_refused(rows)} of {len(rows)}.\n"
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row["refused"] is not None:
            reasons.setdefault(row["refused"], []).append(f"{row['study']} {row['subset']}")
    return told + "".join(f"* {', '.join(which)}: {reason}\n" for reason, which in reasons.items())


def _by_subset(rows: Sequence[Row], data: str) -> str:
    theirs = published(data, "dice")[METHOD]
    lines = _head("subset", *REGIONS, *(f"{METHOD} {region}" for region in REGIONS), "refused")
    for name in NAMES:
        mine = [_cell(estimate_rows(of(rows, name), f"{region}_dice"), 3) for region in REGIONS]
        beside = (f"{theirs[region].subsets[name]:.3f}" for region in REGIONS)
        lines.append(_line(name, *mine, *beside, str(_refused(of(rows, name)))))
    mine = [_cell(estimate_rows(rows, f"{region}_dice"), 3) for region in REGIONS]
    beside = (f"{theirs[region].average:.3f}" for region in REGIONS)
    lines.append(_line(*(f"**{cell}**" for cell in (ALL, *mine, *beside, _refused(rows)))))
    return "\n".join(lines) + "\n"


def _beside(name: str, rows: Sequence[Row], data: str) -> str:
    columns = [("dice", "dice", "Dice", 3), ("hd95", "hd95_official", "HD95", 1)]
    lines = _head("method", *(f"{label} {region}" for _, _, label, _ in columns for region in REGIONS))
    for method in published(data, "dice"):
        cells = [
            f"{published(data, metric)[method][region].average:.{digits}f}"
            for metric, _, _, digits in columns
            for region in REGIONS
        ]
        lines.append(_line(f"{method} (published)", *cells))
    mine = [
        f"**{estimate_rows(rows, f'{region}_{metric}').mean:.{digits}f}**"
        for _, metric, _, digits in columns
        for region in REGIONS
    ]
    lines.append(_line(f"**{name}**", *mine))
    return "\n".join(lines) + "\n"


def _all_metrics(rows: Sequence[Row]) -> str:
    lines = _head("metric", *REGIONS)
    for metric, (label, digits) in METRICS.items():
        cells = []
        for region in REGIONS:
            left_out = sum(row[f"{region}_{metric}"] is None for row in rows)
            note = f", {left_out} of {len(rows)} left out" if left_out else ""
            cells.append(_cell(estimate_rows(rows, f"{region}_{metric}"), digits) + note)
        lines.append(_line(label, *cells))
    return "\n".join(lines) + "\n"


def _cell(one: Estimate | None, digits: int) -> str:
    return f"{one.mean:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]" if one else "none"


def _difference_cells(one: Difference | None, digits: int) -> tuple[str, str, str, str, str]:
    if one is None:
        return ("none",) * 5
    change = one.difference
    interval = f"{change.mean:+.{digits}f} [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
    return f"{one.first:.{digits}f}", f"{one.second:.{digits}f}", interval, f"{one.p_value:.2g}", f"{one.p_holm:.2g}"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def _head(*names: str) -> list[str]:
    return [_line(*names), "|" + "---|" * len(names)]
