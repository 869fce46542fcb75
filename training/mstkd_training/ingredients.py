"""What synthetic studies are made of, read once: heads and tumour shapes; studies by number."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import splits
from .cache import Load, Sample, save
from .config import Config
from .heads import SPACING as SPACING_MM
from .heads import Head, load_heads
from .identity import all_names
from .shapes import Shape, load_shapes
from .synthetic_study import synthetic_study

HEADS = "label_maps.tar.xz"
FORMAT = 2
"""Goes up whenever the same number would give another synthetic study."""


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


@dataclass(frozen=True)
class Pool:
    """Number -> study, of as many as `size`; a class, as a loader's processes that are not forked get it pickled."""

    made: Ingredients
    folder: Path
    size: int

    def __call__(self, number: int) -> Sample:
        path = self.folder / f"{number % self.size:05d}.npz"
        if not path.exists():
            save(self.made.study(int(path.stem)), path)
        return Load()(path)


def for_training(config: Config) -> Pool | None:
    """`data.synthetic_pool` studies that are made when first wanted and kept in the cache; None: no such.

    No tumour shape is of a patient who is there with a whole study, so that all splits can share the studies.

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
    without = all_names(splits.read(config).patients, data)
    made = read(data.source, data.cache, without)
    told = hashlib.sha256(" ".join([str(FORMAT), *sorted(without)]).encode()).hexdigest()
    return Pool(made, data.cache / "synthetic" / told[:12], data.synthetic_pool)
