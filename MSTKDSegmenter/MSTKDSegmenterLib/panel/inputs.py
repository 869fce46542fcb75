"""The four selectors: what was recognised and why, what the person chose, and what speaks against it."""

from __future__ import annotations

from typing import Any

import slicer
from slicer.i18n import tr as _

from ..engine.sequences import SEQUENCES
from .choices import Choices
from .marks import icon, paragraphs, show_icon


class Inputs:
    """Shows ``Choices`` in the selectors' tooltips and in words beside them."""

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._help = {sequence: self._selector(sequence).toolTip for sequence in SEQUENCES}
        self._asked_about: tuple[dict[str, str], bool] | None = None
        self._memory: Any = None
        self.blocked = ""
        """The first concern that a segmentation would be refused for; empty if there is none."""
        ui.recogniseButton.setIcon(icon("Recognise"))

    def show(self, choices: Choices, same_patient: bool) -> None:
        """Show where each volume comes from, which volumes are not used, and the concerns.

        Args:
            same_patient: the person says that the volumes are of one patient.
        """
        volumes = choices.volumes()
        for sequence in SEQUENCES:
            node = volumes.get(sequence)
            origin, reason = _origin(choices, sequence, node)
            label = getattr(self._ui, f"origin{sequence}")
            label.text = origin
            label.toolTip = paragraphs([reason])
            self._selector(sequence).toolTip = paragraphs(filter(None, [self._help[sequence], reason]))
        unused = choices.unused()
        self._ui.unusedLabel.text = _unused_in_words(len(unused))
        self._ui.unusedLabel.visible = bool(unused)
        self._ui.unusedLabel.toolTip = paragraphs(f"{name}: {reason}" for name, reason in unused.items())
        self._ui.recogniseButton.visible = any(map(choices.by_hand, SEQUENCES))
        self._show_concerns(volumes, same_patient)

    def forget(self) -> None:
        """Ask about the volumes anew the next time, because they may have changed."""
        self._asked_about = None

    def _show_concerns(self, volumes: dict[str, Any], same_patient: bool) -> None:
        now = {sequence: node.GetID() for sequence, node in volumes.items()}, same_patient
        if now == self._asked_about:
            return
        self._asked_about = now
        blocking, warning = self._concerns(volumes, same_patient)
        self.blocked = blocking[0] if blocking else ""
        self._ui.concernsNote.visible = bool(blocking or warning)
        show_icon(self._ui.concernsIcon, "Stop" if blocking else "Warning")
        self._ui.concernsLabel.text = paragraphs([*blocking, *warning])

    def _concerns(self, volumes: dict[str, Any], same_patient: bool) -> tuple[list[str], list[str]]:
        """What a segmentation would be refused for, and what makes it doubtful."""
        if not volumes:
            return [], []
        from ..scene.concerns import BLOCKS, Memory, concerns  # loads SimpleITK
        from ..scene.provenance import tag_value

        self._memory = self._memory or Memory()
        with slicer.util.WaitCursor():  # large volumes take seconds
            found = concerns(volumes, tag_value(), same_patient, self._memory)
        blocking = [concern.text for concern in found if concern.severity == BLOCKS]
        return blocking, [concern.text for concern in found if concern.severity != BLOCKS]

    def _selector(self, sequence: str) -> Any:
        return getattr(self._ui, f"selector{sequence}")


def _origin(choices: Choices, sequence: str, node: Any) -> tuple[str, str]:
    """A word or two about where a choice comes from, and the whole reason."""
    if choices.by_hand(sequence):
        return _("your choice"), _("Chosen by you; kept until you press Recognise again.")
    if node is None:
        return "", _("No volume was recognised as {sequence}.").format(sequence=sequence)
    return _("recognised"), choices.reasons.get(node.GetID(), "")


def _unused_in_words(count: int) -> str:
    if count == 0:
        return ""
    if count == 1:
        return _("1 other volume is not used.")
    return _("{count} other volumes are not used.").format(count=count)
