"""One case looked at before it is prepared: can it be used, and what is it like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.background import background_value, shown
from MSTKDSegmenterLib.engine.brain import SMALLEST_BRAIN_ML
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.nifti_header import check_nifti
from MSTKDSegmenterLib.engine.regions import CONVENTIONS, REGIONS
from MSTKDSegmenterLib.engine.study import study_from_files
from pydantic import BaseModel, TypeAdapter

from .cases import LABEL_MAP, Case
from .config import CONVENTION
from .files import write_text

PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)


class Facts(BaseModel):
    """What a case is like, and the files it was measured on, by name."""

    files: dict[str, tuple[int, int]]  # bytes and time of change (ns)
    sha256: dict[str, str] = {}  # of their contents; earlier versions did not note it
    size: tuple[int, int, int]  # voxels, x, y, z; the same for all sequences and the label map
    spacing: tuple[float, float, float]  # mm
    orientation: str  # where the voxel axes point, as in LPS
    brain_ml: dict[str, float]  # by sequence, what it shows but its background
    intensity: dict[str, tuple[float, ...]]  # by sequence, PERCENTILES in the brain
    regions_ml: dict[str, float]


_LEDGER = TypeAdapter(dict[str, Facts])


def examine(case: Case, convention: str) -> Facts | list[str]:
    """The facts of a case that can be used, else the reasons why it cannot. Looks at the headers first."""
    reasons = list(_headers(case))
    if reasons:
        return reasons
    reader = _header(case.labels)
    regions, reasons = _regions(case.labels, convention, float(np.prod(reader.GetSpacing())) / 1000)
    brain_ml, intensity = {}, {}
    try:
        study = study_from_files(case.images)
    except UnusableInput as error:
        return [*reasons, str(error)]
    for sequence, one in study.images.items():
        values = _shown(one.image)
        brain_ml[sequence] = values.size * float(np.prod(one.image.GetSpacing())) / 1000
        if brain_ml[sequence] < SMALLEST_BRAIN_ML:
            reasons.append(
                f"{sequence} shows {brain_ml[sequence]:.0f} ml of brain, expected at least {SMALLEST_BRAIN_ML:.0f} ml"
            )
        else:
            intensity[sequence] = tuple(np.percentile(values, PERCENTILES).tolist())
    orientation = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(reader.GetDirection())
    return reasons or Facts(
        files=files_of(case), sha256=_contents_of(case), size=reader.GetSize(), spacing=reader.GetSpacing(),
        orientation=orientation, brain_ml=brain_ml, intensity=intensity, regions_ml=regions,
    )  # fmt: skip


def files_of(case: Case) -> dict[str, tuple[int, int]]:
    """Bytes and time of change (ns) by file name."""
    return {path.name: (path.stat().st_size, path.stat().st_mtime_ns) for path in case.files}


def _contents_of(case: Case) -> dict[str, str]:
    """SHA-256 by file name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in case.files}


def read(cache: Path) -> dict[str, Facts]:
    """The facts of the cases that were examined before, by case."""
    path = cache / "examined.json"
    return _LEDGER.validate_json(path.read_bytes()) if path.exists() else {}


def write(facts: dict[str, Facts], cache: Path) -> None:
    write_text(_LEDGER.dump_json(facts).decode(), cache / "examined.json")


def _header(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NiftiImageIO")
    reader.ReadImageInformation()
    return reader


def _headers(case: Case) -> Iterator[str]:
    """What the headers alone tell: unreadable files, files that are no volumes, grids that differ."""
    grids: dict[str, Grid] = {}
    for role, path in {**case.images, LABEL_MAP: case.labels}.items():
        try:
            reader = _header(path)
        except RuntimeError:
            yield f"its {role} cannot be read, {path.name} is no NIfTI image or damaged: copy it again"
            continue
        if reader.GetDimension() != 3 or min(reader.GetSize()) < 2:
            yield f"its {role} has the size {_by(reader.GetSize())}, expected a 3-D volume"
        else:
            grids[role] = Grid.of(reader)
    reference = next(iter(grids), None)
    for role, grid in grids.items():
        if not grid.matches(grids[reference]):
            yield f"its {role} has another grid than its {reference}: {_difference(grid, grids[reference])}"


def _difference(grid: Grid, other: Grid) -> str:
    for what in ("size", "spacing", "origin", "direction"):
        mine, wanted = getattr(grid, what), getattr(other, what)
        if not np.allclose(mine, wanted, rtol=0, atol=1e-3):
            return f"{what} {_by(mine)} instead of {_by(wanted)}"
    return "its voxels are displaced"


def _by(numbers: tuple[float, ...]) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


def _regions(path: Path, convention: str, voxel_ml: float) -> tuple[dict[str, float], list[str]]:
    """Volume of each region in ml, and what is wrong with the label map."""
    try:
        check_nifti(path)
        labels = sitk.ReadImage(str(path))
    except (UnusableInput, RuntimeError) as error:
        return {}, [str(error)]
    values, counts = np.unique(sitk.GetArrayViewFromImage(labels), return_counts=True)
    present = dict(zip(values.tolist(), counts.tolist(), strict=True))
    meaning = CONVENTIONS[convention]
    unknown = [f"{value:g}" for value in present if value not in meaning]
    if unknown:
        fitting = [layout for layout, name in CONVENTION.items() if set(present) <= set(CONVENTIONS[name])]
        advice = f"; they fit data.layout {' or '.join(fitting)}" if fitting else ""
        wanted = ", ".join(map(str, sorted(meaning)))
        return {}, [f"its label map has the values {', '.join(unknown)}, {convention!r} knows {wanted}{advice}"]
    return {
        region: voxel_ml * sum(count for value, count in present.items() if meaning[value] in members)
        for region, members in REGIONS.items()
    }, []


def _shown(image: sitk.Image) -> np.ndarray:
    """Intensities of what an image shows: all but a constant background."""
    values, background = sitk.GetArrayViewFromImage(image), background_value(image)
    if background is None:
        return values.ravel()
    inside = shown(image, background)  # by a name: a view does not keep its image
    return values[sitk.GetArrayViewFromImage(inside) > 0]
