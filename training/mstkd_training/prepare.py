"""Raw data -> cache: every case checked, then brought to the working grid by the engine; fingerprint and splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.harmonise import Harmonised, harmonise
from MSTKDSegmenterLib.engine.study import study_from_files
from tqdm import tqdm

from . import cache, examination, fingerprint, patches, splits
from .cases import Case, Problems, refuse, search
from .class_map import class_map
from .config import Config, DataConfig
from .examination import Facts
from .processes import one_thread

MULTIPLE = 8
"""The sides of the working grid are multiples of this many voxels."""

Each = Callable[[Callable[[Case], Any], Sequence[Case]], Iterator[Any]]
"""A map over cases, in this process or in several."""


def prepare(config: Config) -> None:
    """Write cache.json, studies/*.npz, patches/*.npz, fingerprint.json and the splits into `data.cache`.

    A run that was interrupted is continued: what is there is kept, unless a case's files have changed since.

    Raises:
        BadCases: cases that cannot be used, and `data.skip_bad` is not set.
        ValueError: the cache or its splits were made with other settings, or the data have another layout.
        FileNotFoundError: the data are not there.
    """
    data = config.data
    if data.patches:
        patches.check(data)
    cache.claim(data)
    cases, problems = search(data)
    with _processes(data.workers) as each:
        facts = _examined(cases, problems, data, each)
        cases = [case for case in cases if case.name not in problems]
        refuse(problems, data, left=len(cases))
        splits.agree((case.patient for case in cases), config)  # a mistake in the names shall not wait for the studies
        _studies(cases, problems, data, each)
    cases = [case for case in cases if case.name not in problems]
    refuse(problems, data, left=len(cases))
    if data.patches:
        patches.prepare(data)
    fingerprint.write(fingerprint.fingerprint(cases, facts, problems, data), data)
    patients = [case.patient for case in cases]
    made = splits.agree(patients, config)
    splits.write(made, config)
    for fold in map(config.of_fold, range(len(data.folds))):
        splits.write(splits.agree(patients, fold), fold)
    print(
        f"{data.cache}: {len(cases)} studies of {len(made.patients)} patients; {len(made.training)} to train with, "
        f"{len(made.validation)} to validate with, {len(made.test)} to test with, {len(made.omitted)} omitted; "
        f"{len(problems)} cases left out"
    )


def target(case: Case, data: DataConfig) -> Path:
    """Where a case is kept."""
    return data.cache / "studies" / f"{case.name}.npz"


def read_study(case: Case, data: DataConfig) -> cache.Sample:
    """A case on the working grid, through the engine's own way in.

    Raises:
        UnusableInput: the engine finds no brain, or the sequences are not of one head.
    """
    harmonised, labels = on_working_grid(case, data)
    return cache.Sample(
        case.patient, harmonised.channels.astype(np.float16), harmonised.brain, labels, np.array(harmonised.grid.origin)
    )


def on_working_grid(case: Case, data: DataConfig) -> tuple[Harmonised, np.ndarray]:
    """A case as the engine brings it to the working grid, and its classes, uint8 (z, y, x). Raises as read_study."""
    harmonised = harmonise(study_from_files(case.images), data.spacing, MULTIPLE)
    return harmonised, class_map(sitk.ReadImage(str(case.labels)), harmonised.grid, data.convention)


def _examined(cases: Sequence[Case], problems: Problems, data: DataConfig, each: Each) -> dict[str, Facts]:
    """The facts of the sound cases; what is wrong with the others is added to `problems`."""
    known = examination.read(data.cache)
    unchanged = {case.name: known[case.name] for case in cases if _unchanged(case, known)}
    facts = {name: one for name, one in unchanged.items() if one.sha256}
    new = [case for case in cases if case.name not in facts]
    for case, result in _progress(each, partial(examination.examine, convention=data.convention), new, "checking"):
        if case.name not in unchanged:
            target(case, data).unlink(missing_ok=True)  # made from files that have changed
        if isinstance(result, Facts):
            facts[case.name] = result
        else:
            problems[case.name] = result
    examination.write(facts, data.cache)
    return facts


def _unchanged(case: Case, facts: dict[str, Facts]) -> bool:
    return case.name in facts and facts[case.name].files == examination.files_of(case)


def _studies(cases: Sequence[Case], problems: Problems, data: DataConfig, each: Each) -> None:
    """Prepare what is not there yet; what the engine refuses is added to `problems`."""
    missing = [case for case in cases if not target(case, data).exists()]
    for case, refusal in _progress(each, partial(_prepare_study, data=data), missing, "studies"):
        if refusal:
            problems[case.name] = [refusal]


def _prepare_study(case: Case, data: DataConfig) -> str | None:
    """Write one study; returns why it is refused."""
    try:
        cache.save(read_study(case, data), target(case, data))
    except UnusableInput as error:
        return str(error)
    return None


def _progress(each: Each, work: Callable[[Case], Any], cases: Sequence[Case], what: str) -> Iterator[tuple[Case, Any]]:
    """Pairs of a case and its result, with a bar if there is anything to do."""
    results = tqdm(each(work, cases), total=len(cases), desc=what, disable=not cases)
    return zip(cases, results, strict=True)


@contextmanager
def _processes(count: int) -> Iterator[Each]:
    if count == 1:
        yield map
        return
    # not forked: the threads of ITK and torch do not survive that
    with ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=one_thread) as pool:
        try:
            yield pool.map
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
