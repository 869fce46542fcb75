"""What speaks against segmenting the chosen volumes together, to be said before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ..engine.checking import check_image
from ..engine.errors import SAY_SO, UnusableInput
from ..engine.sequences import in_channel_order, recognise_name
from ..engine.study import LEAST_OVERLAP, SequenceImage, Study, conflicts, overlap
from .attributes import no_input
from .provenance import TagValue, apart, known_together, other_patient, provenance
from .recognition import recognise_volume
from .stems import agree, stem
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
    """What voxels and places of the volumes last asked about have said, each by itself and each pair: of a volume or a
    pair that has not changed since nothing is read again."""

    def __init__(self) -> None:
        self._said: dict[tuple[Any, ...], list[Concern]] = {}

    def in_voxels(self, chosen: Mapping[str, Any]) -> list[Concern]:
        """What the voxels and their places say against the volume nodes, by sequence."""
        states = {sequence: (sequence, *state(node)) for sequence, node in chosen.items()}
        read = _Read(chosen)
        said: dict[tuple[Any, ...], list[Concern]] = {}
        for sequence, key in states.items():
            said[key] = self._said[key] if key in self._said else read.of_one(sequence)
        sound = [sequence for sequence, key in states.items() if all(one.severity != BLOCKS for one in said[key])]
        for first, second in combinations(sound, 2):
            key = (states[first], states[second])
            said[key] = self._said[key] if key in self._said else read.of_two(first, second)
        self._said = said
        return [one for found in said.values() for one in found]


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


class _Read:
    """What is read of volume nodes, by sequence, each once at most."""

    def __init__(self, chosen: Mapping[str, Any]) -> None:
        self._chosen = chosen
        self._checked: dict[str, tuple[SequenceImage, list[str]]] = {}

    def of_one(self, sequence: str) -> list[Concern]:
        """What speaks against a volume alone."""
        why = no_input(self._chosen[sequence], sequence)
        if why is not None:
            return [Concern(BLOCKS, why)]
        try:
            _, notes = self._check(sequence)
        except UnusableInput as error:
            return [Concern(BLOCKS, str(error))]
        return [Concern(WARNS, note) for note in notes]

    def of_two(self, first: str, second: str) -> list[Concern]:
        """What speaks against two volumes together, each of which can be used by itself."""
        images = {sequence: self._check(sequence)[0] for sequence in (first, second)}
        found = [Concern(BLOCKS, text) for text in conflicts(Study(images))]
        return found + [Concern(WARNS, text) for text in _off_centre(*images.values())]

    def _check(self, sequence: str) -> tuple[SequenceImage, list[str]]:
        if sequence not in self._checked:
            name = f"'{self._chosen[sequence].GetName()}'"
            image, notes = check_image(image_from_volume(self._chosen[sequence]), name)
            self._checked[sequence] = SequenceImage(sequence, image, name, "chosen"), notes
        return self._checked[sequence]


def hearsay(volumes: Mapping[str, Any], tag_value: TagValue | None = None, same_patient: bool = False) -> list[Concern]:
    """What names, DICOM headers and the subject hierarchy say against them; for the arguments see ``concerns``."""
    chosen = {sequence: volumes[sequence] for sequence in in_channel_order(volumes)}
    found = [Concern(WARNS, text) for text in _other_sequences(chosen, tag_value)]
    found += _apart(chosen, tag_value, same_patient)
    return found if same_patient else found + [Concern(WARNS, text) for text in _named_apart(chosen, tag_value)]


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


def _named_apart(chosen: Mapping[str, Any], tag_value: TagValue | None) -> Iterator[str]:
    """Names as of two patients or days, where nothing else tells whether they are of one.

    Only names that tell the sequence: what else they say is seldom chance, as it is in "scan" and "output".
    """
    names = {sequence: node.GetName() or "" for sequence, node in chosen.items()}
    telling = [sequence for sequence, name in names.items() if recognise_name(name).sequence is not None]
    differing: set[str] = set()
    for pair in combinations(telling, 2):
        origins = [provenance(chosen[one], tag_value) for one in pair]
        if not (known_together(*origins) or apart(*origins) or agree(*(stem(names[one]) for one in pair))):
            differing.update(pair)
    if differing:
        named = [f"'{names[one]}' ({one})" for one in telling if one in differing]
        yield (
            f"The names of {', '.join(named[:-1])} and {named[-1]} differ in more than the sequence. Make sure that "
            "they are of one patient and one examination."
        )


def _off_centre(first: SequenceImage, second: SequenceImage) -> Iterator[str]:
    shared = overlap(first.image, second.image)
    if LEAST_OVERLAP <= shared < _USUAL_OVERLAP:
        yield (
            f"{first.source} ({first.sequence}) and {second.source} ({second.sequence}) share only {shared:.0%} of "
            "the smaller field of view. Look at both in one slice view: if the heads do not lie about the same "
            "place, one has lost its position; export it again or leave it out."
        )
