"""The training loop: one student, random subsets, EMA, atomic checkpoints, clean stop and resume."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from MSTKDSegmenterLib.engine.network import SIZES, build, count_parameters
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, presence, subset_name
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Subset
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from . import cache, losses
from .config import Config
from .data import TrainingSet


def schedule(config: Config) -> Callable[[int], float]:
    """Factor on the learning rate: linear warm-up, then polynomial decay (1 - step / steps)^power."""
    optim = config.optim
    return lambda step: min(1.0, (step + 1) / optim.warm_up) * max(0.0, 1 - step / optim.steps) ** optim.power


class Trainer:
    """Holds everything that a checkpoint must bring back."""

    def __init__(self, config: Config) -> None:
        self.config = config
        random.seed(config.seed)
        np.random.seed(config.seed)
        torch.manual_seed(config.seed)
        torch.set_num_threads(config.optim.threads)
        self.device = torch.device(config.device)
        self.network = build(SIZES[config.size]).to(self.device)
        self.average = AveragedModel(self.network, multi_avg_fn=get_ema_multi_avg_fn(config.optim.ema))
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=config.optim.learning_rate, weight_decay=config.optim.weight_decay
        )
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, schedule(config))
        self.step = 0
        self.stop = False

    @property
    def checkpoint(self) -> Path:
        return self.config.folder / "checkpoint.pt"

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "random": torch.get_rng_state(),
            "config": self.config.model_dump(mode="json"),
        }

    def save(self) -> None:
        self.checkpoint.parent.mkdir(parents=True, exist_ok=True)
        partial = self.checkpoint.with_suffix(".part")
        torch.save(self.state(), partial)
        os.replace(partial, self.checkpoint)

    def resume(self) -> bool:
        """Continue from the run's checkpoint, if there is one."""
        if not self.checkpoint.exists():
            return False
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        for name in ("network", "average", "optimizer", "scheduler"):
            getattr(self, name).load_state_dict(state[name])
        torch.set_rng_state(state["random"].cpu())
        self.step = state["step"]
        return True

    def fit(self) -> None:
        """Train until the configured number of steps, or until SIGTERM or SIGINT, then write a checkpoint."""
        config = self.config
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        config.folder.mkdir(parents=True, exist_ok=True)
        (config.folder / "config.json").write_text(json.dumps(config.model_dump(mode="json"), indent=2))
        studies = cache.read(config.data.cache / "studies")
        held_out = [s for s in studies if s.patient in config.data.held_out]
        missing = set(config.data.held_out) - {s.patient for s in held_out}
        if missing:
            raise ValueError(
                f"held-out studies {sorted(missing)} are not in {config.data.cache}: correct data.held_out"
            )
        training = [s for s in studies if s.patient not in config.data.held_out]
        batch = config.optim.batch
        items = TrainingSet(training, cache.read(config.data.cache / "patches"), config)
        rest = Subset(items, range(self.step * batch, len(items)))
        loader = DataLoader(
            rest,
            batch_size=batch,
            num_workers=1,
            prefetch_factor=8,
            worker_init_fn=_one_thread,
            # its own generator: starting the loader must not draw from the one that dropout uses, or a resume differs
            generator=torch.Generator(),
        )
        writer = SummaryWriter(str(config.folder / "tensorboard"))
        parameters = count_parameters(self.network)
        print(f"{config.name}: {parameters:,} parameters, {len(training)} studies, from step {self.step}")
        progress = tqdm(loader, initial=self.step, total=config.optim.steps, mininterval=10)
        for item in progress:
            values = self.train_step(item)
            for name, value in values.items():
                writer.add_scalar(name, value, self.step)
            if self.step % 25 == 0:
                progress.set_postfix(loss=f"{values['loss']:.3f}", refresh=False)
            if self.step % config.validate_every == 0 or self.step == config.optim.steps:
                scores = validate(self.average.module, held_out, self.device)
                self._log(scores, writer)
            if self.stop or self.step % config.checkpoint_every == 0 or self.step == config.optim.steps:
                self.save()
            if self.stop:
                print(f"stopped at step {self.step}; the same command continues")
                return
        writer.close()

    def train_step(self, item: dict[str, torch.Tensor]) -> dict[str, float]:
        """One update; returns what is worth logging."""
        self.network.train()
        image, present, labels = (item[key].to(self.device) for key in ("image", "present", "labels"))
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.config.optim.bf16):
            logits = self.network(image, present)
        loss = losses.segmentation(logits, labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.optim.clip, error_if_nonfinite=True)
        self.optimizer.step()
        self.scheduler.step()
        self.average.update_parameters(self.network)
        self.step += 1
        return {"loss": loss.item(), "gradient": norm.item(), "rate": self.scheduler.get_last_lr()[0]}

    def _log(self, scores: dict[str, dict[str, float]], writer: SummaryWriter) -> None:
        mean = {region: float(np.mean([row[region] for row in scores.values()])) for region in REGIONS}
        for region, value in mean.items():
            writer.add_scalar(f"validation/{region}", value, self.step)
        row = {"step": self.step, "mean": mean, "subsets": scores}
        with open(self.config.folder / "validation.jsonl", "a") as stream:
            stream.write(json.dumps(row) + "\n")

    def _ask_to_stop(self, *_: object) -> None:
        self.stop = True


def _one_thread(_: int) -> None:
    # the worker must not compete with the training process for the cores
    torch.set_num_threads(1)


@torch.no_grad()
def validate(network: nn.Module, studies: list[cache.Sample], device: torch.device) -> dict[str, dict[str, float]]:
    """Mean Dice per subset and region on the working grid. For watching a run; `eval.py` measures what users get."""
    network.eval()
    scores = {}
    for subset in SUBSETS:
        mask = torch.tensor(presence(subset), device=device).float()
        rows = []
        for study in studies:
            pads = [(0, -side % network.multiple) for side in study.labels.shape]
            image = torch.from_numpy(np.pad(study.image, [(0, 0), *pads]).astype(np.float32)).to(device)[None]
            truth = torch.from_numpy(np.pad(study.labels, pads, constant_values=3)).to(device)[None].long()
            logits = network(image * mask.view(1, 4, 1, 1, 1), mask[None])
            guess = losses.regions(logits.softmax(dim=1)) > 0.5
            wanted = losses.regions(nn.functional.one_hot(truth, 4).movedim(-1, 1)) > 0
            overlap = (guess & wanted).sum(dim=(0, 2, 3, 4)).float()
            rows.append((2 * overlap + 1e-6) / (guess.sum(dim=(0, 2, 3, 4)) + wanted.sum(dim=(0, 2, 3, 4)) + 1e-6))
        mean = torch.stack(rows).mean(dim=0).tolist()
        scores[subset_name(subset)] = dict(zip(REGIONS, mean, strict=True))
    return scores
