"""Which Python packages the computation needs that are not there or not whole, and how to get them.

Nothing is imported for it. Half an installation of PyTorch can often be imported (as a namespace), the other half can
take the application down, and on Windows what was imported can no longer be replaced. So only files are looked at.
"""

from __future__ import annotations

import csv
import importlib
import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING

from slicer.i18n import tr as _

from . import remedies

if TYPE_CHECKING:
    from packaging.requirements import Requirement

REQUIREMENTS = Path(__file__).parents[1] / "Resources" / "requirements.txt"
SHARED_LIBRARY = re.compile(r"\.(?:so(?:\.\d+)*|pyd|dll|dylib)$")
TORCH_WITH_LONG_PATHS = "2.13"
"""From this version on its wheel holds licences 173 characters below site-packages; Windows allows 259 in all."""
LONGEST_PATH_IN_TORCH = 173
LONGEST_PATH_OF_WINDOWS = 259


@dataclass(frozen=True)
class Problem:
    """A requirement that is not fulfilled.

    Attributes:
        package: its name for pip, e.g. "torch".
        requirement: what would do, e.g. "torch>=2.1".
        state: "missing", "too old", "too new" or "broken" (there in part).
        detail: a sentence that says what was found.
        remains: folders of a broken installation that have to go before pip can make a whole one.
    """

    package: str
    requirement: str
    state: str
    detail: str
    remains: tuple[Path, ...] = ()


def problems() -> list[Problem]:
    """What of requirements.txt is not fulfilled, in its order; takes some hundredths of a second."""
    from packaging.requirements import Requirement

    importlib.invalidate_caches()  # pip may have run a moment ago
    lines = (line.partition("#")[0].strip() for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    found = [problem for problem in (_problem(Requirement(line)) for line in lines if line) if problem is not None]
    return found + _numpy_problem(torch_is_whole=all(problem.package != "torch" for problem in found))


def advice(problems: Sequence[Problem], system: str | None = None) -> str:
    """What is wrong, and how to put it right by hand: with internet, behind a proxy, without internet.

    Args:
        problems: from ``problems``, at least one.
        system: "Windows", "Intel macOS" or "other"; None for the one that this runs on.
    """
    system = system or remedies.system()
    lines = [problem.detail for problem in problems]
    torch = [problem for problem in problems if problem.package == "torch"]
    others = [problem.requirement for problem in problems if problem.package != "torch"]
    if any(problem.state == "broken" for problem in problems):
        lines.append(remedies.clean_up([problem.package for problem in problems if problem.state == "broken"]))
    if torch:
        lines.append(remedies.pytorch_extension(version_range(torch[0], system)))
    if others:
        lines.append(remedies.console(others))
    if torch and system == "Windows":
        lines.append(remedies.long_paths())
    if torch and system == "Intel macOS":
        lines.append(remedies.old_torch_on_mac())
    requirements = [problem.package + version_range(problem, system) for problem in problems]
    return "\n".join([*lines, remedies.proxy(), remedies.offline(requirements)])


def version_range(problem: Problem, system: str | None = None) -> str:
    """Which versions to ask pip for, e.g. ">=2.1": on Windows below 2.13 of torch where its paths would be too long."""
    wanted = problem.requirement[len(problem.package) :]
    length = len(remedies.packages_folder()) + 1 + LONGEST_PATH_IN_TORCH
    if problem.package == "torch" and (system or remedies.system()) == "Windows" and length > LONGEST_PATH_OF_WINDOWS:
        return f"{wanted},<{TORCH_WITH_LONG_PATHS}"
    return wanted


def _problem(requirement: Requirement) -> Problem | None:
    name, wanted = requirement.name, str(requirement)
    entries = list(importlib.metadata.distributions(name=name))
    spec = PathFinder.find_spec(name)
    if spec is None and not entries:
        return Problem(name, wanted, "missing", _("{package} is not installed.").format(package=wanted))
    if spec is None:
        detail = _("Of {package} only the entry of pip is there.").format(package=name)
        return Problem(name, wanted, "broken", detail, _remains(None, entries))
    folder = Path(next(iter(spec.submodule_search_locations)))
    if spec.origin is None:
        detail = _("{package} is there only in part: {folder} holds no __init__.py.")
        detail = detail.format(package=name, folder=folder)
        return Problem(name, wanted, "broken", detail, _remains(folder, entries))
    beside = [entry for entry in entries if _folder(entry).parent == folder.parent]
    whole = [entry for entry in beside if _fault(entry) is None]
    if not whole:
        fault = _fault(beside[0]) if beside else _("pip does not know of it")
        detail = _("{package} in {folder} is there only in part: {fault}.")
        detail = detail.format(package=name, folder=folder, fault=fault)
        return Problem(name, wanted, "broken", detail, _remains(folder, beside))
    version = _version(whole[0])
    if not requirement.specifier.contains(version, prereleases=True):
        detail = _("{package} {version} is installed, {wanted} is needed.")
        return Problem(name, wanted, "too old", detail.format(package=name, version=version, wanted=wanted))
    return None


def _remains(folder: Path | None, entries: Sequence[importlib.metadata.Distribution]) -> tuple[Path, ...]:
    return tuple(sorted({_folder(entry) for entry in entries} | ({folder} if folder is not None else set())))


def _fault(entry: importlib.metadata.Distribution) -> str | None:
    """What an entry of pip lacks, or None for a whole installation."""
    if _version(entry) is None:
        return _("the file METADATA, with its version, is missing or unreadable")
    record = _text(entry, "RECORD")
    if record is None:
        return _("the file RECORD is missing, so its installation was interrupted")
    for row in csv.reader(line for line in record.splitlines() if SHARED_LIBRARY.search(line.split(",")[0].strip('"'))):
        if not Path(entry.locate_file(row[0])).is_file():
            return _("the file {name} is missing").format(name=row[0])
    return None


def _version(entry: importlib.metadata.Distribution) -> str | None:
    from packaging.version import InvalidVersion, Version

    found = re.search(r"^Version: *(\S+)", _text(entry, "METADATA") or "", re.MULTILINE)
    try:
        return str(Version(found.group(1))) if found else None
    except InvalidVersion:
        return None


def _text(entry: importlib.metadata.Distribution, name: str) -> str | None:
    try:
        return entry.read_text(name)
    except UnicodeDecodeError:  # e.g. after a power failure
        return None


def _folder(entry: importlib.metadata.Distribution) -> Path:
    """The folder ``NAME-VERSION.dist-info`` of an entry."""
    return Path(entry._path)  # there is no public name for it


def _numpy_problem(torch_is_whole: bool) -> list[Problem]:
    """PyTorch below 2.3 cannot exchange data with NumPy 2; on Intel macOS there is no PyTorch from 2.3 on."""
    from packaging.version import Version

    on_old_mac = remedies.system() == "Intel macOS"
    torch = _installed("torch") if torch_is_whole else remedies.NEWEST_TORCH_ON_INTEL_MAC if on_old_mac else None
    numpy = _installed("numpy")
    if torch is None or numpy is None or Version(torch) >= Version("2.3") or Version(numpy) < Version("2"):
        return []
    detail = _("PyTorch {torch} cannot exchange data with NumPy {numpy}.").format(torch=torch, numpy=numpy)
    if on_old_mac:
        return [Problem("numpy", "numpy<2", "too new", detail)]
    return [Problem("torch", "torch>=2.3", "too old", detail)]


def _installed(name: str) -> str | None:
    versions = (_version(entry) for entry in importlib.metadata.distributions(name=name))
    return next((version for version in versions if version is not None), None)
