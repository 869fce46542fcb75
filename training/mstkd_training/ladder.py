"""Recipes below each other, measured on the same patients by the same folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SEQUENCES, SUBSETS, subset_name

from .statistics import Row, compare, corrected, estimate_rows, paired
from .tables import NAMES, of

PLAIN = "not calibrated"
FULL = subset_name(SEQUENCES)
SINGLE = tuple(subset_name(subset) for subset in SUBSETS if len(subset) == 1)


def comparable(records: Mapping[str, Mapping[str, Any]], newest: str) -> dict[str, Sequence[Row]]:
    """Records of cross-validations -> rows that can be compared, by name of recipe.

    Calibrated, and the newest also without, where all were measured on the same studies. Otherwise none is calibrated,
    because they were on different patients, and the studies that some of them lack are left out.

    Raises:
        ValueError: they share no study.
    """
    studies = {name: {row["study"] for row in record["rows"]} for name, record in records.items()}
    shared = set.intersection(*studies.values())
    if not shared:
        raise ValueError(
            f"no study was measured by all of {', '.join(records)}: choose runs whose folds share patients"
        )
    if all(found == shared for found in studies.values()):
        recipes = {name: record["rows"] for name, record in records.items()}
        return {**recipes, f"{newest}, {PLAIN}": records[newest]["rows_without_calibration"]}
    return {
        f"{name}, {PLAIN}": [row for row in record["rows_without_calibration"] if row["study"] in shared]
        for name, record in records.items()
    }


def unlike(records: Mapping[str, Mapping[str, Any]], newest: str) -> list[str]:
    """What others than the newest were measured otherwise: how the network was shown a study (format), mirror, tile."""
    own = records[newest]
    return [
        f"{key} is {record.get(key)} of {name}, {own.get(key)} of {newest}"
        for name, record in records.items()
        for key in ("format", "mirror", "tile")
        if record.get(key) != own.get(key)
    ]


def ladder(recipes: Mapping[str, Sequence[Row]]) -> str:
    """Name -> rows of a cross-validation, as Markdown: means with intervals, and differences to the first recipe.

    Raises:
        ValueError: they were not measured on the same studies and subsets.
    """
    first, *others = recipes
    patients = len({row["patient"] for row in recipes[first]})
    lines = [
        f"Dice of {patients} patients, each tested by weights that have not learnt from them; brackets: 95 % bootstrap",
        "interval over patients.",
        "",
        *_means(recipes),
    ]
    if others:
        lines += [
            "",
            f"Minus {first}: difference [95 % interval], p of the Wilcoxon signed-rank test over patients, corrected",
            "for three regions (Holm), not for the number of recipes.",
            "",
            f"| recipe | {_head(f'mean of {len(NAMES)}')} |",
            "|---" * (len(REGIONS) + 1) + "|",
        ]
    for name in others:
        pairs = paired(recipes[first], recipes[name])
        found = corrected({region: compare(pairs, f"{region}_dice") for region in REGIONS})
        cells = [
            f"{one.difference.mean:+.3f} [{one.difference.low:+.3f}, {one.difference.high:+.3f}], p {one.p_holm:.2g}"
            for one in found.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def by_heart(new: Sequence[Row], learnt: Sequence[Row]) -> str:
    """Rows of weights that have not learnt from the patients, and of weights that have, as Markdown."""
    lines = [
        "Dice of whole studies, not calibrated, by weights that have learnt from these patients and by others;",
        "brackets: 95 % bootstrap interval over patients.",
        "",
        *_means({"learnt from": learnt, "new": new}),
    ]
    return "\n".join(lines) + "\n"


def _means(recipes: Mapping[str, Sequence[Row]]) -> list[str]:
    lines = [
        f"| recipe | {_head(f'mean of {len(NAMES)}')} | {_head('all four')} | WT, worst single sequence |",
        "|---" * (2 * len(REGIONS) + 2) + "|",
    ]
    for name, rows in recipes.items():
        cells = [_cell(rows, region) for region in REGIONS] + [_cell(of(rows, FULL), region) for region in REGIONS]
        single = {sequence: estimate_rows(of(rows, sequence), "WT_dice").mean for sequence in SINGLE}
        worst = min(single, key=single.get)
        lines.append(f"| {name} | {' | '.join(cells)} | {single[worst]:.3f} ({worst}) |")
    return lines


def _head(what: str) -> str:
    return " | ".join(f"{region}, {what}" for region in REGIONS)


def _cell(rows: Sequence[Row], region: str) -> str:
    one = estimate_rows(rows, f"{region}_dice")
    return f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"
