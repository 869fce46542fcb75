"""What a run tells: TensorBoard, validation.jsonl, and the table of terms."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

import numpy as np
from MSTKDSegmenterLib.engine.regions import REGIONS
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from .config import Config
from .files import write_text


class Log:
    """Written by the first process. Use as a context manager.

    What an interrupted run has logged beyond the step it continues from will be logged again, so it is dropped.
    """

    def __init__(self, config: Config, step: int) -> None:
        self._folder = config.folder
        _keep(self._folder / "terms.jsonl", lambda logged: logged < step)  # logged before the step is taken
        _keep(self._folder / "validation.jsonl", lambda logged: logged <= step)  # logged after it
        self._writer = SummaryWriter(str(config.folder / "tensorboard"), purge_step=step + 1)

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._writer.close()

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Losses, gradient norm and learning rate of a step."""
        for name, value in values.items():
            self._writer.add_scalar(f"training/{name}", value, step)

    def terms(
        self, step: int, values: Mapping[str, float], weights: Mapping[str, float], norms: Mapping[str, float]
    ) -> None:
        """Each term's value, share of the total and gradient norm; in terms.jsonl too and, at first, as a table."""
        total = sum(weights[name] * value for name, value in values.items())
        shares = {name: weights[name] * value / total for name, value in values.items()}
        for name in values:
            self._writer.add_scalar(f"terms/{name}", values[name], step)
            self._writer.add_scalar(f"shares/{name}", shares[name], step)
            self._writer.add_scalar(f"gradients/{name}", norms[name], step)
        row = {
            "step": step,
            "terms": dict(values),
            "weights": dict(weights),
            "shares": shares,
            "gradients": dict(norms),
        }
        with open(self._folder / "terms.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")
        if step == 0:
            lines = [f"{'term':22}{'value':>12}{'weight':>10}{'share':>10}{'gradient':>12}"]
            lines += [
                f"{name:22}{values[name]:12.4g}{weights[name]:10.4g}{shares[name]:10.2%}{norms[name]:12.4g}"
                for name in values
            ]
            tqdm.write("\n".join(lines))

    def validation(self, step: int, scores: Mapping[str, Mapping[str, float]], picture: np.ndarray) -> None:
        """Dice by subset and region, and slices."""
        mean = {region: float(np.mean([row[region] for row in scores.values()])) for region in REGIONS}
        for region, value in mean.items():
            self._writer.add_scalar(f"validation/{region}", value, step)
        self._writer.add_image("slices", picture, step, dataformats="HWC")
        self._writer.flush()
        with open(self._folder / "validation.jsonl", "a", encoding="utf-8") as stream:
            stream.write(json.dumps({"step": step, "mean": mean, "subsets": scores}) + "\n")
        tqdm.write(f"step {step}: validation Dice " + ", ".join(f"{k} {v:.3f}" for k, v in mean.items()))


def _keep(path: Path, wanted: Callable[[int], bool]) -> None:
    """Rewrite a file of rows without those of other steps, and without one that a killed process left half-written."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        write_text("".join(f"{line}\n" for line in lines if wanted(_step(line))), path)


def _step(line: str) -> float:
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.nan  # neither before nor after any step
