"""Which Python packages the computation needs that are not there, and how to get them. Nothing is imported for it."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

REQUIREMENTS = Path(__file__).parents[1] / "Resources" / "requirements.txt"


@dataclass(frozen=True)
class Problem:
    """A line of requirements.txt that is not fulfilled: ``state`` is "missing" or "too old", ``detail`` says more."""

    package: str
    requirement: str
    state: str
    detail: str


def problems() -> list[Problem]:
    """The lines of requirements.txt that are not fulfilled. Nothing is imported for it, and nothing installed."""
    from packaging.requirements import Requirement

    found = []
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if not text:
            continue
        requirement = Requirement(text)
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found.append(Problem(requirement.name, text, "missing", ""))
            continue
        # a half-deleted installation has no version
        if not version or not requirement.specifier.contains(version, prereleases=True):
            found.append(Problem(requirement.name, text, "too old", str(version)))
    return found


def advice(problems: list[Problem]) -> str:
    """How to get what is missing by hand."""
    torch = [problem.requirement for problem in problems if problem.package == "torch"]
    others = [problem.requirement for problem in problems if problem.package != "torch"]
    lines = [_("Not installed yet: {packages}.").format(packages=", ".join(torch + others))]
    if torch:
        lines.append(
            _(
                "Install the extension PyTorch (menu View, Extensions Manager), restart Slicer, open the module "
                "PyTorch Util and press Install PyTorch."
            )
        )
    if others:
        lines.append(
            _("Then run in the Python console: {command}").format(command=f"slicer.util.pip_install({others!r})")
        )
    return "\n".join(lines)
