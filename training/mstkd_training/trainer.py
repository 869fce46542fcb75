"""The training loop: student, teacher and discriminator, on one process or many."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from MSTKDSegmenterLib.engine.network import count_parameters
from MSTKDSegmenterLib.engine.regions import REGIONS
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader
from tqdm import tqdm

from . import cache, checkpoint, ingredients, patches, provenance, splits
from .config import Config
from .data import TrainingSet
from .discriminator import StyleDiscriminator
from .distillation import Distillation, StepResult
from .distributed import Schedule, World, join
from .log import Log
from .losses.style import discriminated
from .networks import new_average, new_student, new_teacher
from .validation import picture, validate

Batch = dict[str, Tensor]
MOST_SKIPPED = 10
"""Steps in a row with gradients that are not finite, before the run gives up."""


def rate_schedule(config: Config) -> Callable[[int], float]:
    """Factor on the learning rate: linear warm-up, then polynomial decay (1 - step / steps)^power."""
    optim = config.optim
    return lambda step: min(1.0, (step + 1) / optim.warm_up) * max(0.0, 1 - step / optim.steps) ** optim.power


class Trainer:
    """Holds everything that a checkpoint must bring back.

    Raises:
        ValueError: the configured terms do not fit the networks.
        FileNotFoundError: a frozen teacher's run has no checkpoint.
    """

    def __init__(self, config: Config, world: World | None = None) -> None:
        self.config = config
        self.world = world or join(config.device)
        optim, device = config.optim, self.world.device
        torch.set_num_threads(optim.threads)
        _seed(config.seed)  # the same in all processes: they start from the same weights
        student = new_student(config)
        self.average = new_average(student, optim.ema).to(device)
        teacher = new_teacher(config, self.average)
        self.distillation = Distillation(student, teacher, config).to(device)
        self.discriminator = self._new_discriminator()
        self.step_module = self.world.wrap(self.distillation)
        self.discriminator_module = self.discriminator and self.world.wrap(self.discriminator)
        trained = [p for p in self.distillation.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=optim.learning_rate, weight_decay=optim.weight_decay)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate_schedule(config))
        self.discriminator_optimizer = self.discriminator and self._new_discriminator_optimizer()
        _seed(config.seed + self.world.rank)  # dropout differs between processes
        self.step = 0
        self.skipped = 0
        self.best = -1.0  # below any score
        self.stop = False

    def _new_discriminator(self) -> StyleDiscriminator | None:
        config = self.config
        if config.teacher.kind == "none" or not config.terms.adversarial.weight:
            return None
        return StyleDiscriminator(8 * self.distillation.student.config.width).to(self.world.device)

    def _new_discriminator_optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(
            self.discriminator.parameters(), lr=self.config.optim.discriminator_rate, betas=(0.9, 0.99)
        )

    # --- checkpoints

    def _parts(self) -> dict[str, Any]:
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

    def save(self, name: str = "checkpoint.pt") -> None:
        """Write a checkpoint; every process must ask, the first one writes."""
        states = self.world.gather(checkpoint.random_state(self.world.device))
        if self.world.first:
            state = {name: part.state_dict() for name, part in self._parts().items()}
            numbers = {"step": self.step, "skipped": self.skipped, "best": self.best}
            told = {
                "config": self.config.model_dump(mode="json"),
                "provenance": provenance.provenance(self.config.data.cache),
            }
            checkpoint.save({**state, **numbers, **told, "random": states}, self.config.folder / name)

    def resume(self) -> bool:
        """Continue from the run's checkpoint, if there is one.

        Raises:
            ValueError: it is of a run with other networks or terms, or with another number of processes.
        """
        path = self.config.folder / "checkpoint.pt"
        if not path.exists():
            return False
        state = checkpoint.load(path)
        parts = self._parts()
        missing = sorted(set(parts) - set(state))
        if missing or len(state["random"]) != self.world.size:
            lacks = f"it has no {', '.join(missing)}" if missing else "all parts are there"
            raise ValueError(
                f"{path} does not continue this configuration: {lacks}; it is of {len(state['random'])} processes, "
                f"this run of {self.world.size}. Use the configuration it was made with, or another name"
            )
        for name, part in parts.items():
            part.load_state_dict(state[name])
        self.step, self.skipped, self.best = state["step"], state["skipped"], state["best"]
        checkpoint.restore_random_state(state["random"][self.world.rank], self.world.device)
        return True

    # --- training

    def fit(self) -> None:
        """Train until the configured number of steps, or until SIGTERM or SIGINT, then write a checkpoint."""
        config, world = self.config, self.world
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        if world.first:
            config.folder.mkdir(parents=True, exist_ok=True)
            (config.folder / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
            provenance.write(config, self.step)
        training, validation = self._studies()
        with ExitStack() as stack:
            log = stack.enter_context(Log(config, self.step)) if world.first else None
            if world.first:
                self._introduce(len(training), len(validation))
            progress = tqdm(
                self._steps(training), initial=self.step, total=config.optim.steps, mininterval=10,
                disable=not world.first,
            )  # fmt: skip
            for batches in progress:
                measure = self.step % config.log_gradients_every == 0
                values = self.train_step(batches, self._weigh(log) if measure and world.first else None)
                if log:
                    log.step(self.step, values)
                    progress.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                last = self.step == config.optim.steps
                if validation and (last or self.step % config.validation.every == 0):
                    self._validate(validation, log)
                stop = world.anyone(self.stop)
                if stop or last or self.step % config.checkpoint_every == 0:
                    self.save()
                if stop and not last:
                    if world.first:
                        print(f"stopped at step {self.step}; the same command continues")
                    return

    def train_step(
        self, batches: Sequence[Batch], inspect: Callable[[StepResult, dict[str, float]], None] | None = None
    ) -> dict[str, float]:
        """One update from `optim.accumulate` batches; returns what is worth logging.

        Args:
            inspect: is shown the first batch's terms and weights while their graph is there.
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
            with ExitStack() as stack:
                if number < len(batches) - 1:  # gradients travel between processes once per step
                    for module in (self.step_module, self.discriminator_module):
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
        self,
        batch: Batch,
        weights: dict[str, float],
        count: int,
        inspect: Callable[[StepResult, dict[str, float]], None] | None,
    ) -> StepResult:
        """Gradients of one batch, for the networks and for the discriminator."""
        device = self.world.device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.optim.bf16):
            if self.discriminator:
                self.discriminator.requires_grad_(False)  # it judges here, it does not learn
            result = self.step_module(batch["image"], batch["present"], batch["labels"], weights, self.discriminator)
        if inspect:
            inspect(result, weights)
        (result.total / count).backward()
        if self.discriminator:
            self.discriminator.requires_grad_(True)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.config.optim.bf16):
                loss = discriminated(*(self.discriminator_module(style) for style in result.styles))
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

    # --- around it

    def _studies(self) -> tuple[Sequence[cache.Sample], Sequence[cache.Sample]]:
        data = self.config.data
        read = {
            name: cache.samples(data.cache, patients, data.in_memory) if patients else []
            for name, patients in (
                ("training", splits.training_patients(self.config)),
                ("validation", splits.validation_patients(self.config)),
            )
        }
        return read["training"], read["validation"]

    def _steps(self, training: Sequence[cache.Sample]) -> Iterator[list[Batch]]:
        """The batches of each remaining step."""
        config, optim = self.config, self.config.optim
        lesions = patches.read(config) if config.data.patches else []
        schedule = Schedule(self.world, optim.batch, optim.accumulate, self.step, optim.steps)
        made = ingredients.for_training(config)
        items = TrainingSet(training, lesions, config, schedule.samples_per_step, made.study if made else None)
        loader = iter(
            DataLoader(
                items,
                batch_sampler=schedule,
                num_workers=optim.workers,
                prefetch_factor=8,
                worker_init_fn=_one_thread,
                pin_memory=self.world.device.type == "cuda",
                # its own generator: starting the loader must not draw from the one of dropout, or a resume differs
                generator=torch.Generator(),
            )
        )
        for _ in range(self.step, optim.steps):
            yield [next(loader) for _ in range(optim.accumulate)]

    def _introduce(self, training: int, validation: int) -> None:
        config = self.config
        parameters = f"student {count_parameters(self.distillation.student):,} parameters"
        if self.distillation.teacher is not None:
            parameters += f", {config.teacher.kind} teacher {count_parameters(self.distillation.teacher):,}"
        print(
            f"{config.name}: {parameters}; {training} studies to train with, {validation} to validate with; "
            f"{self.world.size} processes on {self.world.device.type}; from step {self.step}"
        )
        if not validation:
            print("no study is kept for validation: the last weights are taken, none are chosen")

    def _weigh(self, log: Log) -> Callable[[StepResult, dict[str, float]], None]:
        """Measures the terms against each other: share of the total, norm of each one's gradient in the student."""
        parameters = [p for p in self.distillation.student.parameters() if p.requires_grad]

        def inspect(result: StepResult, weights: dict[str, float]) -> None:
            norms = {}
            for name, value in result.terms.items():
                norms[name] = 0.0
                if value.requires_grad:
                    grads = torch.autograd.grad(weights[name] * value, parameters, retain_graph=True, allow_unused=True)
                    norms[name] = nn.utils.get_total_norm([g for g in grads if g is not None]).item()
            log.terms(self.step, {name: value.item() for name, value in result.terms.items()}, weights, norms)

        return inspect

    def _validate(self, studies: Sequence[cache.Sample], log: Log | None) -> None:
        """Score the average on the first process; the best so far is kept."""
        better = False
        if log:
            network, device = self.average.module, self.world.device
            scores = validate(network, studies, device, self.config.validation.subsets)
            mean = float(np.mean([[row[region] for region in REGIONS] for row in scores.values()]))
            better = mean > self.best
            self.best = max(mean, self.best)
            log.validation(self.step, scores, picture(network, studies[0], device))
        if self.world.anyone(better):
            self.save("best.pt")

    def _ask_to_stop(self, *_: object) -> None:
        self.stop = True


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _one_thread(_: int) -> None:
    # a worker must not compete with the training process for the cores
    torch.set_num_threads(1)
    # a terminal or a scheduler signals workers too; they have to live until the checkpoint is written
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
