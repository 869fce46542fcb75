"""What a run was made with: code, packages, data, patients."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from .config import Config
from .files import write_text
from .seen import FILE, chosen_on, seen

PACKAGES = ("torch", "monai", "numpy", "SimpleITK", "pydantic")


def provenance(cache: Path) -> dict[str, Any]:
    """Commit of the code, versions of the packages, and the fingerprint of the prepared data, if it has one."""
    fingerprint = cache / "fingerprint.json"
    return {
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "fingerprint": json.loads(fingerprint.read_text(encoding="utf-8")) if fingerprint.exists() else None,
    }


def write(config: Config, step: int) -> None:
    """Note in the run's provenance.json what it goes on with from a step, if that is not as it was before.

    The file is a list, an entry for each start that differs: the step, `provenance`, the patients `seen` and those whom
    the weights are `chosen_on`.

    Raises:
        FileNotFoundError: the data are not prepared.
    """
    path = config.folder / FILE
    starts = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    entry = {**provenance(config.data.cache), "seen": seen(config), "chosen_on": chosen_on(config)}
    if not starts or {**starts[-1], "step": step} != {"step": step, **entry}:
        write_text(json.dumps([*starts, {"step": step, **entry}], indent=2) + "\n", path)


def _commit() -> str | None:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() or None
