"""The cases of a data set on disk, in the layouts in which BraTS and FeTS are published."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from MSTKDSegmenterLib.engine.sequences import SEQUENCES

from .config import DataConfig

ARCHIVE = "brats_cases.tar.xz"
LABEL_MAP = "label map"
Problems = dict[str, list[str]]
"""Case -> the reasons why it cannot be used."""

_HYPHENS = {"FLAIR": "-t2f", "T1": "-t1n", "T1ce": "-t1c", "T2": "-t2w", LABEL_MAP: "-seg"}
_UNDERSCORES = {"FLAIR": "_flair", "T1": "_t1", "T1ce": "_t1ce", "T2": "_t2", LABEL_MAP: "_seg"}
ENDINGS = {
    "archive": _UNDERSCORES,
    "brats2024": _HYPHENS,
    "brats2023": _HYPHENS,
    "fets2024": _UNDERSCORES,
    "brats2021": _UNDERSCORES,
}
"""Layout -> what follows the case's name in the names of its files, before .nii or .nii.gz."""

_TIME_POINT = re.compile(r"(BraTS-[A-Z]+-\d+)-\d+")


class BadCases(ValueError):
    """Cases that cannot be used, all of them, each with its reasons."""

    def __init__(self, problems: Mapping[str, Sequence[str]], advice: str) -> None:
        lines = [f"  {name}: {'; '.join(reasons)}" for name, reasons in sorted(problems.items())]
        super().__init__("\n".join([f"{len(lines)} cases cannot be used:", *lines, advice]))
        self.problems = problems


@dataclass(frozen=True)
class Case:
    """One study of a patient: files by sequence, in channel order, and the label map."""

    name: str
    patient: str
    images: dict[str, Path]
    labels: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.images.values(), self.labels)


def patient_of(name: str) -> str:
    """Whose case it is: BraTS-GLI-00005-100 and -101 are two time points of BraTS-GLI-00005."""
    match = _TIME_POINT.fullmatch(name)
    return match[1] if match else name


def find_cases(data: DataConfig) -> list[Case]:
    """The cases whose files are all there, sorted by name; nothing is read of them.

    Raises:
        BadCases: some lack files or have one twice, and `data.skip_bad` is not set.
        Otherwise as `search`.
    """
    cases, problems = search(data)
    refuse(problems, data, left=len(cases))
    return cases


def refuse(problems: Mapping[str, Sequence[str]], data: DataConfig, left: int) -> None:
    """Raise BadCases, unless they may be skipped and something is left."""
    if problems and not data.skip_bad:
        raise BadCases(problems, "Mend or remove them, or set data.skip_bad=true to go on without them.")
    if not left:
        raise BadCases(problems, f"Nothing is left of {data.source}: mend the cases or give another data.source.")


def search(data: DataConfig) -> tuple[list[Case], Problems]:
    """The cases whose files are all there, sorted by name, and what is wrong with the others.

    A case is a folder with images, named as they are, in `data.source` or one level down in folders of cohorts.

    Raises:
        FileNotFoundError: `data.source` or its archive is not there.
        ValueError: what is there has another layout than `data.layout`, or none that is known.
    """
    root = _root(data)
    folders = list(_folders(root))
    _check_layout(data, root, folders)
    by_name: dict[str, list[Path]] = {}
    for folder in folders:
        by_name.setdefault(folder.name, []).append(folder)
    cases: list[Case] = []
    problems: Problems = {}
    for name, same in sorted(by_name.items()):
        if len(same) > 1:
            problems[name] = [f"{len(same)} folders have this name: {', '.join(map(str, same))}"]
            continue
        files = _files(same[0], data.layout)
        reasons = [reason for role in files if (reason := _wrong(role, files[role], same[0], data.layout))]
        if reasons:
            problems[name] = reasons
        else:
            images = {sequence: files[sequence][0] for sequence in SEQUENCES}
            cases.append(Case(name, patient_of(name), images, files[LABEL_MAP][0]))
    return cases, problems


def _root(data: DataConfig) -> Path:
    if not data.source.is_dir():
        raise FileNotFoundError(f"data.source {data.source} is not a folder: give the one that holds the data set")
    return _unpacked(data) if data.layout == "archive" else data.source


def _unpacked(data: DataConfig) -> Path:
    """The archive's content in `<cache>/raw`, unpacked once; an interrupted start leaves nothing that looks whole."""
    folder, partial = data.cache / "raw", data.cache / "raw.part"
    if folder.exists():
        return folder
    archive = data.source / ARCHIVE
    if not archive.is_file():
        raise FileNotFoundError(
            f"data.layout is 'archive', but {archive} is not there: set data.layout to what {data.source} holds, "
            f"one of {', '.join(name for name in ENDINGS if name != 'archive')}"
        )
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with tarfile.open(archive) as stream:
        stream.extractall(partial, filter="data")
    os.replace(partial, folder)
    return folder


def _folders(root: Path) -> Iterator[Path]:
    """Folders with images, and empty ones, where the images should have been."""
    for folder in _inner(root):
        inner = list(_inner(folder))
        if inner and not _holds_images(folder):  # a cohort, as train or HGG
            yield from (case for case in inner if _holds_images(case) or not any(case.iterdir()))
        elif _holds_images(folder) or not any(folder.iterdir()):
            yield folder


def _inner(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith("."))


def _holds_images(folder: Path) -> bool:
    # also unfinished downloads, as x.nii.gz.part
    return any(".nii" in path.name for path in folder.iterdir() if path.is_file())


def _files(folder: Path, layout: str) -> dict[str, list[Path]]:
    """Sequence or label map -> the files that are named as such."""
    return {
        role: [path for suffix in (".nii.gz", ".nii") if (path := folder / f"{folder.name}{end}{suffix}").is_file()]
        for role, end in ENDINGS[layout].items()
    }


def _wrong(role: str, files: list[Path], folder: Path, layout: str) -> str | None:
    if len(files) == 1:
        return None
    if files:
        return f"its {role} is there twice, {' and '.join(path.name for path in files)}: remove one"
    known = {path for found in _files(folder, layout).values() for path in found}
    others = sorted(path.name for path in folder.iterdir() if path not in known)
    instead = f" (other files there: {', '.join(others)})" if others else ""
    return f"its {role} is missing, {folder.name}{ENDINGS[layout][role]}.nii.gz{instead}"


def _check_layout(data: DataConfig, root: Path, folders: Sequence[Path]) -> None:
    """Refuse a folder in which nothing is named as the layout wants it."""

    def fits(layout: str) -> bool:
        return any(found for folder in folders for found in _files(folder, layout).values())

    if fits(data.layout):
        return
    others = [name for name, endings in ENDINGS.items() if name != "archive" and fits(name)]
    if (root / ARCHIVE).is_file():
        others.append("archive")
    wanted = f"<case>/<case>{ENDINGS[data.layout]['T1']}.nii.gz"
    looks = (
        f"it looks like {' or '.join(others)}: set data.layout"
        if others
        else "nothing in it is known: give the folder that holds the folders of the cases, or those of cohorts"
    )
    raise ValueError(f"data.layout is {data.layout!r}, but {root} has no {wanted}; {looks}")
