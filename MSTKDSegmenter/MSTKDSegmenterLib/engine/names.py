"""Which sequence a file name or a series description stands for.

A name is cut into words. Words that are known describe an image (weighting, contrast agent, plane, technique); a word
that is not known is taken for part of a patient's or study's name and separates what stands left and right of it, so
that ``TCGA-T1-0001_flair`` is a FLAIR and not a "T1 FLAIR". The last group of known words decides.
What stays ambiguous stays undecided: a sequence taken for another is worse than one that has to be named by hand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .words import (
    FLAIR,
    GRADIENT_ECHO,
    OTHER_KIND,
    REGION_NAMES,
    T1,
    T1_TECHNIQUES,
    T2,
    WITH_AGENT,
    WITHOUT_AGENT,
    describe,
    is_mask,
    known_word,
    tells,
)


@dataclass(frozen=True)
class Recognition:
    """What a name or a header was taken for.

    Attributes:
        sequence: one of ``SEQUENCES``, or None.
        reason: what the decision, or the lack of one, rests on.
        excluded: True where the image is certainly none of the four (a mask, a diffusion image ...), in contrast to
            one about which nothing could be said.
    """

    sequence: str | None
    reason: str
    excluded: bool = False


@dataclass(frozen=True)
class NameFacts:
    """What a name says by itself: weighting (FLAIR, T1, T2 or None), contrast agent (None: not mentioned)."""

    weighting: str | None
    contrast: bool | None
    reason: str
    excluded: bool = False


def recognise_name(name: str) -> Recognition:
    """The sequence that a file name (ending included or not) or a series description stands for.

    Never a path: a ``/`` is an ordinary character, as in the series description ``sT2W/FLAIR``.
    """
    facts = read_name(name)
    if facts.weighting == "T1" and facts.contrast:
        return Recognition("T1ce", facts.reason)
    return Recognition(facts.weighting, facts.reason, facts.excluded)


def read_name(name: str) -> NameFacts:
    """What ``name`` says about weighting and contrast agent, see the head of this file."""
    words = describe(name)
    masks = [word for word in words if is_mask(word)]
    if masks:
        return NameFacts(None, None, f"'{masks[0]}' names a mask or an outline, not a sequence", excluded=True)
    last = next((word for word in reversed(words) if not word.isdigit()), "")
    if last in REGION_NAMES:
        return NameFacts(None, None, f"'{last}' names a region or a mask, not a sequence", excluded=True)
    groups = _groups(words)
    telling = [index for index, group in enumerate(groups) if any(map(tells, group.words))]
    if not telling:
        return NameFacts(None, _contrast(words)[0], _nothing(name, words))
    group = groups[telling[-1]]
    facts = _weighting(group)
    if facts.weighting != "T1":
        return facts
    here_or_later = [word for later in groups[telling[-1] :] for word in later.words]
    earlier = [word for before in groups[: telling[-1]] for word in before.words]
    contrast, contradicts = _contrast(here_or_later)
    if contradicts:
        return NameFacts(None, None, f"{facts.reason}, both with and without contrast agent: undecided")
    if contrast is None and any(word in WITH_AGENT for word in earlier):
        word = next(word for word in earlier if word in WITH_AGENT)
        return NameFacts(None, None, f"{facts.reason}, but '{word}' may mean contrast agent or be part of a name")
    with_agent = {True: " with contrast agent", False: " without contrast agent", None: ""}[contrast]
    return NameFacts("T1", contrast, facts.reason + with_agent)


@dataclass(frozen=True)
class _Group:
    words: tuple[str, ...]
    after_unknown: bool
    """Whether a word that is part of no image description, e.g. a patient's name, stands directly before."""


def _groups(words: list[str]) -> list[_Group]:
    groups: list[_Group] = []
    current: list[str] = []
    unknown_before = False
    for word in [*words, ""]:
        if word and known_word(word):
            current.append(word)
            continue
        if current:
            groups.append(_Group(tuple(current), unknown_before))
            current = []
        unknown_before = bool(word) and not word.isdigit()
    return groups


def _weighting(group: _Group) -> NameFacts:
    """What the words of one group say together, contrast agent aside."""
    others = [word for word in group.words if word in OTHER_KIND]
    if others:
        return NameFacts(None, None, f"'{others[0]}' names {OTHER_KIND[others[0]]}, none of the four", excluded=True)
    said = [word for word in group.words if word in T1 | T2 | FLAIR]
    kinds = {_kind(word) for word in said}
    starts_with_it = bool(said) and group.words[0] == said[0]
    if group.after_unknown and starts_with_it and "T1" in kinds and len(kinds) > 1 and said[0] not in FLAIR:
        if kinds == {"T1", "FLAIR"}:
            return NameFacts(None, None, "'t1' may belong to the patient's name or to a T1 FLAIR: undecided")
        kinds = {_kind(word) for word in said[1:]}
    quoted = ", ".join(f"'{word}'" for word in dict.fromkeys(said)) or next(
        f"'{word}'" for word in group.words if word in T1_TECHNIQUES
    )
    if kinds == {"T2"} and any(word in GRADIENT_ECHO for word in group.words):
        return NameFacts(None, None, f"{quoted} by gradient echo is T2*, none of the four", excluded=True)
    if kinds == {"T2"} and {"tir", "ir"} & {*group.words}:
        return NameFacts(None, None, f"{quoted} with inversion recovery may be FLAIR or STIR: undecided")
    if "T1" in kinds and "FLAIR" in kinds and group.words[:2] == ("gd", "t1"):
        return NameFacts(None, None, "'flair' after a T1 with contrast agent, which may be a patient's name: undecided")
    if "T1" in kinds and said[0] in FLAIR:
        return NameFacts(None, None, "'flair' before 't1' may be a T1 FLAIR or a FLAIR on the T1's grid: undecided")
    if {"T1", "T2"} <= kinds:
        return NameFacts(None, None, f"{quoted} contradict each other: undecided")
    if "T1" in kinds or not kinds:  # a "T1 FLAIR" is T1-weighted: its inversion time nulls fluid, not its echo time
        return NameFacts("T1", None, f"named {quoted}")
    return NameFacts("FLAIR" if "FLAIR" in kinds else "T2", None, f"named {quoted}")


def _kind(word: str) -> str:
    return "T1" if word in T1 else "T2" if word in T2 else "FLAIR"


def _contrast(words: list[str]) -> tuple[bool | None, bool]:
    """With or without contrast agent (None: not said), and whether the words contradict each other about it."""
    post = any(word in WITH_AGENT for word in words)
    pre = any(word in WITHOUT_AGENT for word in words)
    contradicts = (post and pre) or ("wandwo" in words and not post and not pre)
    return (None if contradicts or not (post or pre) else post), contradicts


def _nothing(name: str, words: list[str]) -> str:
    if re.search(r"(?:^|_)000[0-3](?:\.|$)", name):
        return "a channel number says nothing by itself: its meaning differs between data sets"
    if any(word in WITH_AGENT for word in words):
        return "contrast agent is named, but no weighting"
    return "the name holds no sequence"
