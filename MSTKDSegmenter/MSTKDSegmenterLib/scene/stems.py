"""What names of volumes tell besides the kind of image: of which patient, of which day."""

from __future__ import annotations

import re

from ..engine.study import bids_entity
from ..engine.words import describe, known_word, phrases_replaced

_NUMBERED = re.compile(r"(series|ser|se)?\d{1,3}")


def stem(name: str) -> frozenset[str]:
    """The words of a name that describe no image, e.g. the patient's name; of a name as in BIDS, subject and session.

    Numbers of series and copies do not count.
    """
    subject = bids_entity(name, "sub")
    if subject:
        return frozenset(filter(None, [subject, bids_entity(name, "ses")]))
    words = re.findall(r"[^\W_]+", phrases_replaced(name.lower().replace("_", " ")))
    return frozenset(
        word for word in words if not _NUMBERED.fullmatch(word) and not all(known_word(part) for part in describe(word))
    )


def agree(first: frozenset[str], second: frozenset[str]) -> bool:
    """Whether one name says no more than the other (pat1_flair_denoised); pat1_2023_flair and pat1_2024_t2 do both."""
    return first <= second or second <= first
