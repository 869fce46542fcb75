"""Ways to get PyTorch and safetensors into Slicer, and what to do when pip failed, in words."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from collections.abc import Sequence

from slicer.i18n import tr as _

NEWEST_TORCH_ON_INTEL_MAC = "2.2.2"


def system() -> str:
    """ "Windows", "Intel macOS" (also an Apple processor that runs Slicer through Rosetta) or "other"."""
    if sys.platform == "win32":
        return "Windows"
    return "Intel macOS" if sys.platform == "darwin" and platform.machine() == "x86_64" else "other"


def pytorch_extension(versions: str) -> str:
    return _(
        "PyTorch: install the extension PyTorch (menu View, Extensions Manager), restart Slicer, open the module "
        "PyTorch Utils, enter {versions} as version requirement and press Install PyTorch."
    ).format(versions=versions)


def console(requirements: Sequence[str]) -> str:
    return _("In Slicer's Python console: {command}").format(command=f"slicer.util.pip_install({list(requirements)!r})")


def clean_up(packages: Sequence[str]) -> str:
    return _(
        "Remove what is damaged first: close Slicer, and in {folder} delete the folders of {packages} and those that "
        "begin with the same name and end in .dist-info."
    ).format(folder=packages_folder(), packages=", ".join(packages))


def long_paths() -> str:
    return _(
        "Windows refuses paths of more than 260 characters (WinError 206): install Slicer in a short folder such as "
        "C:\\Slicer, enable long paths in Windows, or ask for torch<2.13, which has shorter ones."
    )


def old_torch_on_mac() -> str:
    return _(
        "On an Intel Mac, and for Slicer's Intel build on Apple processors (Rosetta), {version} is the newest PyTorch. "
        "It needs NumPy below version 2; in the Python console: {command}, then restart Slicer."
    ).format(version=NEWEST_TORCH_ON_INTEL_MAC, command='slicer.util.pip_install("numpy<2")')


def proxy() -> str:
    return _(
        "Behind a proxy: set the environment variable HTTPS_PROXY before Slicer is started; where the proxy has a "
        "certificate of its own, set PIP_CERT to the file with it."
    )


def offline(requirements: Sequence[str]) -> str:
    quoted = " ".join(f'"{requirement}"' for requirement in requirements)
    install = ["--no-index", "--find-links", "FOLDER", *requirements]
    return _(
        "Without internet: on a computer that has it, with the same operating system and the same Slicer, run\n"
        "{download}\n"
        "Carry the folder wheels over and run in Slicer's Python console, with its path for FOLDER,\n"
        "{install}\n"
        "It puts the packages into {target}. The model needs no download, it comes with the extension."
    ).format(
        download=f"PythonSlicer -m pip download --only-binary :all: --dest wheels {quoted}",
        install=f"slicer.util.pip_install({install!r})",
        target=packages_folder(),
    )


def packages_folder() -> str:
    """Where pip puts packages."""
    return sysconfig.get_paths()["purelib"]


def remedy(output: Sequence[str], requirements: Sequence[str]) -> str:
    """What to do about a failed installation, read from the lines that pip wrote.

    Args:
        output: pip's lines.
        requirements: what was being installed, e.g. ["torch>=2.1"].
    """
    text = "\n".join(output)
    signs = [
        (r"WinError 206|enable-long-paths|Long Path support|filename or extension is too long", long_paths),
        (r"No space left|Errno 28|WinError 112|not enough space on the disk", _disk_full),
        (r"WinError 5\b|WinError 32\b|Errno 13|Permission denied|Access is denied", _in_use),
        (
            r"CERTIFICATE_VERIFY_FAILED|SSLError|ProxyError|Tunnel connection failed|getaddrinfo|NameResolutionError"
            r"|NewConnectionError|ConnectTimeout|ReadTimeout|name resolution|ConnectionReset",
            lambda: _unreachable(requirements),
        ),
        # last, as pip ends with this too when it could not reach anything
        (r"No matching distribution|Could not find a version", _no_version),
    ]
    for sign, words in signs:
        if re.search(sign, text, re.IGNORECASE):
            return words()
    return "\n".join([proxy(), offline(requirements)])


def _disk_full() -> str:
    return _("The disk is full. PyTorch needs up to 7 GB in {folder}, and some GB for temporary files.").format(
        folder=packages_folder()
    )


def _in_use() -> str:
    return _(
        "Files could not be replaced: they are in use, or {folder} cannot be written to. Restart Slicer and install "
        "before another module has used PyTorch; where an administrator installed Slicer, let one start it for this."
    ).format(folder=packages_folder())


def _unreachable(requirements: Sequence[str]) -> str:
    cause = _("The computer that offers the packages could not be reached.")
    return "\n".join([cause, proxy(), offline(requirements)])


def _no_version() -> str:
    words = _(
        "pip found no version for this system and Python {python}. Slicer's current release has the best chance; a "
        "mirror that stands between may not hold the package."
    ).format(python=_python())
    return "\n".join([words, old_torch_on_mac()]) if system() == "Intel macOS" else words


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
