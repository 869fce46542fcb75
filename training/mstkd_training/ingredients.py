"""What synthetic studies are made of, read once: heads and tumour shapes; studies by number."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import splits
from .cache import Sample
from .config import Config
from .heads import SPACING as SPACING_MM
from .heads import Head, load_heads
from .shapes import Shape, load_shapes
from .synthetic_study import synthetic_study

HEADS = "label_maps.tar.xz"


@dataclass(frozen=True)
class Ingredients:
    """untreated, treated: shapes of tumours before any treatment and after a resection."""

    heads: Sequence[Head]
    untreated: Sequence[Shape]
    treated: Sequence[Shape]

    def study(self, seed: int | Sequence[int]) -> Sample:
        """See synthetic_study."""
        return synthetic_study(self.heads, self.untreated, self.treated, seed)


def read(source: Path, cache: Path, without: Collection[str] = ()) -> Ingredients:
    """From the archives in `source`; the heads are kept in `<cache>/heads`, which takes a minute the first time.

    Args:
        without: patients whose tumour shapes shall not be used.

    Raises:
        FileNotFoundError: an archive is missing.
    """
    return Ingredients(load_heads(source / HEADS, cache / "heads"), *load_shapes(source, without))


def for_training(config: Config) -> Ingredients | None:
    """As the configuration wants, without the shapes of patients that test or validate; None if it wants none.

    Raises:
        ValueError: the working grid is not the one that synthetic studies have.
        FileNotFoundError: an archive is missing.
    """
    data = config.data
    if not data.synthetic:
        return None
    if data.spacing != SPACING_MM:
        raise ValueError(
            f"data.synthetic={data.synthetic:g} with data.spacing={data.spacing:g}: synthetic studies have "
            f"{SPACING_MM:g} mm; set data.spacing={SPACING_MM:g}, or data.synthetic=0"
        )
    return read(data.source, data.cache, splits.kept_apart(config))
