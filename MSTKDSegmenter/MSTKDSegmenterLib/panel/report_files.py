"""The report of a result as a page to read and as files to keep."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from ..engine.report_page import page


class ReportFiles:
    """Writes reports; those only opened to be read lie in Slicer's temporary folder until the panel closes."""

    def __init__(self) -> None:
        self._temporary: list[Path] = []

    def open(self, report: Mapping[str, Any], name: str) -> None:
        """Show the report in the program that the desktop has for web pages.

        Raises:
            RuntimeError: there is no such program.
        """
        import qt

        path = Path(slicer.app.temporaryPath) / f"{_file_name(name)} report.html"
        path.write_text(page(report), encoding="utf-8")
        self._temporary.append(path)
        if not qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path))):
            raise RuntimeError(
                _(
                    "No program for web pages was found. Save the report and open it yourself; it is now at {path}."
                ).format(path=path)
            )

    def save(self, report: Mapping[str, Any], name: str, suffix: str, parent: Any) -> Path | None:
        """Ask where, and write the report as ".html" or ".json". The file, or None if the person changed their mind.

        Raises:
            RuntimeError: it could not be written.
        """
        import qt

        kinds = {".html": _("Web page (*.html)"), ".json": _("JSON (*.json)")}
        proposed = f"{_file_name(name)} report{suffix}"
        chosen = qt.QFileDialog.getSaveFileName(parent, _("Save report"), proposed, kinds[suffix])
        if not chosen:
            return None
        path = Path(chosen)
        if path.suffix.lower() != suffix:  # the dialog has asked about the name without
            path = path.with_name(path.name + suffix)
            question = _("{path} exists. Replace it?").format(path=path)
            if path.exists() and not slicer.util.confirmOkCancelDisplay(question, parent=parent):
                return None
        text = page(report) if suffix == ".html" else json.dumps(report, indent=2, ensure_ascii=False) + "\n"
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RuntimeError(
                _("The report could not be saved ({error}). Choose another folder.").format(error=error)
            ) from error
        return path

    def remove(self) -> None:
        """Remove the files that were only opened to be read."""
        for path in self._temporary:
            path.unlink(missing_ok=True)
        self._temporary = []


def _file_name(name: str) -> str:
    return re.sub(r"[^\w .+-]", "_", name).strip() or "MSTKDSegmenter"
