"""What speaks against segmenting the chosen volumes together, to be said before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ..engine.checking import check_image
from ..engine.errors import SAY_SO, UnusableInput
from ..engine.sequences import in_channel_order
from ..engine.study import LEAST_OVERLAP, SequenceImage, Study, conflicts, overlap
from .provenance import TagValue, apart, other_patient, provenance
from .recognition import recognise_volume
from .volumes import image_from_volume, state

BLOCKS, WARNS = "blocks", "warns"

_USUAL_OVERLAP = 0.75
"""Share of the smaller field of view that two images of one head have in common, also if the patient moved."""


@dataclass(frozen=True)
class Concern:
    """One thing that should be looked at.

    Attributes:
        severity: "blocks" if a segmentation would be refused, "warns" if it would only be doubtful.
        text: what is wrong with which volumes, and what to do; for the reader of the panel.
    """

    severity: str
    text: str


class Memory:
    """What the voxels of the volumes last asked about have said: they are read again only when something changed."""

    def __init__(self) -> None:
        self._states: dict[str, tuple[Any, ...]] | None = None
        self._said: list[Concern] = []

    def in_voxels(self, chosen: Mapping[str, Any]) -> list[Concern]:
        """What the voxels and their places say against the volume nodes, by sequence."""
        states = {sequence: state(node) for sequence, node in chosen.items()}
        if states != self._states:
            self._said = list(_in_voxels(chosen))
            self._states = states
        return self._said


def concerns(
    volumes: Mapping[str, Any],
    tag_value: TagValue | None = None,
    same_patient: bool = False,
    memory: Memory | None = None,
) -> list[Concern]:
    """Everything that speaks against the volume nodes chosen, by sequence; what blocks comes first.

    Args:
        volumes: volume nodes by sequence, any subset of ``SEQUENCES``.
        tag_value: see ``recognise_volume``.
        same_patient: the volumes are of one patient whatever is known of them.
        memory: of an earlier call.

    Raises:
        KeyError: a key that is not one of ``SEQUENCES``.
    """
    chosen = {sequence: volumes[sequence] for sequence in in_channel_order(volumes)}
    found = (memory or Memory()).in_voxels(chosen) + hearsay(chosen, tag_value, same_patient)
    return sorted(found, key=lambda one: one.severity != BLOCKS)


def _in_voxels(chosen: Mapping[str, Any]) -> Iterator[Concern]:
    images: dict[str, SequenceImage] = {}
    for sequence, node in chosen.items():
        name = f"'{node.GetName()}'"
        try:
            image, notes = check_image(image_from_volume(node), name)
        except UnusableInput as error:
            yield Concern(BLOCKS, str(error))
        else:
            yield from (Concern(WARNS, note) for note in notes)
            images[sequence] = SequenceImage(sequence, image, name, "chosen")
    yield from (Concern(BLOCKS, text) for text in conflicts(Study(images)))
    yield from (Concern(WARNS, text) for text in _off_centre(images))


def hearsay(volumes: Mapping[str, Any], tag_value: TagValue | None = None, same_patient: bool = False) -> list[Concern]:
    """What names, DICOM headers and the subject hierarchy say against them; for the arguments see ``concerns``."""
    chosen = {sequence: volumes[sequence] for sequence in in_channel_order(volumes)}
    found = [Concern(WARNS, text) for text in _other_sequences(chosen, tag_value)]
    return found + list(_apart(chosen, tag_value, same_patient))


def _other_sequences(chosen: Mapping[str, Any], tag_value: TagValue | None) -> Iterator[str]:
    for sequence, node in chosen.items():
        seen = recognise_volume(node, tag_value)
        if seen.sequence is not None and seen.sequence != sequence:
            yield (
                f"'{node.GetName()}' is chosen as {sequence}, but looks like {seen.sequence} ({seen.reason}). "
                "Check the choice."
            )


def _apart(chosen: Mapping[str, Any], tag_value: TagValue | None, same_patient: bool) -> Iterator[Concern]:
    origins = {sequence: provenance(node, tag_value) for sequence, node in chosen.items()}
    for first, second in combinations(chosen, 2):
        why = apart(origins[first], origins[second])
        if why is None:
            continue
        text = (
            f"'{chosen[first].GetName()}' ({first}) and '{chosen[second].GetName()}' ({second}) {why}. "
            "Choose volumes of one patient and one examination, or leave one of them out."
        )
        if other_patient(origins[first], origins[second]) and not same_patient:
            yield Concern(BLOCKS, f"{text} If they are of one patient all the same, {SAY_SO}")
        else:
            yield Concern(WARNS, text)


def _off_centre(images: Mapping[str, SequenceImage]) -> Iterator[str]:
    for first, second in combinations(images.values(), 2):
        shared = overlap(first.image, second.image)
        if LEAST_OVERLAP <= shared < _USUAL_OVERLAP:
            yield (
                f"{first.source} ({first.sequence}) and {second.source} ({second.sequence}) share only {shared:.0%} of "
                "the smaller field of view. Look at both in one slice view: if the heads do not lie about the same "
                "place, one has lost its position; export it again or leave it out."
            )
