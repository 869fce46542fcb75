"""What a folder holds: its image files and DICOM series, and which sequence each of them is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .dicom_series import Series, find_series, join_series, unreadable_note
from .errors import UnusableInput
from .names import Recognition
from .reading import FORMATS, Reading, check_path, image_suffix, misnamed, read, read_one_series, visible
from .sequences import SEQUENCES, recognise_dicom, recognise_name
from .words import is_description

_DEPTH = 3
"""Folder levels searched below the given one: patient / study / series, as DICOM is exported."""
_FEWEST_SLICES = 5
_MOST_LISTED = 12


@dataclass(frozen=True)
class Found:
    """An image that was found, not read yet.

    path: its file, or the folder of its DICOM series. label: how a message names it. resolved: its identity.
    """

    path: Path
    label: str
    resolved: str
    recognition: Recognition
    read: Callable[[], Reading]


def search(folder: Path) -> tuple[dict[str, list[Found]], list[str]]:
    """The images below ``folder`` by sequence, in channel order, DICOM first; and notes about what is not used.

    Raises:
        UnusableInput: no such folder, a name that is not UTF-8, nothing in it, or nothing that is recognised.
    """
    check_path(folder)
    if not folder.is_dir():
        msg = f"{folder} is not a folder. Give a folder with a study, or name files: {_flags()}."
        raise UnusableInput(msg)
    files, parts, notes = _walk(folder, _DEPTH)
    series = join_series(parts)
    found = [_from_series(one, folder, alone=_alone(one, series)) for one in series] + _from_files(files, folder)
    if not found:
        broken = "".join(f" {note}" for note in notes)
        msg = f"{folder} holds no image that can be read, down to {_DEPTH} folders deep. Expected {FORMATS}.{broken}"
        raise UnusableInput(msg)
    used = {sequence: [one for one in found if one.recognition.sequence == sequence] for sequence in SEQUENCES}
    unused = [f"{one.label}: not used, {one.recognition.reason}." for one in found if one.recognition.sequence is None]
    if len(unused) == len(found):
        more = f" and {len(unused) - _MOST_LISTED} more" if len(unused) > _MOST_LISTED else ""
        seen = " ".join(unused[:_MOST_LISTED])
        msg = f"No sequence was recognised in {folder}. Name them: {_flags()}. Seen: {seen}{more}"
        raise UnusableInput(msg)
    return {sequence: ones for sequence, ones in used.items() if ones}, [*notes, *unused]


def without_common_start(names: Sequence[str]) -> list[str]:
    """The names without the patient's or study's name that all of them begin with.

    Only whole words are taken away, only if one of them is no description of an image, and only if every name that
    says which sequence it is still does so afterwards.
    """
    if len(set(names)) < 2:
        return list(names)
    cut = [re.findall(r"[^_\-. ]+[_\-. ]*|[_\-. ]+", name) for name in names]
    shared = 0
    while all(len(words) > shared + 1 and words[shared] == cut[0][shared] for words in cut):
        shared += 1
    start = "".join(cut[0][:shared])
    if not start or is_description(start):
        return list(names)
    rests = [name[len(start) :] for name in names]
    lost = any(_says(name) and not _says(rest) for name, rest in zip(names, rests))
    return list(names) if lost else rests


def _says(name: str) -> bool:
    recognition = recognise_name(name)
    return recognition.sequence is not None


def _flags() -> str:
    return ", ".join(f"--{sequence.lower()} FILE" for sequence in SEQUENCES)


def _walk(folder: Path, depth: int) -> tuple[list[Path], list[Series], list[str]]:
    below = visible(folder)
    here = [path for path in below if path.is_file()]
    files = [path for path in here if image_suffix(path)]
    series, unreadable = find_series([path for path in here if not image_suffix(path)])
    notes = misnamed(folder)
    if unreadable:
        notes.append(unreadable_note(folder, unreadable))
    for deeper in (path for path in below if path.is_dir()):
        if depth == 0:
            notes.append(f"{deeper}: not searched, it lies more than {_DEPTH} folders deep.")
            continue
        try:
            more_files, more_series, more_notes = _walk(deeper, depth - 1)
        except UnusableInput as error:
            notes.append(str(error))
            continue
        files += more_files
        series += more_series
        notes += more_notes
    return files, series, notes


def _alone(series: Series, among: Sequence[Series]) -> bool:
    """Whether its folder, with the folders below if its own files are in those, holds no other series."""
    below = len(series.folders) > 1
    return not any(
        one is not series and (one.folder == series.folder or (below and series.folder in one.folder.parents))
        for one in among
    )


def _from_series(series: Series, root: Path, *, alone: bool) -> Found:
    folder_name = series.folder.name if alone and series.folder != root else ""
    recognition = recognise_dicom(series.tags, folder_name)
    if recognition.sequence is not None and series.images < _FEWEST_SLICES:
        recognition = Recognition(None, f"{series.images} slices are no volume ({recognition.reason})", excluded=True)
    resolved = f"{series.folder.resolve()} {series.tags.get('0020,000e', '')}"
    return Found(series.folder, series.label, resolved, recognition, lambda: read_one_series(series))


def _from_files(files: Sequence[Path], root: Path) -> list[Found]:
    names = without_common_start([path.name for path in files])
    return [_from_file(path, name, root) for path, name in zip(files, names)]


def _from_file(path: Path, name: str, root: Path) -> Found:
    recognition = recognise_name(name)
    reason = f"file name '{path.name}': {recognition.reason}"
    parents = [parent.name for parent in path.parents if root in parent.parents]
    for parent in parents:
        if recognition.sequence is not None or recognition.excluded:
            break
        recognition = recognise_name(parent)
        if recognition.sequence is not None or recognition.excluded:
            reason = f"folder name '{parent}': {recognition.reason}"
    recognition = Recognition(recognition.sequence, reason, recognition.excluded)
    return Found(path, str(path), str(path.resolve()), recognition, lambda: read(path))
