"""Which volume of a scene to take for which sequence. A proposal only: what the user has chosen always wins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from ..engine.sequences import SEQUENCES
from .provenance import Provenance, TagValue, apart, provenance
from .recognition import EVIDENCE, Seen, recognise_volume
from .stems import agree, stem


@dataclass(frozen=True)
class Proposal:
    """A volume node proposed for a sequence, and why."""

    node: Any
    reason: str


@dataclass
class Proposals:
    """What was found in a scene.

    Attributes:
        by_sequence: at most one proposal for each sequence, in channel order; no node is used twice.
        reasons: node ID -> what the volume was taken for, or why not, for every node that was given.
    """

    by_sequence: dict[str, Proposal] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def propose(
    nodes: Sequence[Any],
    tag_value: TagValue | None = None,
    chosen: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> Proposals:
    """Volumes of one study for the sequences that are recognised; see ``recognise_volume`` for the evidence.

    Of several studies or patients in the scene the one with most sequences is taken, then the one that is recognised
    on better evidence, then the latest. Of several volumes of one sequence, the one with better evidence, then with
    thinner slices, then with smaller voxels.

    Args:
        nodes: volume nodes of one scene, in its order.
        tag_value: see ``recognise_volume``.
        chosen: volume nodes by sequence that the user has chosen, none of them in ``nodes``; what is proposed goes with
            them.
        beside: volume nodes by sequence, among ``nodes``, that the user has seen proposed beside the chosen ones. Where
            these have names that tell nothing, what is proposed goes with the names of those.
    """
    theirs = _given(chosen or {}, tag_value)
    proposals, candidates = Proposals(), []
    for node in nodes:
        origin = provenance(node, tag_value)
        why = next(filter(None, (apart(origin, one.provenance) for one in theirs)), None)
        if why is not None:
            proposals.reasons[node.GetID()] = f"Not proposed: it and your choice {why}"
            continue
        seen = recognise_volume(node, tag_value)
        proposals.reasons[node.GetID()] = f"Not proposed: {seen.reason}"
        if seen.sequence is not None:
            candidates.append(_Candidate(node, seen, origin, stem(node.GetName() or "")))
    best = _one_study(candidates, theirs, _given(beside or {}, tag_value))
    for sequence in SEQUENCES:
        alike = [one for one in candidates if one.seen.sequence == sequence]
        taken = best.get(sequence)
        for one in alike:
            proposals.reasons[one.node.GetID()] = _reason(one, taken, alike)
        if taken is not None:
            proposals.by_sequence[sequence] = Proposal(taken.node, proposals.reasons[taken.node.GetID()])
    return proposals


@dataclass(frozen=True)
class _Candidate:
    node: Any
    seen: Seen
    provenance: Provenance
    stem: frozenset[str]  # what its name says besides the kind of image, e.g. the patient's name

    def rank(self) -> tuple[float, ...]:
        """Smaller is better: evidence, slice thickness (mm), voxel volume (mm^3)."""
        spacing = self.node.GetSpacing()
        return EVIDENCE.index(self.seen.evidence), round(max(spacing), 3), round(float(np.prod(spacing)), 3)


def _given(nodes: Mapping[str, Any], tag_value: TagValue | None) -> list[_Candidate]:
    return [
        _Candidate(node, Seen(sequence, "chosen"), provenance(node, tag_value), stem(node.GetName() or ""))
        for sequence, node in nodes.items()
    ]


def _one_study(
    candidates: Sequence[_Candidate], chosen: Sequence[_Candidate], beside: Sequence[_Candidate]
) -> dict[str, _Candidate]:
    """By sequence, the best set of candidates that may be one study together with what the user has chosen."""
    stems_matter = _contradicting_stems(candidates)
    telling = [other for other in chosen if _tells(other, candidates)]
    if not telling:  # but those chosen may contradict the others by what is known of them
        fit = [one for one in beside if all(apart(one.provenance, other.provenance) is None for other in chosen)]
        telling = [other for other in fit if _tells(other, candidates)]
    fitting = [one for one in candidates if all(_goes_with(one, other) for other in telling)]
    best: dict[str, _Candidate] = {}
    for anchor in fitting:
        together = {anchor.seen.sequence: anchor}
        for one in sorted(fitting, key=lambda one: (not _same_study(anchor, one), *one.rank())):
            if one.seen.sequence not in together and all(
                _belong_together(one, other, stems_matter) for other in together.values()
            ):
                together[one.seen.sequence] = one
        if not best or _score(together) > _score(best):
            best = together
    return best


def _score(together: dict[str, _Candidate]) -> tuple[Any, ...]:
    """Larger is better."""
    evidence, thickness, volume = np.sum([one.rank() for one in together.values()], axis=0)
    studies = {one.provenance.study for one in together.values() if one.provenance.study}
    latest = max((one.provenance.day for one in together.values() if one.provenance.day), default=date.min)
    return len(together), -len(studies), -evidence, latest, -thickness, -volume


def _same_study(first: _Candidate, second: _Candidate) -> bool:
    return bool(first.provenance.study) and first.provenance.study == second.provenance.study


def _belong_together(first: _Candidate, second: _Candidate, stems_matter: bool) -> bool:
    if apart(first.provenance, second.provenance) is not None:
        return False
    return _same_study(first, second) or not (stems_matter and first.stem and second.stem and first.stem != second.stem)


def _tells(theirs: _Candidate, candidates: Sequence[_Candidate]) -> bool:
    """Whether the name that the user has chosen tells studies apart: it is like others, which contradict each other."""
    alike = any(theirs.stem & other.stem for other in candidates)
    return alike and _contradicting_stems([*candidates, theirs])


def _goes_with(one: _Candidate, theirs: _Candidate) -> bool:
    return _same_study(one, theirs) or agree(one.stem, theirs.stem)


def _contradicting_stems(candidates: Sequence[_Candidate]) -> bool:
    """Whether two volumes for one sequence carry different names, as those of two patients or of two dates do."""
    return any(
        one.seen.sequence == other.seen.sequence and one.stem and other.stem and one.stem != other.stem
        for one in candidates
        for other in candidates
    )


def _reason(one: _Candidate, taken: _Candidate | None, alike: Sequence[_Candidate]) -> str:
    said = f"{one.seen.sequence}: {one.seen.reason}"
    others = [f"'{other.node.GetName()}'" for other in alike if other is not one]
    if one is taken:
        return f"{said}. Also taken for {one.seen.sequence}: {', '.join(others)}" if others else said
    if taken is None:
        return f"{said}. Not proposed: it and the volumes proposed or chosen are not of one study"
    why = apart(one.provenance, taken.provenance)
    because = f"the two {why}" if why else f"of several {one.seen.sequence} one is enough"
    return f"{said}. Not proposed, but '{taken.node.GetName()}' is: {because}"
