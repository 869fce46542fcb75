"""A run: steps, validation, log and checkpoints, on one process or many, until it is done or asked to stop."""

from __future__ import annotations

import signal
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from MSTKDSegmenterLib.engine.network import count_parameters
from MSTKDSegmenterLib.engine.regions import REGIONS
from tqdm import tqdm

from . import checkpoint, provenance
from .cache import Sample
from .config import Config
from .continuity import check_continues, claim, splits_hash
from .distillation import StepResult
from .distributed import World, join
from .learner import Inspect, Learner
from .loader import batches, studies
from .log import Log
from .validation import picture, validate


class Trainer:
    """Holds, with its learner, everything that a checkpoint must bring back.

    best: highest mean validation Dice so far. validated: the step it was last looked at.

    Raises:
        ValueError: as Learner; the splits are not what the configuration asks for.
        FileNotFoundError: the data are not prepared, or a frozen teacher's run has no checkpoint.
    """

    def __init__(self, config: Config, world: World | None = None) -> None:
        self.config = config
        self.world = world or join(config.device)
        self.splits = splits_hash(config)
        self.learner = Learner(config, self.world)
        # now: the code on disk may be another by the time of a checkpoint
        self.provenance = provenance.provenance(config.data.cache)
        self.run = uuid.uuid4().hex  # tells the checkpoints of one run from what another left under its name
        self.best = -1.0  # below any score
        self.validated = 0
        self.stop = False

    # --- checkpoints

    def save(self, name: str = "checkpoint.pt") -> None:
        """Write a checkpoint; every process must ask, the first one writes."""
        states = self.world.gather(checkpoint.random_state(self.world.device))
        if self.world.first:
            told = {
                "config": self.config.model_dump(mode="json"),
                "splits": self.splits,
                "provenance": self.provenance,
            }
            numbers = {"run": self.run, "best": self.best, "validated": self.validated}
            checkpoint.save({**self.learner.state(), **numbers, **told, "random": states}, self.config.folder / name)

    def resume(self) -> bool:
        """Continue from the run's checkpoint, if there is one; every process must ask.

        Raises:
            ValueError: it is of another configuration, other splits or another number of processes, or not all
                processes have found the same.
        """
        path = self.config.folder / "checkpoint.pt"
        found = path.exists()
        if found:
            state = checkpoint.load(path)
            check_continues(state, self.config, self.splits, self.world.size, path)
            self.learner.restore(state)
            self.run, self.best, self.validated = state["run"], state["best"], state["validated"]
            checkpoint.restore_random_state(state["random"][self.world.rank], self.world.device)
        steps = [int(step) for step in self.world.gather(torch.tensor(self.learner.step))]
        if len(set(steps)) > 1:
            each = ", ".join(f"process {rank} from step {step}" for rank, step in enumerate(steps))
            raise ValueError(
                f"the processes do not continue from one checkpoint ({each}): {self.config.folder} must be the same "
                "folder on all nodes. Set `runs` to a file system that they share, or copy the folder to all of them"
            )
        return found

    # --- training

    def fit(self) -> bool:
        """Train until the configured number of steps, or until SIGTERM or SIGINT, then write a checkpoint.

        Returns:
            Whether the run is finished; if not, it was asked to stop.

        Raises:
            ValueError: the run's folder is of another configuration, or holds the best weights of an earlier run.
        """
        config, world, learner = self.config, self.world, self.learner
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        if world.first:
            claim(config, fresh=not learner.step)
            provenance.write(config, learner.step)
        training, validation = studies(config)
        with ExitStack() as stack:
            log = stack.enter_context(Log(config, learner.step)) if world.first else None
            if world.first:
                self._introduce(len(training), len(validation))
            # what an earlier start had no time for
            if self._due(validation) and self._validate(validation, log):
                self.save()
            if world.anyone(self.stop):
                self._say_stopped()
                return False
            progress = tqdm(
                batches(config, world, training, learner.step), initial=learner.step, total=config.optim.steps,
                mininterval=10, disable=not world.first,
            )  # fmt: skip
            for group in progress:
                measure = log and learner.step % config.log_gradients_every == 0
                values = learner.train_step(group, self._weigh(log) if measure else None)
                if log:
                    log.step(learner.step, values)
                    progress.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
                validated = self._due(validation) and self._validate(validation, log)
                stop, last = world.anyone(self.stop), learner.step == config.optim.steps
                if stop or last or validated or learner.step % config.checkpoint_every == 0:
                    self.save()
                if stop and (not last or self._due(validation)):
                    self._say_stopped()
                    return False
        return True

    def _due(self, validation: Sequence[Sample]) -> bool:
        step, config = self.learner.step, self.config
        now = step == config.optim.steps or step % config.validation.every == 0
        return bool(validation) and now and step > self.validated

    def _validate(self, validation: Sequence[Sample], log: Log | None) -> bool:
        """Score the average on the first process, keep the best so far; False if it was asked to stop meanwhile."""
        done = better = False
        if log:
            network, device = self.learner.average.module, self.world.device
            scores = validate(network, validation, device, self.config.validation, stopped=lambda: self.stop)
            if scores is not None:
                done = True
                mean = float(np.mean([[row[region] for region in REGIONS] for row in scores.values()]))
                better = mean > self.best
                self.best = max(mean, self.best)
                log.validation(self.learner.step, scores, picture(network, validation[0], device))
        done = self.world.anyone(done)
        if done:
            self.validated = self.learner.step
        if self.world.anyone(better):
            self.save("best.pt")
        return done

    # --- around it

    def _introduce(self, training: int, validation: int) -> None:
        config, distillation = self.config, self.learner.distillation
        parameters = f"student {count_parameters(distillation.student):,} parameters"
        if distillation.teacher is not None:
            parameters += f", {config.teacher.kind} teacher {count_parameters(distillation.teacher):,}"
        print(
            f"{config.name}: {parameters}; {training} studies to train with, {validation} to validate with; "
            f"{self.world.size} processes on {self.world.device.type}; from step {self.learner.step}"
        )
        if not validation:
            print("no study is kept for validation: the last weights are taken, none are chosen")
        if config.init is not None and config.data.layout != "archive":
            print(
                f"warning: {config.init} has learnt from patients of earlier editions of BraTS, whose names here only "
                "data.aliases can tell; those who test may be among them",
                file=sys.stderr,
            )

    def _weigh(self, log: Log) -> Inspect:
        """Measures the terms against each other: share of the total, norm of each one's gradient in the student."""

        def inspect(result: StepResult, weights: dict[str, float]) -> None:
            values = {name: value.item() for name, value in result.terms.items()}
            log.terms(self.learner.step, values, weights, self.learner.norms(result, weights))

        return inspect

    def _say_stopped(self) -> None:
        if self.world.first:
            print(f"stopped at step {self.learner.step}; the same command continues")

    def _ask_to_stop(self, *_: object) -> None:
        self.stop = True
