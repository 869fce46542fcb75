"""The model card: README.md in a package's folder, for people who decide whether to use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from MSTKDSegmenterLib.engine.calibration import Curve, calibrated_number
from MSTKDSegmenterLib.engine.package import ModelPackage
from MSTKDSegmenterLib.engine.regions import REGIONS

from . import plots
from .calibration import HALF, LEAST
from .files import write_text
from .statistics import Row, estimate_rows
from .tables import ALL, NAMES, of

FAILURES = 3
"""Studies that the card names per region."""


def write(
    folder: Path,
    package: ModelPackage,
    rows: Sequence[Row],
    reliability: Mapping[str, Any],
    crossvalidated: bool = False,
) -> None:
    """Write README.md, and reliability.png if it was measured; the arguments as for `document`."""
    if reliability:
        plots.reliability(reliability, folder / "reliability.png")
    write_text(document(package, rows, reliability, crossvalidated), folder / "README.md")


def document(
    package: ModelPackage, rows: Sequence[Row], reliability: Mapping[str, Any], crossvalidated: bool = False
) -> str:
    """As Markdown.

    Args:
        rows: of an evaluation on the native grid; may be empty.
        reliability: see calibration.honesty; may be empty.
        crossvalidated: whether that is of a cross-validation, not of the package as it is.
    """
    configuration = package.card["training"]["configuration"]
    teacher, runs = configuration["teacher"]["kind"], configuration["teacher"]["run"]
    who = f"{teacher}, {_whose(runs)}" if runs else teacher
    used = [name for name, term in configuration["terms"].items() if term["weight"]]
    terms = ", ".join(name for name in used if teacher == "joint" or name != "teacher_segmentation")
    released = sorted(name for name, formula in configuration["formulas"].items() if formula == "official")
    formulas = f"as released: {', '.join(released)}" if released else "corrected"
    method = (
        f"Distilled by the method of MST-KDNet, teacher: {who}; terms: {terms}; formulas {formulas}."
        if teacher != "none"
        else "Trained with random subsets of the sequences, without a teacher."
    )
    looks = "; the image and its mirror image are looked at, and averaged" if package.mirror else ""
    parts = [
        f"# {package.name} {package.version}",
        f"**Intended use.** {package.intended_use}",
        f"**Licence.** {package.licence}",
        f"**Data.** {package.data}",
        f"**Method.** {method} {_steps(package)}{looks}; the whole configuration is in model.json.",
    ]
    if rows:
        parts += ["## Quality", _quality(rows, package), "## Known failures", _failures(rows, package)]
        parts += ["## Enhancing tumour that is not there", _false(rows)]
    else:
        parts += ["## Quality", "Not measured."]
    if reliability:
        parts += ["## Calibration", *_calibration(package, reliability, crossvalidated)]
    parts += ["## Citations", "\n".join(f"* {text}" for text in package.citation)]
    return "\n\n".join(parts) + "\n"


def _whose(runs: str | Sequence[str]) -> str:
    """Of a configuration of now, or of one from when a single run was named without a list."""
    names = [runs] if isinstance(runs, str) else runs
    return f"the student of {names[0]}" if len(names) == 1 else f"the students of {' and '.join(names)} together"


def chain(before: Sequence[Mapping[str, Any]]) -> str:
    """What weights were before a run, with their steps, as `training.before` of a package has it."""
    return ", ".join(f"{one['name']} ({_counted(one['step'], one.get('samples_per_step'))})" for one in before)


def _steps(package: ModelPackage) -> str:
    training = package.card["training"]
    before = training.get("before", [])
    told = _counted(training["step"], training.get("samples_per_step"))
    told += f", after those of {chain(before)}" if before else ""
    share = training.get("start_share")
    return f"{told}; {share:.0%} of the weights are those before these steps" if share else told


def _counted(steps: int, samples: int | None) -> str:
    """Packages of before samples were noted have None."""
    of = {None: "", 1: " of one sample"}.get(samples, f" of {samples} samples")
    return f"{steps} steps{of}"


def _calibration(package: ModelPackage, reliability: Mapping[str, Any], crossvalidated: bool) -> list[str]:
    others = "each calibrated on the others, as the package is on all of them"
    whom = others if crossvalidated else "the studies above"
    calibrated, tempered, as_said = (
        {region: curve["error"] for region, curve in reliability[key].items()}
        for key in ("calibrated", "tempered", "as_said")
    )
    alone = []
    for region in REGIONS:
        errors = {patient: of_regions[region]["error"] for patient, of_regions in reliability["patients"].items()}
        worst = max(errors, key=errors.get)
        alone.append(f"{region} {mean(errors.values()):.3f} ({worst} {errors[worst]:.2f})")
    return [
        *_curves(package),
        "How often a voxel belonged to a region that was said to do so with probability p, over all subsets and "
        f"studies ({whom}). Counted are voxels to which the network, with its temperature, gives {LEAST:g} or more. "
        f"Expected calibration error: {_numbers(calibrated, 3)}; the same voxels without the curves: "
        f"{_numbers(tempered, 3)}; as the network says without its temperature, counted by that: "
        f"{_numbers(as_said, 3)}. That is of all "
        "patients together."
        f" Of one alone it is, on average (and at worst), {', '.join(alone)}.",
        "![Reliability curves](reliability.png)",
    ]


def _curves(package: ModelPackage) -> list[str]:
    """What the package's curves do; nothing if it has none."""
    curves = package.card.get("calibration", {})
    if not curves:
        return []

    def told(number: Callable[[Curve], float]) -> str:
        of_regions = (
            f"{region} " + ", ".join(f"{number(curve):.2f} {name}" for name, curve in of_groups.items())
            for region, of_groups in curves.items()
        )
        return "; ".join(of_regions)

    says, others = "the network says", "are as the network says them"
    if package.card.get("temperatures"):
        says, others = "the network says with its temperature, one for each subset,", "have the temperature alone"
    return [
        f"The probabilities of {' and '.join(curves)} that are written are calibrated: rising curves in model.json "
        f"lead from what {says} to how often that was true. Regions begin where it says their threshold; one half is "
        f"calibrated {told(lambda curve: calibrated_number(HALF, curve))}. No voxel gets more than "
        f"{told(lambda curve: curve[-1][1])}."
        + "".join(f" Those of {region} {others}." for region in REGIONS if region not in curves)
    ]


def _numbers(values: Mapping[str, float], digits: int) -> str:
    return ", ".join(f"{region} {value:.{digits}f}" for region, value in values.items())


def _quality(rows: Sequence[Row], package: ModelPackage) -> str:
    patients = len({row["patient"] for row in rows})
    lines = [
        f"Mean Dice on the native grid, {patients} patients; brackets: 95 % bootstrap interval over patients.",
        f"Measured by `{package.quality.command}`.",
        "",
        f"| subset | {' | '.join(REGIONS)} |",
        "|---" * (len(REGIONS) + 1) + "|",
    ]
    for name in (*NAMES, ALL):
        some = rows if name == ALL else of(rows, name)
        found = [estimate_rows(some, f"{region}_dice") for region in REGIONS]
        lines.append(
            f"| {name} | " + " | ".join(f"{one.mean:.3f} [{one.low:.2f}, {one.high:.2f}]" for one in found) + " |"
        )
    return "\n".join(lines)


def _failures(rows: Sequence[Row], package: ModelPackage) -> str:
    full = of(rows, NAMES[-1])
    lines = ["Lowest Dice with all four sequences, and the true volume; then the lowest of all subsets and whose:", ""]
    for region in REGIONS:
        worst = sorted(full, key=lambda row: row[f"{region}_dice"])[:FAILURES]
        told = ", ".join(
            f"{row['study']} {row[f'{region}_dice']:.2f} ({row[f'{region}_true_ml']:.1f} ml)" for row in worst
        )
        lowest = min(f"{row[f'{region}_dice']:.2f}" for row in rows)
        as_low = [row["study"] for row in rows if f"{row[f'{region}_dice']:.2f}" == lowest]
        studies = ", ".join(dict.fromkeys(as_low))
        lines.append(f"* {region}: {told}; {lowest} in {len(as_low)} of {len(rows)} ({studies})")
    false = {region: mean(row[f"{region}_lesions_false"] for row in rows) for region in REGIONS}
    treated = package.card["training"]["configuration"]["data"]["layout"] == "brats2024"
    unknown = "tumours before treatment" if treated else "resection cavities and whatever else treatment leaves"
    lines += [
        "",
        f"Parts beside the tumour that are none, mean of all subsets, in a study: {_numbers(false, 1)}.",
        "",
        "What its data do not hold is outside of what it knows, and it gives no warning there: children, metastases,",
        f"other diseases, artefacts, {unknown}. It computes on a grid of",
        f"{package.spacing:g} mm, from which thin rims suffer.",
    ]
    return "\n".join(lines)


def _false(rows: Sequence[Row]) -> str:
    least = min(row["ET_true_ml"] for row in rows)
    without = f" All studies have some, {least:.1f} ml at least: nothing is known of tumours without." if least else ""
    lines = [
        "Volume called enhancing tumour outside of the true one, at its border too, and the true volume missed, mean",
        f"of the studies in ml.{without}",
        "",
        "| subset | false ET | missed ET | true ET |",
        "|---|---|---|---|",
    ]
    for name in NAMES:
        some = of(rows, name)
        overlap = [row["ET_dice"] * (row["ET_found_ml"] + row["ET_true_ml"]) / 2 for row in some]
        false = sum(row["ET_found_ml"] - both for row, both in zip(some, overlap, strict=True)) / len(some)
        true = sum(row["ET_true_ml"] for row in some) / len(some)
        lines.append(f"| {name} | {false:.1f} | {true - sum(overlap) / len(some):.1f} | {true:.1f} |")
    return "\n".join(lines)
