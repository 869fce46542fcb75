"""Runs that are interrupted and go on: in the middle of a validation, and what they log."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import tiny_run
from mstkd_training import checkpoint, trainer
from mstkd_training.config import Config, ValidationConfig
from mstkd_training.log import Log
from mstkd_training.trainer import Trainer
from mstkd_training.validation import validate
from MSTKDSegmenterLib.engine.network import NetworkConfig, build
from tiny_run import configuration, fit_and_stop, sample


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    """Two steps without a teacher; validation after each."""
    values = tiny_run.settings(tmp_path)
    optim = {**values["optim"], "steps": 2, "workers": 0}
    return {**values, "teacher": {"kind": "none"}, "optim": optim, "validation": {"every": 1, "subsets": 2}}


def scored(config: Config) -> list[dict]:
    return [json.loads(line) for line in (config.folder / "validation.jsonl").read_text().splitlines()]


def test_a_signal_ends_a_validation_at_the_next_subset() -> None:
    network = build(NetworkConfig(width=8, blocks=(1, 1, 1, 1)))
    passes: list[torch.Tensor] = []
    network.register_forward_hook(lambda *arguments: passes.append(arguments[-1]))
    device = torch.device("cpu")
    assert validate(network, [sample(5, "x", 16)], device, ValidationConfig(), lambda: len(passes) == 3) is None
    assert len(passes) == 3


def test_a_run_that_is_stopped_while_it_validates_catches_up_and_ends_as_if_it_had_not_been(
    settings: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    straight = Trainer(configuration(settings))
    straight.fit()
    other = configuration(settings, runs=str(tmp_path / "other"))
    stopped = Trainer(other)

    def signalled(*arguments: object, **options: object) -> dict | None:
        signal.raise_signal(signal.SIGTERM)
        return validate(*arguments, **options)

    monkeypatch.setattr(trainer, "validate", signalled)
    stopped.fit()
    state = checkpoint.load(other.folder / "checkpoint.pt")
    assert (state["step"], state["validated"]) == (1, 0)
    assert not (other.folder / "best.pt").exists()
    monkeypatch.setattr(trainer, "validate", validate)
    resumed = Trainer(other)
    resumed.resume()
    resumed.fit()
    assert scored(other) == scored(straight.config)
    assert [row["step"] for row in scored(other)] == [1, 2]
    assert resumed.best == straight.best
    mine, theirs = (run.learner.average.state_dict() for run in (resumed, straight))
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_a_run_that_was_killed_logs_no_step_twice(settings: dict) -> None:
    config = configuration(settings, log_gradients_every=1)
    fit_and_stop(Trainer(config), 1)
    with open(config.folder / "terms.jsonl", "a") as stream:  # it went on for a while, and was killed while it wrote
        stream.write('{"step": 1, "terms": {}}\n{"step": 2, "ter')
    resumed = Trainer(config)
    resumed.resume()
    resumed.fit()
    rows = [json.loads(line) for line in (config.folder / "terms.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
    assert all(row["terms"] for row in rows)
    assert [row["step"] for row in scored(config)] == [1, 2]


def test_rows_of_steps_that_are_done_stay(tmp_path: Path) -> None:
    config = Config.model_validate({"name": "run", "runs": str(tmp_path)})
    config.folder.mkdir()
    for name in ("terms", "validation"):
        rows = "".join(json.dumps({"step": step}) + "\n" for step in (0, 250, 500))
        (config.folder / f"{name}.jsonl").write_text(rows)
    with Log(config, 250):
        pass
    left = {
        name: [json.loads(line)["step"] for line in (config.folder / f"{name}.jsonl").read_text().splitlines()]
        for name in ("terms", "validation")
    }
    # terms are logged before a step is taken, scores after it
    assert left == {"terms": [0], "validation": [0, 250]}


def test_samples_made_in_the_training_process_are_those_of_a_process_of_their_own(settings: dict) -> None:
    runs = []
    for name, workers in (("inside", 0), ("beside", 1)):
        optim = {**settings["optim"], "steps": 1, "workers": workers}
        runs.append(Trainer(configuration(settings, name=name, optim=optim)))
        runs[-1].fit()
    mine, theirs = (run.learner.average.state_dict() for run in runs)
    assert all(torch.equal(value, theirs[name]) for name, value in mine.items())
