"""Packages that are torch and safetensors by name only: as wheels for a real pip, and as installed folders."""

from __future__ import annotations

import zipfile
from pathlib import Path

CORE = {"torch": "torch/_C.pyd", "safetensors": "safetensors/_safetensors_rust.pyd", "numpy": "numpy/_core/m.pyd"}


def _files(name: str, version: str) -> dict[str, str]:
    entry = f"{name}-{version}.dist-info"
    return {
        f"{name}/__init__.py": "raise SystemExit('nothing may import this')",
        CORE[name]: "",
        f"{entry}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{entry}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{entry}/RECORD": f"{name}/__init__.py,,\n{CORE[name]},,\n{entry}/METADATA,,\n{entry}/RECORD,,\n",
    }


def install(site: Path, name: str, version: str) -> Path:
    """Write what pip would; returns the entry of pip, NAME-VERSION.dist-info."""
    for file, content in _files(name, version).items():
        (site / file).parent.mkdir(parents=True, exist_ok=True)
        (site / file).write_text(content)
    return site / f"{name}-{version}.dist-info"


def write_wheel(folder: Path, name: str, version: str) -> None:
    """A file that pip can install."""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for file, content in _files(name, version).items():
            wheel.writestr(file, content)
