"""The Debian packages that pictures and Qt need besides pip's: `python3 Testing/system_packages.py [--install]`.

Wheels of VTK and PySide6 load these system libraries; servers and containers often lack them. Standard library only,
because it runs before anything is installed. Exit code 0: all there (or installed now), 1: named on stderr.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec

# Library that gets loaded -> Debian package that has it.
LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libdbus-1.so.3": "libdbus-1-3",
    "libfontconfig.so.1": "libfontconfig1",
    "libglib-2.0.so.0": "libglib2.0-0",
}


def missing_packages() -> list[str]:
    """Debian packages that are needed and not there; empty on systems other than Linux, whose wheels are complete."""
    if not sys.platform.startswith("linux"):
        return []
    missing = [] if find_spec("ensurepip") else ["python3-venv"]
    for library, package in LIBRARIES.items():
        try:
            ctypes.CDLL(library)
        except OSError:
            missing.append(package)
    return missing


def main() -> int:
    missing = missing_packages()
    if missing and "--install" in sys.argv and os.geteuid() == 0 and shutil.which("apt-get"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-qq", "-y", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", *command], env=environment, stdout=subprocess.DEVNULL, check=False)
        missing = missing_packages()
    if missing:
        print(f"System libraries are missing; as root: apt-get install {' '.join(missing)}", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
