"""One process or many: `torchrun` starts them, this file tells each of them who it is."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import NoReturn

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Sampler

PATIENCE = timedelta(hours=12)
"""How long processes wait for each other: the first one validates all studies while the others stand still."""


@dataclass(frozen=True)
class World:
    """rank and size over all nodes; device: this process's own."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes files and validates."""
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """With gradients averaged over the processes, if there are several."""
        if self.size == 1:
            return module
        where = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=where)

    def anyone(self, flag: bool) -> bool:
        """Whether the flag is set in any process; all of them must ask."""
        if self.size == 1:
            return flag
        votes = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX)
        return bool(votes.item())

    def gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        """The value of every process by rank; all of them must ask."""
        if self.size == 1:
            return [value]
        values: list[torch.Tensor | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def leave(self, code: int) -> NoReturn:
        """End this process with that exit code; all that it has to write must be written."""
        if self.size > 1:
            # a thread of gloo that lets go of a tensor while Python shuts down ends in SIGABRT now and then, and
            # destroy_process_group does not wait for such threads (PyTorch issue 190489): so without shutting down
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        sys.exit(code)


def join(device: str) -> World:
    """Join the processes that torchrun started, or be alone.

    Args:
        device: "auto", "cpu", "cuda" or "mps"; auto takes CUDA where it is, else the CPU.
    """
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    size = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if kind == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if kind == "cuda" else "gloo", timeout=PATIENCE)
    return World(int(os.environ.get("RANK", "0")), size, chosen)


class Schedule(Sampler[list[int]]):
    """Batches of sample numbers for one process, from any step on.

    Step s uses the samples s G ... s G + G - 1, G = batch x accumulate x processes, however they are divided: two
    processes with one sample each see what one process with two sees.
    """

    def __init__(self, world: World, batch: int, accumulate: int, first_step: int, steps: int) -> None:
        self.world, self.batch, self.accumulate = world, batch, accumulate
        self.first_step, self.steps = first_step, steps

    @property
    def samples_per_step(self) -> int:
        return self.batch * self.accumulate * self.world.size

    def __len__(self) -> int:
        return (self.steps - self.first_step) * self.accumulate

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            for micro in range(self.accumulate):
                start = step * self.samples_per_step + (micro * self.world.size + self.world.rank) * self.batch
                yield list(range(start, start + self.batch))
