"""Checkpoints: written whole or not at all, and complete enough to continue bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .files import atomically


def save(state: dict[str, Any], path: Path) -> None:
    """Write beside the target and move it there, so that an interrupted run leaves the previous checkpoint."""
    with atomically(path) as partial:
        torch.save(state, partial)


def load(path: Path) -> dict[str, Any]:
    """Tensors, in main memory wherever they come from, and plain values only.

    Raises:
        FileNotFoundError: there is none; train first.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"no checkpoint at {path}: run `python training/train.py` with the configuration of this run first"
        )
    return torch.load(path, map_location="cpu", weights_only=True)


def peek(path: Path) -> dict[str, Any]:
    """The same as `load`, but tensors stay on disk until they are looked at: for the numbers in it."""
    return torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def random_state(device: torch.device) -> torch.Tensor:
    """State of the generators that dropout draws from, as bytes: the CPU's, then the device's own, if it has one."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)


def restore_random_state(state: torch.Tensor, device: torch.device) -> None:
    """Inverse of `random_state`."""
    length = torch.get_rng_state().numel()
    torch.set_rng_state(state[:length].cpu())
    if device.type == "cuda" and state.numel() > length:
        torch.cuda.set_rng_state(state[length:].cpu(), device)
