"""What a run was made with: code, packages, data."""

from __future__ import annotations

import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

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


def _commit() -> str | None:
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return None
    return done.stdout.strip() or None
