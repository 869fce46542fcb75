"""From normalised images to class probabilities: whole or in tiles, on any device, within the memory there is."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .device import Device, first_line, require_torch
from .errors import Cancelled
from .geometry import bounding_box
from .machine import free_memory
from .progress import Job
from .regions import CLASSES
from .tiles import Tile, covering, places, smaller, weights

if TYPE_CHECKING:
    from .network import MSTKDNet

BYTES_PER_VOXEL_AND_WIDTH = 48
"""Peak memory of a forward pass on the CPU per voxel and channel of the first stage: 28 to 43 measured."""

AIR = np.where(np.array(CLASSES) == "background", 20.0, -20.0).astype(np.float32)
"""Logits outside of the box around the brain, which the network is not asked about."""

_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate", "failed to allocate", "alloc_failed", "bad_alloc")


@dataclass(frozen=True)
class Prediction:
    """logits, probabilities: float32 (classes, z, y, x), the latter of sum 1 and after the temperature.

    box (z, y, x): voxels around the brain that were to be predicted, padded to what the network takes. device and tile
    (z, y, x): what was used in the end. findings: one sentence for each time that something had to give way.
    """

    logits: np.ndarray
    probabilities: np.ndarray
    device: Device
    box: Tile
    tile: Tile
    findings: list[str] = field(default_factory=list)


def predict(
    network: MSTKDNet,
    channels: np.ndarray,
    present: Sequence[bool],
    device: Device,
    job: Job,
    tile: Tile | None = None,
    mirror: bool = False,
    temperature: float = 1.0,
) -> Prediction:
    """Class probabilities of a normalised study.

    Only the box around the brain goes through the network: air would change the statistics of its normalisation, and
    networks have learnt from crops that hold little of it. Outside of the box is background. The box goes through whole
    or in the given tiles, where memory allows. Otherwise the tile is halved until it fits, then the CPU takes over;
    each such step is a finding. Where tiles overlap and where the mirrored image is looked at too, logits are averaged.
    The same input gives the same result, on the CPU bit for bit.

    Args:
        network: in evaluation mode; it is left as it was.
        channels: (sequences, z, y, x) float32, normalised, absent sequences all zero.
        present: for each channel, whether its sequence is given.
        device: from choose_device.
        job: gets progress from 0 to 1; a cancelled job stops between two layers of the network.
        tile: (z, y, x) size of the largest tile in voxels; the whole box if None. Tiles overlap by half at least, so
            they take several times as long as the whole.
        mirror: average with the prediction for the image mirrored left to right; takes twice as long.
        temperature: divides the logits; see ModelPackage.

    Raises:
        Cancelled: on request.
        MemoryError: not even the smallest tile fits on the CPU.
        ValueError: the arguments contradict each other (a programming error).
        TorchError: see require_torch.
    """
    channels = np.asarray(channels, dtype=np.float32)
    _check(network, channels, present)
    box = bounding_box(channels.any(axis=0))
    brain = channels[(slice(None), *box)]
    whole = covering(brain.shape[1:], network.multiple)
    limit = whole if tile is None else tuple(min(pair) for pair in zip(whole, covering(tile, network.multiple)))
    findings: list[str] = []
    tile = _fitting(limit, network, findings) if device.name == "cpu" else limit
    while True:
        try:
            logits = np.broadcast_to(AIR[:, None, None, None], (len(AIR), *channels.shape[1:])).copy()
            logits[(slice(None), *box)] = _logits(network, brain, present, device, job, tile, mirror)
            return Prediction(logits, _probabilities(network, logits, temperature), device, whole, tile, findings)
        except Cancelled:
            raise
        except (RuntimeError, MemoryError) as error:
            no_memory = isinstance(error, MemoryError) or any(text in str(error).lower() for text in _NO_MEMORY)
            if device.name == "cpu" and not no_memory:
                raise
            reason = "out of memory" if no_memory else first_line(error)
        # only here, after the error is gone, is the memory free that its traceback kept hold of
        reduced = smaller(tile, network.multiple) if no_memory else None
        if reduced is not None:
            findings.append(
                f"{device.name}: too little memory for tiles of {_size(tile)} voxels, took {_size(reduced)}."
            )
            tile = reduced
        elif device.name != "cpu":
            findings.append(f"{device.name}: failed ({reason}), the CPU took over.")
            device = Device("cpu", f"CPU: {device.name} failed ({reason})")
            tile = _fitting(limit, network, findings)
        else:
            raise MemoryError(
                f"There is too little memory for the network even with tiles of {_size(tile)} voxels, which take about "
                f"{_needed(tile, network) / 1e9:.1f} GB. Close other programs, or use a computer with more memory."
            )


def _check(network: MSTKDNet, channels: np.ndarray, present: Sequence[bool]) -> None:
    sequences = network.config.sequences
    if channels.ndim != 4 or channels.shape[0] != sequences or len(present) != sequences or 0 in channels.shape:
        raise ValueError(
            f"channels of shape {channels.shape} with {len(present)} values in `present`: expected "
            f"({sequences}, z, y, x) and {sequences} values"
        )
    if not np.isfinite(channels).all():
        raise ValueError("channels hold NaN or infinite values: expected normalised images (normalise.py)")
    for number, (channel, given) in enumerate(zip(channels, present)):
        if not given and channel.any():
            raise ValueError(f"channel {number} is marked absent and is not zero: expected zeros, or present[{number}]")
    if network.training:
        raise ValueError("the network is in training mode, where dropout is random: call network.eval() first")


def _fitting(tile: Tile, network: MSTKDNet, findings: list[str]) -> Tile:
    """The tile, made smaller until the CPU's free memory holds it; what was done is appended to the findings."""
    free = free_memory()
    fitting, reduced = tile, tile
    while free is not None and reduced is not None and _needed(fitting, network) > 0.8 * free:
        fitting = reduced
        reduced = smaller(fitting, network.multiple)
    if fitting != tile:
        findings.append(f"Only {free / 1e9:.1f} GB of memory are free: took tiles of {_size(fitting)} voxels.")
    return fitting


def _needed(tile: Tile, network: MSTKDNet) -> float:
    return float(np.prod(tile)) * network.config.width * BYTES_PER_VOXEL_AND_WIDTH


def _logits(
    network: MSTKDNet,
    channels: np.ndarray,
    present: Sequence[bool],
    device: Device,
    job: Job,
    tile: Tile,
    mirror: bool,
) -> np.ndarray:
    """One attempt, float32 (classes, z, y, x)."""
    torch = require_torch()
    shape = channels.shape[1:]
    whole = covering(shape, network.multiple)
    padded = np.pad(channels, [(0, 0), *((0, outer - inner) for outer, inner in zip(whole, shape))])
    where = places(whole, tile)
    flips = ((), (-1,)) if mirror else ((),)
    # an accelerator gets a copy, so that the caller's network stays where it is whatever happens over there
    network = network if device.name == "cpu" else copy.deepcopy(network).to(device.name)
    given = torch.tensor([[float(value) for value in present]], device=device.name)
    weight = weights(tile) if len(where) > 1 else np.ones(tile, dtype=np.float32)
    total = np.zeros((network.config.classes, *whole), dtype=np.float32)
    divisor = np.zeros(whole, dtype=np.float32)
    # cuDNN's fastest algorithms add up in another order each time; the flags are put back as they were
    exact = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)
    with torch.inference_mode(), exact, _watched(network, job, len(where), len(flips)):
        for place in where:
            piece = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *place)]))[None].to(device.name)
            for flip in flips:
                logits = network(piece.flip(flip) if flip else piece, given)
                result = (logits.flip(flip) if flip else logits)[0].cpu().numpy()
                total[(slice(None), *place)] += weight * result
                divisor[place] += weight
    total /= divisor
    if not np.isfinite(total).all():
        raise RuntimeError(f"the network gave values that are not finite on {device.name}")
    return np.ascontiguousarray(total[(slice(None), *(slice(0, side) for side in shape))])


def _probabilities(network: MSTKDNet, logits: np.ndarray, temperature: float) -> np.ndarray:
    """float32 (classes, z, y, x), on the CPU."""
    torch = require_torch()
    with torch.inference_mode():
        return network.probabilities(torch.from_numpy(logits)[None] / temperature)[0].numpy()


@contextmanager
def _watched(network: MSTKDNet, job: Job, tiles: int, looks: int) -> Iterator[None]:
    """Let each layer, once it has run, ask whether to go on and move the progress bar.

    Args:
        looks: forward passes for each tile.
    """
    layers = [module for module in network.modules() if not any(module.children())]
    count, percent = 0, -1

    def after_layer(*_: object) -> None:
        nonlocal count, percent
        count += 1
        fraction = min(1.0, count / (tiles * looks * len(layers)))
        if int(100 * fraction) == percent:
            job.check()
            return
        percent = int(100 * fraction)
        tile = min(tiles, 1 + int(fraction * tiles))
        job.report("predict", fraction, f"part {tile} of {tiles}" if tiles > 1 else "")

    handles = [layer.register_forward_hook(after_layer) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _size(tile: Tile) -> str:
    return " x ".join(map(str, tile))
