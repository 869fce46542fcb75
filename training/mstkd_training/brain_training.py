"""Training of the network that finds the brain (engine/brain.py), on synthetic images only."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from MSTKDSegmenterLib.engine.brain import standardise
from MSTKDSegmenterLib.engine.network import MSTKDNet, NetworkConfig, build
from torch import Tensor

from .anatomy import Anatomy
from .checkpoint import save
from .metrics import dice
from .synthesis import synthesise

SPACING = 4.0
SIZE = (48, 64, 48)  # z, y, x: 192 x 256 x 192 mm
CONFIG = NetworkConfig(sequences=1, classes=1, width=8, blocks=(1, 1, 1, 2), dropout=0.0)
VALIDATION = ("training_seg_03", "training_seg_10", "training_seg_18")  # small, middle and large ventricles
_PEAK_RATE = 3e-3
_FIRST_VALIDATION_SEED = 10**9
_CHECK_EVERY = 500


def example(anatomies: Sequence[Anatomy], seed: int) -> tuple[Tensor, Tensor]:
    """Network input and share of brain, both (1, 1, z, y, x), of the head and the image that `seed` stands for."""
    sample = synthesise(anatomies[seed % len(anatomies)], SIZE, SPACING, seed)
    image = torch.from_numpy(standardise(sample.image))[None, None]
    return image, torch.from_numpy(sample.brain)[None, None]


def loss_of(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy + 1 - Dice, both with the share of brain per voxel (0 to 1) as target; (B, 1, z, y, x)."""
    logits = logits.float()
    probability = logits.sigmoid()
    dims = (1, 2, 3, 4)
    dice = (2 * (probability * target).sum(dims) + 1) / ((probability**2).sum(dims) + (target**2).sum(dims) + 1)
    return F.binary_cross_entropy_with_logits(logits, target) + (1 - dice).mean()


def held_out_scores(network: MSTKDNet, anatomies: Sequence[Anatomy], count: int, threshold: float = 0.5) -> list[float]:
    """Dice on `count` synthetic images of the VALIDATION heads; images that show hardly any brain are left out."""
    heads = [anatomy for anatomy in anatomies if anatomy.name in VALIDATION]
    scores = []
    for seed in range(_FIRST_VALIDATION_SEED, _FIRST_VALIDATION_SEED + count):
        image, target = example(heads, seed)
        if float(target.sum()) * SPACING**3 < 1e5:  # 100 ml
            continue
        with torch.inference_mode():
            scores.append(dice((network(image).sigmoid() > threshold).numpy(), (target > 0.5).numpy()))
    return scores


class BrainTraining:
    """AdamW with warm-up and polynomial decay over `steps`, averaged weights, a checkpoint in `run` to go on from."""

    def __init__(self, run: Path, steps: int) -> None:
        self.checkpoint = run / "checkpoint.pt"
        self.steps = steps
        self.step = 0
        torch.manual_seed(0)
        self.network, self.average = build(CONFIG), build(CONFIG).eval()
        self.average.load_state_dict(self.network.state_dict())
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=_PEAK_RATE, weight_decay=1e-4)
        if self.checkpoint.exists():
            state = torch.load(self.checkpoint, weights_only=True)
            self.network.load_state_dict(state["network"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.step = state["step"]

    def fit(self, anatomies: Sequence[Anatomy], minutes: float) -> None:
        """Train to the end of the schedule, or until `minutes` are over."""
        started, losses = time.monotonic(), []
        learned = [anatomy for anatomy in anatomies if anatomy.name not in VALIDATION]
        while self.step < self.steps and time.monotonic() - started < 60 * minutes:
            losses.append(self._one_step(*example(learned, self.step)))
            if self.step % _CHECK_EVERY == 0 or self.step == self.steps:
                scores = held_out_scores(self.average, anatomies, 24)
                print(
                    f"step {self.step}: loss {np.mean(losses[-_CHECK_EVERY:]):.4f}, held-out Dice {np.mean(scores):.4f}"
                    f" (lowest {min(scores):.3f}), {time.monotonic() - started:.0f} s",
                    flush=True,
                )
                self._save()
        self._save()

    def _one_step(self, image: Tensor, target: Tensor) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = _PEAK_RATE * min((self.step + 1) / 100, (1 - self.step / self.steps) ** 0.9)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(self.network(image), target)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        keep = min(0.998, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for slow, fast in zip(self.average.parameters(), self.network.parameters()):
                slow.lerp_(fast, 1 - keep)
        self.step += 1
        return loss.item()

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
        }
        save(state, self.checkpoint)


def quick_allocation() -> None:
    """Keep glibc from giving large blocks back and faulting them in again at every step; about 2x on a CPU."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return  # not glibc: only slower
    for option, value in ((-3, 2**31 - 1), (-1, 2**31 - 1), (-2, 256 << 20)):  # mmap and trim threshold, top pad
        libc.mallopt(option, value)
