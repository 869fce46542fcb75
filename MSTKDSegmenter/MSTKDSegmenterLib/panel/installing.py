"""Getting PyTorch and safetensors into Slicer: asked first, with what and how large; pip's own words when it fails."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import slicer
from slicer.i18n import tr as _

from .. import dependencies, remedies
from ..dependencies import Problem

REQUESTER = "MSTKD Segmenter"
LINES_SHOWN = 12


def ensure() -> bool:
    """Install what is missing, after asking. Waits until pip is done, for minutes where PyTorch is large.

    Returns:
        True when everything is there. False when the user declined, when Slicer has to be restarted first (the user has
        been told), and when Slicer runs in testing mode, in which nothing is ever installed.

    Raises:
        RuntimeError: it failed, with pip's last lines and what to do; or this is not the main thread.
    """
    problems = dependencies.problems()
    if not problems:
        return True
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("Packages can be installed from the main thread only: pip in another one blocks Slicer.")
    if slicer.app.testingEnabled():
        logging.info("Testing mode: not installed: %s", ", ".join(problem.requirement for problem in problems))
        return False
    torch = [problem for problem in problems if problem.package == "torch"]
    if torch and "torch" in sys.modules:
        # what is loaded stays in memory, and Windows does not let go of its files
        text = _("{detail} It is in use: save your work, restart Slicer and come here first.")
        raise RuntimeError(text.format(detail=torch[0].detail))
    if torch and not _pytorchExtension(problems):
        return False
    if not _agreed(_question(problems), problems):
        return False
    _install(problems)
    return True


def _pytorchExtension(problems: Sequence[Problem]) -> bool:
    """Whether the extension PyTorch is there, which chooses the build that fits the graphics card; else offer it."""
    with contextlib.suppress(ModuleNotFoundError):
        import PyTorchUtils  # noqa: F401 - comes with the extension

        return True
    if not hasattr(slicer.app, "extensionsManagerModel"):  # Slicer can be built without
        raise RuntimeError(dependencies.advice(problems))
    text = _(
        "PyTorch is installed by the extension PyTorch (below 1 MB), which is not there. Install the extension now? "
        "Afterwards Slicer has to be restarted; then press Apply again, and PyTorch itself is next."
    )
    if not _agreed(text, problems):
        return False
    model = slicer.app.extensionsManagerModel()
    before = model.interactive
    model.interactive = False  # it was asked just now
    try:
        # the first tells that the download began and ended, not that anything came of it
        installed = model.installExtensionFromServer("PyTorch", False) and model.isExtensionInstalled("PyTorch")
    finally:
        model.interactive = before
    if not installed:
        failed = _("The extension PyTorch could not be installed; the log (menu Help, Report a Bug) says why.")
        raise RuntimeError("\n".join([failed, dependencies.advice(problems)]))
    slicer.util.infoDisplay(
        _("The extension PyTorch is installed. Save your work, restart Slicer and press Apply again."),
        windowTitle=REQUESTER,
    )
    return False


def _agreed(question: str, problems: Sequence[Problem]) -> bool:
    """Ask; the details are how to do it by hand, to be copied."""
    advice = dependencies.advice(problems)
    return slicer.util.confirmOkCancelDisplay(question, windowTitle=REQUESTER, detailedText=advice)


def _question(problems: Sequence[Problem]) -> str:
    sizes = {
        "torch": _("0.2 GB to download, 1 GB on the disk; with an NVIDIA graphics card up to 3 GB and 7 GB"),
        "safetensors": _("below 1 MB"),
        "numpy": _("20 MB; it takes the place of Slicer's newer one, so restart Slicer afterwards"),
    }
    lines = [_("To segment, Slicer needs Python packages that it does not have:")]
    lines += [f"- {problem.requirement}: {sizes[problem.package]}. {problem.detail}" for problem in problems]
    folder = remedies.packages_folder()
    free = shutil.disk_usage(folder).free / 2**30
    text = _("They come from the internet and go into {folder}, where {free:.0f} GB are free.")
    lines.append(text.format(folder=folder, free=free))
    remains = [str(path) for problem in problems for path in problem.remains]
    if remains:
        lines.append(_("Removed first, as it is damaged: {folders}.").format(folders=", ".join(remains)))
    lines.append(_("This takes some minutes, in which Slicer may not respond. Install now?"))
    return "\n".join(lines)


def _install(problems: Sequence[Problem]) -> None:
    """Install one after the other, and look whether everything is there."""
    with slicer.util.WaitCursor():
        for problem in problems:
            with _heard() as heard:
                try:
                    _remove(problem)
                    _installOne(problem.package, dependencies.version_range(problem))
                except Exception as error:  # of pip, of the extension or of the disk: all end the same way for the user
                    raise RuntimeError(_failure(problem, error, "".join(heard).splitlines())) from error
    left = dependencies.problems()
    if left:
        reported = _("pip reported no error, but not everything is there.")
        raise RuntimeError("\n".join([reported, dependencies.advice(left)]))


def _remove(problem: Problem) -> None:
    for folder in problem.remains:
        # Windows: without the prefix, paths of more than 260 characters cannot be removed either
        shutil.rmtree(f"\\\\?\\{folder}" if sys.platform == "win32" else folder)


def _installOne(package: str, versions: str) -> None:
    if package == "torch":
        import PyTorchUtils

        PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=False, torchVersionRequirement=versions)
        return
    try:
        from slicer.packaging import isPipInstallInProgress, pip_ensure
    except ImportError:  # Slicer 5.10
        slicer.util.pip_install([package + versions])
        return
    if isPipInstallInProgress():
        raise RuntimeError(_("another module is installing packages; wait until it is done and try again."))
    # its own dialog about a failure would come on top of ours
    pip_ensure([package + versions], prompt_install=False, requester=REQUESTER, show_progress=False)


def _failure(problem: Problem, error: Exception, lines: Sequence[str]) -> str:
    text = [_("{package} could not be installed: {error}").format(package=problem.requirement, error=error)]
    if lines:
        text += [_("The last lines of pip:"), *lines[-LINES_SHOWN:]]
    return "\n".join([*text, remedies.remedy([*lines, str(error)], [problem.requirement])])


@contextlib.contextmanager
def _heard() -> Iterator[list[str]]:
    """What is printed or logged meanwhile: Slicer passes pip's lines on to these, but not into its exceptions."""
    heard: list[str] = []
    handler = _Handler(heard)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(_Tee(sys.stdout, heard)):
            yield heard
    finally:
        logging.getLogger().removeHandler(handler)


class _Tee(io.TextIOBase):
    def __init__(self, stream: Any, heard: list[str]) -> None:
        self.stream, self.heard = stream, heard

    def write(self, text: str) -> int:
        self.heard.append(text)
        self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()


class _Handler(logging.Handler):
    def __init__(self, heard: list[str]) -> None:
        super().__init__(logging.INFO)
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(record.getMessage() + "\n")
