"""The four MRI sequences, their 15 subsets, and (from ``names`` and ``dicom_tags``) the recognition of a sequence."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import combinations

from .dicom_tags import recognise_dicom
from .names import Recognition, recognise_name

__all__ = [
    "SEQUENCES",
    "SUBSETS",
    "Recognition",
    "in_channel_order",
    "parse_subset",
    "presence",
    "recognise_dicom",
    "recognise_name",
    "subset_name",
]

SEQUENCES: tuple[str, ...] = ("FLAIR", "T1", "T1ce", "T2")
"""Channel order of every multi-channel array, of the network's input and of a subset's name."""

SUBSETS: tuple[tuple[str, ...], ...] = tuple(
    subset for size in range(1, len(SEQUENCES) + 1) for subset in combinations(SEQUENCES, size)
)
"""The 15 non-empty subsets: single sequences, pairs, triples, all four; each in channel order."""


def in_channel_order(sequences: Iterable[str]) -> tuple[str, ...]:
    """The given sequences, each once, in channel order.

    Raises:
        KeyError: for a name that is not one of ``SEQUENCES`` (a programming error, spelling matters).
    """
    given = set(sequences)
    unknown = given - set(SEQUENCES)
    if unknown:
        msg = f"unknown sequence {min(unknown)!r}; known are {', '.join(SEQUENCES)}"
        raise KeyError(msg)
    return tuple(sequence for sequence in SEQUENCES if sequence in given)


def subset_name(sequences: Iterable[str]) -> str:
    """The subset as it is written everywhere, e.g. ``FLAIR+T1ce``."""
    return "+".join(in_channel_order(sequences))


def parse_subset(text: str) -> tuple[str, ...]:
    """The subset that ``text`` names: sequences in any order and case, separated by ``+``, commas or blanks.

    Raises:
        ValueError: nothing named, or a name that is not one of ``SEQUENCES``.
    """
    by_lower = {sequence.lower(): sequence for sequence in SEQUENCES}
    words = [word for word in re.split(r"[+,\s]+", text.strip()) if word]
    unknown = [word for word in words if word.lower() not in by_lower]
    if unknown or not words:
        what = f"{unknown[0]!r} is not a sequence" if unknown else "no sequence is named"
        msg = f"{what} in the subset {text!r}; write e.g. FLAIR+T1ce, from {', '.join(SEQUENCES)}"
        raise ValueError(msg)
    return in_channel_order(by_lower[word.lower()] for word in words)


def presence(sequences: Iterable[str]) -> tuple[bool, bool, bool, bool]:
    """For each channel, whether its sequence is in the subset."""
    given = in_channel_order(sequences)
    flair, t1, t1ce, t2 = (sequence in given for sequence in SEQUENCES)
    return flair, t1, t1ce, t2
