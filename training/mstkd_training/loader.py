"""From the prepared data to the batches of each step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from . import cache, ingredients, patches, splits
from .config import Config
from .data import TrainingSet
from .distributed import Schedule, World
from .processes import loading

Batch = dict[str, Tensor]
AHEAD = 2
"""Batches that each process has ready; at full resolution one holds a hundred megabytes."""


def studies(config: Config) -> tuple[Sequence[cache.Sample], Sequence[cache.Sample]]:
    """Those to train with and those to validate with.

    Raises:
        FileNotFoundError: they are not prepared.
    """
    data, parts = config.data, splits.read(config)
    training, validation = (
        cache.samples(data.cache, patients, data.in_memory) if patients else []
        for patients in (parts.training, parts.validation)
    )
    return training, validation


def batches(config: Config, world: World, training: Sequence[cache.Sample], first_step: int) -> Iterator[list[Batch]]:
    """The batches of each step from `first_step` on, `optim.accumulate` of them; see TrainingSet for what they hold."""
    optim = config.optim
    lesions = patches.read(config) if config.data.patches else []
    schedule = Schedule(world, optim.batch, optim.accumulate, first_step, optim.steps)
    made = ingredients.for_training(config)
    items = TrainingSet(training, lesions, config, schedule.samples_per_step, made)
    loader = iter(
        DataLoader(
            items,
            batch_sampler=schedule,
            num_workers=optim.workers,
            prefetch_factor=AHEAD if optim.workers else None,
            worker_init_fn=loading,
            pin_memory=world.device.type == "cuda",
            # its own generator: starting the loader must not draw from the one of dropout, or a resume differs
            generator=torch.Generator(),
        )
    )
    for _ in range(first_step, optim.steps):
        yield [next(loader) for _ in range(optim.accumulate)]
