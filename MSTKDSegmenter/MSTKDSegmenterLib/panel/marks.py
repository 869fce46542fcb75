"""What regions and grades look like in the panel: words with a symbol of their own shape, so that colour alone says
nothing. Only theme-independent colours on the theme's own background, so that it is legible in light and dark."""

from __future__ import annotations

import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from slicer.i18n import tr as _

from ..engine.reliability import NOT_RELIABLE
from ..scene.terminology import APPEARANCES

ICONS = Path(__file__).resolve().parents[2] / "Resources" / "Icons"

_SIZE = 16
_GRADE_ICONS = {"good": "Good", "fair": "Fair", NOT_RELIABLE: "NotReliable"}


def icon(name: str) -> Any:
    """One of the icons in Resources/Icons (QIcon)."""
    import qt

    return qt.QIcon(str(ICONS / f"{name}.svg"))


def show_icon(label: Any, name: str | None) -> None:
    """Show an icon in a QLabel, or nothing."""
    if name is None:
        label.clear()
    else:
        label.setPixmap(icon(name).pixmap(_SIZE, _SIZE))


def show_grade(icon_label: Any, text_label: Any, grade: str | None) -> None:
    """Show a grade ("good", "fair", "not reliable") as a symbol and in words; None: it was not measured."""
    show_icon(icon_label, _GRADE_ICONS.get(grade))
    text_label.text = grade_in_words(grade)


def grade_in_words(grade: str | None) -> str:
    words = {"good": _("good"), "fair": _("fair"), NOT_RELIABLE: _("not reliable"), None: _("not measured")}
    return words.get(grade, grade)


def paragraphs(sentences: Iterable[str]) -> str:
    """Rich text: each sentence a paragraph of its own, a little apart from the next; lines within one stay lines.

    For tooltips as well, where Qt wraps rich text only.
    """
    lines = ("<br>".join(html.escape(line) for line in sentence.splitlines()) for sentence in sentences)
    return "".join(f'<p style="margin-top:0; margin-bottom:4px">{text}</p>' for text in lines)


def region_name(region: str) -> str:
    """Rich text: a square in the colour of the segment, the abbreviation and the full name."""
    names = {"WT": _("whole tumour"), "TC": _("tumour core"), "ET": _("enhancing tumour")}
    red, green, blue = APPEARANCES[region].colour
    square = f'<span style="color:#{red:02x}{green:02x}{blue:02x}">&#9632;</span>'
    return f"{square} <b>{region}</b> {names[region]}"
