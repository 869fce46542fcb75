"""Which volume stands for which sequence: proposed until the person chooses, and from then on theirs. No qt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import slicer

from ..engine.sequences import SEQUENCES
from ..scene.attributes import OUTPUT_ATTRIBUTE

_NAMES = (
    *(f"{kind}{sequence}" for kind in ("volume", "byHand") for sequence in SEQUENCES),
    *("samePatient", "result", "exclusive", "probabilities", "device", "modelFolder"),
)
"""Parameters of the patient whose volumes are chosen, of what is wanted of them, and of this computer."""


class Choices:
    """Keeps proposals and the person's own choices apart, both in the parameter node.

    A change of a volume in the parameter node that was not made here is the person's (with a selector, or in the
    console): it is marked as made by hand, and no proposal replaces it, also if it is a deliberate "missing".
    """

    def __init__(self, parameters: Any) -> None:
        self._parameters = parameters
        self.reasons: dict[str, str] = {}
        """Node ID -> what the volume was taken for, or why it was not, for every volume that was looked at."""
        self._expected = self._identifiers()
        self._vouched: set[str] | None = None

    def volumes(self) -> dict[str, Any]:
        """The chosen volume nodes by sequence, without the missing ones."""
        chosen = {sequence: self._volume(sequence) for sequence in SEQUENCES}
        return {sequence: node for sequence, node in chosen.items() if node is not None}

    def by_hand(self, sequence: str) -> bool:
        return getattr(self._parameters, f"byHand{sequence}")

    def unused(self) -> dict[str, str]:
        """Name -> reason, for the volumes that were looked at and stand for no sequence."""
        used = {node.GetID() for node in self.volumes().values()}
        nodes = {key: slicer.mrmlScene.GetNodeByID(key) for key in self.reasons if key not in used}
        return {node.GetName(): self.reasons[key] for key, node in nodes.items() if node is not None}

    def accept(self) -> None:
        """Take what stands in the parameter node as it is, e.g. after a scene was loaded."""
        self._expected = self._identifiers()
        self._vouched = None

    def kept(self) -> Callable[[], None] | None:
        """What puts everything chosen back as it is now, if volumes are; for a scene that is added to this one, which
        would put its own choices in their place."""
        if not self.volumes():
            return None
        values = {name: getattr(self._parameters, name) for name in _NAMES}
        vouched = self._vouched

        def put_back() -> None:
            with slicer.util.NodeModify(self._parameters):
                for name, value in values.items():
                    setattr(self._parameters, name, value)
            self._expected, self._vouched = self._identifiers(), vouched

        return put_back

    def confine_vow(self) -> None:
        """Take back that all volumes are of one patient as soon as there is one for which nobody has said so."""
        now = {node.GetID() for node in self.volumes().values()}
        if not self._parameters.samePatient:
            self._vouched = None
        elif self._vouched is None:
            self._vouched = now
        elif not now <= self._vouched:
            self._parameters.samePatient = False

    def notice(self) -> bool:
        """Mark what somebody else has changed as chosen by hand. Whether anything was: proposals follow it.

        A volume that has left the scene unheard of, as in a batch, has left: "missing" is nobody's choice then.
        """
        now = self._identifiers()
        changed = [
            sequence
            for sequence in SEQUENCES
            if now[sequence] != self._expected[sequence] and (now[sequence] or self._is_there(sequence))
        ]
        self._expected = now
        with slicer.util.NodeModify(self._parameters):
            for sequence in changed:
                setattr(self._parameters, f"byHand{sequence}", True)
        return bool(changed)

    def propose(self) -> None:
        """Fill every sequence that was not chosen by hand with the volume that is recognised as it, or with none."""
        free = [sequence for sequence in SEQUENCES if not self.by_hand(sequence)]
        theirs = {sequence: node for sequence, node in self.volumes().items() if sequence not in free}
        beside = {sequence: node for sequence, node in self.volumes().items() if sequence in free} if theirs else {}
        nodes = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if _may_be_an_image(node)]
        proposed, self.reasons = _proposals(nodes, theirs, beside)
        self._set({sequence: proposed.get(sequence) for sequence in free})

    def forget(self) -> None:
        """Drop all choices made by hand."""
        with slicer.util.NodeModify(self._parameters):
            for sequence in SEQUENCES:
                setattr(self._parameters, f"byHand{sequence}", False)

    def release(self, node: Any) -> None:
        """Let go of a node that is about to leave the scene. A selector would move on to whatever is next to it."""
        held = [sequence for sequence, volume in self.volumes().items() if volume.GetID() == node.GetID()]
        with slicer.util.NodeModify(self._parameters):
            for sequence in held:
                setattr(self._parameters, f"byHand{sequence}", False)
            self._set(dict.fromkeys(held))

    def _set(self, volumes: dict[str, Any]) -> None:
        with slicer.util.NodeModify(self._parameters):
            for sequence, node in volumes.items():
                setattr(self._parameters, f"volume{sequence}", node)
            self._expected = self._identifiers()

    def _is_there(self, sequence: str) -> bool:
        """Whether what stood for the sequence is in the scene, or nothing did."""
        expected = self._expected[sequence]
        return not expected or slicer.mrmlScene.GetNodeByID(expected) is not None

    def _volume(self, sequence: str) -> Any:
        return getattr(self._parameters, f"volume{sequence}")

    def _identifiers(self) -> dict[str, str]:
        nodes = {sequence: self._volume(sequence) for sequence in SEQUENCES}
        return {sequence: node.GetID() if node is not None else "" for sequence, node in nodes.items()}


def _proposals(
    nodes: list[Any], theirs: dict[str, Any], beside: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Sequence -> node, and node ID -> reason, from what goes with the nodes that the person has chosen already, and
    with those that stand beside them."""
    chosen = {node.GetID() for node in theirs.values()}
    free = [node for node in nodes if node.GetID() not in chosen]
    if not free:
        return {}, {}
    from ..scene.proposals import propose  # loads SimpleITK
    from ..scene.provenance import tag_value

    found = propose(free, tag_value(), theirs, beside)
    proposed = {sequence: one.node for sequence, one in found.by_sequence.items()}
    return proposed, found.reasons


def _may_be_an_image(node: Any) -> bool:
    """Leaves out what the person would not expect to be looked at: label maps, our own results, empty volumes."""
    return (
        node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetAttribute(OUTPUT_ATTRIBUTE)
        and node.GetImageData() is not None
        and node.GetImageData().GetNumberOfPoints() > 0
    )
