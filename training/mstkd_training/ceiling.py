"""What the working grid alone costs: the Dice of a student that would answer the labels it learns from exactly."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from MSTKDSegmenterLib.engine.harmonise import to_reference
from MSTKDSegmenterLib.engine.regions import CLASSES, REGIONS, masks, region_probabilities

from .calibration import HALF
from .cases import Case
from .config import DataConfig
from .evaluate import true_masks
from .metrics import dice
from .prepare import on_working_grid
from .rows import Row
from .statistics import estimate_rows


def ceiling(cases: Iterable[Case], data: DataConfig) -> list[Row]:
    """Each study's truth, brought to the working grid as for training and back as what the network says.

    The network may do a little better than this in the end, as its probabilities may be between 0 and 1 at a border,
    where these labels are certain.

    Returns:
        for each study its name, patient and, for each region, Dice on the native grid and the true volume in ml.

    Raises:
        UnusableInput: the engine refuses a study.
    """
    rows: list[Row] = []
    for case in cases:
        harmonised, learnt = on_working_grid(case, data)
        certain = (learnt == np.arange(len(CLASSES))[:, None, None, None]).astype(np.float32)
        back = to_reference(region_probabilities(certain), harmonised)
        found = masks(back, dict.fromkeys(REGIONS, HALF))
        truth, spacing = true_masks(case, data.convention)
        row: Row = {"study": case.name, "patient": case.patient}
        for region in REGIONS:
            row[f"{region}_dice"] = dice(found[region], truth[region])
            row[f"{region}_true_ml"] = truth[region].sum().item() * np.prod(spacing).item() / 1000
        rows.append(row)
    return rows


def document(rows: Sequence[Row], spacing: float) -> str:
    """As a Markdown table, the mean of all studies with its 95 % bootstrap interval over patients last."""
    lines = [f"| labels at {spacing:g} mm | {' | '.join(REGIONS)} |", "|---" * (1 + len(REGIONS)) + "|"]
    for row in rows:
        told = (f"{row[f'{region}_dice']:.3f} ({row[f'{region}_true_ml']:.1f} ml)" for region in REGIONS)
        lines.append(f"| {row['study']} | {' | '.join(told)} |")
    means = (estimate_rows(rows, f"{region}_dice") for region in REGIONS)
    lines.append(f"| mean | {' | '.join(f'{one.mean:.3f} [{one.low:.2f}, {one.high:.2f}]' for one in means)} |")
    return "\n".join(lines)
