"""What learns: student, teacher and discriminator with their optimisers, and one step of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from . import backend
from .config import Config
from .discriminator import StyleDiscriminator
from .distillation import Distillation, StepResult
from .distributed import World
from .losses.style import discriminated
from .networks import first_student, new_average, new_teacher

Inspect = Callable[[StepResult, dict[str, float]], None]
"""Is shown a batch's terms and weights while their graph is there."""
MOST_SKIPPED = 10
"""Steps in a row with gradients that are not finite, before the run gives up."""


def rate_schedule(config: Config) -> Callable[[int], float]:
    """Factor on the learning rate: linear warm-up, then polynomial decay (1 - step / steps)^power."""
    optim = config.optim
    return lambda step: min(1.0, (step + 1) / optim.warm_up) * max(0.0, 1 - step / optim.steps) ** optim.power


class Learner:
    """step: how many are done. skipped: how many of the last ones in a row had gradients that were not finite.

    Raises:
        ValueError: the configured terms or crop do not fit the networks, or bfloat16 does not fit the GPU.
        FileNotFoundError: a frozen teacher's run has no checkpoint.
    """

    def __init__(self, config: Config, world: World) -> None:
        self.config, self.world = config, world
        optim, device = config.optim, world.device
        backend.set_up(optim, device)
        _seed(config.seed)  # the same in all processes: they start from the same weights
        student = first_student(config)
        self.average = new_average(student, optim.ema).to(device)
        teacher = new_teacher(config, self.average)
        self.distillation = Distillation(student, teacher, config).to(device)
        if device.type == "cpu":
            backend.pad_in_depth(self.distillation)
        self.layout = backend.layout(optim, device)
        self.distillation.to(memory_format=self.layout)
        self.discriminator = self._new_discriminator()
        self._step_module = world.wrap(self.distillation)
        self._discriminator_module = self.discriminator and world.wrap(self.discriminator)
        trained = [p for p in self.distillation.parameters() if p.requires_grad]
        kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[optim.optimiser]
        self.optimizer = kind(trained, lr=optim.learning_rate, weight_decay=optim.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate_schedule(config))
        self.discriminator_optimizer = self.discriminator and self._new_discriminator_optimizer()
        _seed(config.seed + world.rank)  # dropout differs between processes
        self.step = 0
        self.skipped = 0

    def _new_discriminator(self) -> StyleDiscriminator | None:
        config = self.config
        if config.teacher.kind == "none" or not config.terms.adversarial.weight:
            return None
        return StyleDiscriminator(8 * self.distillation.student.config.width).to(self.world.device)

    def _new_discriminator_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(
            self.discriminator.parameters(), lr=self.config.optim.discriminator_rate, betas=(0.9, 0.99)
        )

    def parts(self) -> dict[str, Any]:
        """What has a state, by name. An ema teacher is the average and a frozen one comes from its own run."""
        parts = {
            "student": self.distillation.student,
            "average": self.average,
            "adapters": self.distillation.adapters,
            "teacher": self.distillation.teacher if self.config.teacher.kind == "joint" else None,
            "discriminator": self.discriminator,
            "optimizer": self.optimizer,
            "discriminator_optimizer": self.discriminator_optimizer,
            "scheduler": self.scheduler,
        }
        return {name: part for name, part in parts.items() if part is not None}

    def state(self) -> dict[str, Any]:
        """All of it, for a checkpoint."""
        parts = {name: part.state_dict() for name, part in self.parts().items()}
        return {**parts, "step": self.step, "skipped": self.skipped}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`."""
        for name, part in self.parts().items():
            part.load_state_dict(state[name])
        self.step, self.skipped = state["step"], state["skipped"]

    def train_step(self, batches: Sequence[dict[str, Tensor]], inspect: Inspect | None = None) -> dict[str, float]:
        """One update from `optim.accumulate` batches; returns what is worth logging.

        Args:
            inspect: is shown the first batch.
        """
        config, device = self.config, self.world.device
        weights = config.terms.weights(self.step)
        if self.distillation.teacher is None:
            weights = {"segmentation": weights["segmentation"]}
        self.distillation.train()
        self.optimizer.zero_grad(set_to_none=True)
        if self.discriminator:
            if config.formulas.discriminator_optimiser == "official":
                self.discriminator_optimizer = self._new_discriminator_optimizer()
            self.discriminator_optimizer.zero_grad(set_to_none=True)
        logged: dict[str, float] = {}
        for number, batch in enumerate(batches):
            batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
            batch["image"] = batch["image"].contiguous(memory_format=self.layout)
            batch["labels"] = batch["labels"].long()  # here, as bytes are quicker to send to a GPU
            with ExitStack() as stack:
                if number < len(batches) - 1:  # gradients travel between processes once per step
                    for module in (self._step_module, self._discriminator_module):
                        if isinstance(module, DistributedDataParallel):
                            stack.enter_context(module.no_sync())
                result = self._backward(batch, weights, len(batches), inspect if number == 0 else None)
            for name, value in {"loss": result.total, **result.terms}.items():
                logged[name] = logged.get(name, 0.0) + value.item() / len(batches)
        if "styles" in logged:  # the discriminator's own loss
            logged["discriminator"] = logged.pop("styles")
        logged["gradient"] = self._update()
        logged["rate"] = self.scheduler.get_last_lr()[0]
        return logged

    def _backward(
        self, batch: dict[str, Tensor], weights: dict[str, float], count: int, inspect: Inspect | None
    ) -> StepResult:
        """Gradients of one batch, for the networks and for the discriminator."""
        device = self.world.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.optim.bf16):
            if self.discriminator:
                self.discriminator.requires_grad_(False)  # it judges here, it does not learn
            result = self._step_module(batch["image"], batch["present"], batch["labels"], weights, self.discriminator)
        if inspect:
            inspect(result, weights)
        (result.total / count).backward()
        if self.discriminator:
            self.discriminator.requires_grad_(True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.optim.bf16):
                loss = discriminated(*(self._discriminator_module(style) for style in result.styles))
            (loss / count).backward()
            result.terms["styles"] = loss.detach()
        return result

    def _update(self) -> float:
        """Clip and step, and return the gradient's norm; a gradient that is not finite is skipped and counted."""
        optim = self.config.optim
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(trained, optim.clip)
        if bool(torch.isfinite(norm)):
            self.skipped = 0
            self.optimizer.step()
            if self.discriminator:
                self.discriminator_optimizer.step()
            self.average.update_parameters(self.distillation.student)
        else:
            self.skipped += 1
            if self.skipped >= MOST_SKIPPED:
                raise FloatingPointError(
                    f"gradients were not finite in {self.skipped} steps in a row, up to step {self.step}: lower "
                    "optim.learning_rate, or set optim.bf16 to false"
                )
        self.scheduler.step()
        self.step += 1
        return norm.item()

    def norms(self, result: StepResult, weights: dict[str, float]) -> dict[str, float]:
        """Norm of the gradient of each weighted term in the student."""
        parameters = [p for p in self.distillation.student.parameters() if p.requires_grad]
        norms = {}
        for name, value in result.terms.items():
            norms[name] = 0.0
            if value.requires_grad:
                grads = torch.autograd.grad(weights[name] * value, parameters, retain_graph=True, allow_unused=True)
                norms[name] = nn.utils.get_total_norm([g for g in grads if g is not None]).item()
        return norms


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
