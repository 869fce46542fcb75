"""The training loop: exact resume, many processes as one, what is kept and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import tiny_run
from mstkd_training import checkpoint
from mstkd_training.command import STOPPED
from mstkd_training.config import FormulasConfig, ValidationConfig, load
from mstkd_training.distributed import Schedule, World
from mstkd_training.trainer import Trainer
from mstkd_training.validation import schedule, validate
from MSTKDSegmenterLib.engine.network import NetworkConfig, build
from MSTKDSegmenterLib.engine.sequences import SUBSETS
from presets import preset
from tiny_run import NETWORK, configuration, fit_and_stop, sample

TRAINING = Path(__file__).resolve().parents[1] / "training"
TRAIN = TRAINING / "train.py"
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    return tiny_run.settings(tmp_path)


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": value
        for name, part in trainer.learner.parts().items()
        if isinstance(part, torch.nn.Module)
        for key, value in part.state_dict().items()
    }


@pytest.mark.parametrize("teacher", ["joint", "ema", "none"])
def test_two_steps_and_resume_and_two_steps_equal_four_steps_exactly(
    settings: dict, tmp_path: Path, teacher: str
) -> None:
    network = {**NETWORK, "dropout": 0.2}  # draws random numbers, whose state has to come back too
    changes = {"teacher": {"kind": teacher}, "network": network}
    straight = Trainer(configuration(settings, **changes))
    straight.fit()
    other = configuration(settings, **changes, runs=str(tmp_path / "other"))
    fit_and_stop(Trainer(other), 2)
    resumed = Trainer(other)
    assert resumed.resume()
    assert resumed.learner.step == 2
    resumed.fit()
    assert resumed.best == straight.best
    for name, wanted in weights(straight).items():
        assert torch.equal(wanted, weights(resumed)[name]), name


def test_a_run_goes_on_from_the_average_of_another_once_that_is_finished(settings: dict) -> None:
    config = configuration(settings, name="first", teacher={"kind": "none"})
    fit_and_stop(Trainer(config), 2)
    second = configuration(settings, name="second", start="first", teacher={"kind": "frozen", "run": "first"})
    with pytest.raises(ValueError, match="run 'first' has come to step 2 of 4, and this one builds on it"):
        Trainer(second)
    first = Trainer(config)
    first.resume()
    first.fit()
    parts = Trainer(second).learner.distillation
    wanted = first.learner.average.module.state_dict()
    for network in (parts.student, parts.teacher):
        assert all(torch.equal(value, wanted[name]) for name, value in network.state_dict().items())


def test_a_teacher_of_another_spacing_or_with_other_answers_is_refused(settings: dict) -> None:
    Trainer(configuration(settings, name="first", teacher={"kind": "none"})).fit()
    taught = configuration(settings, name="taught", teacher={"kind": "frozen", "run": "first"})
    finer = taught.model_copy(update={"data": taught.data.model_copy(update={"spacing": 1.0})})
    with pytest.raises(ValueError, match="run 'first' has learnt at 2 mm, this one learns at 1 mm"):
        Trainer(finer)
    released = taught.model_copy(update={"formulas": FormulasConfig(segmentation="official")})
    with pytest.raises(ValueError, match="with exclusive classes, this student with independent sigmoids"):
        Trainer(released)


@pytest.fixture
def adversarial(settings: dict) -> dict:
    """Two steps with the discriminator, which needs larger crops; without terms that it has nothing to do with."""
    others = {name: {"weight": 0} for name in ("content", "multiscale", "extreme_value", "gram", "logit_kl")}
    return {
        "terms": {**others, "adversarial": {"weight": 0.01}}, "augment": {"crop": [64, 64, 64], "shift": [1, 1, 1]},
        "optim": {**settings["optim"], "steps": 2},
    }  # fmt: skip


def test_the_discriminator_learns_keeps_its_optimiser_and_is_resumed_exactly(
    settings: dict, adversarial: dict, tmp_path: Path
) -> None:
    straight = Trainer(configuration(settings, **adversarial))
    before = {name: value.clone() for name, value in straight.learner.discriminator.state_dict().items()}
    straight.fit()
    assert any(
        not torch.equal(value, before[name]) for name, value in straight.learner.discriminator.state_dict().items()
    )
    moments = straight.learner.discriminator_optimizer.state_dict()["state"]
    assert {int(entry["step"]) for entry in moments.values()} == {2}
    other = configuration(settings, **adversarial, runs=str(tmp_path / "other"))
    fit_and_stop(Trainer(other), 1)
    resumed = Trainer(other)
    resumed.resume()
    resumed.fit()
    for name, wanted in weights(straight).items():
        assert torch.equal(wanted, weights(resumed)[name]), name


def test_the_official_discriminator_never_has_moments(settings: dict, adversarial: dict) -> None:
    trainer = Trainer(configuration(settings, **adversarial, formulas={"discriminator_optimiser": "official"}))
    trainer.fit()
    moments = trainer.learner.discriminator_optimizer.state_dict()["state"]
    assert {int(entry["step"]) for entry in moments.values()} == {1}


def first_moments(optimizer: dict) -> list[torch.Tensor]:
    """Adam's averages after one step: a tenth of the gradient, which unlike the step tells large from small."""
    return [entry["exp_avg"] for _, entry in sorted(optimizer["state"].items())]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    size = max(value.abs().max().item() for value in one)
    return len(one) == len(other) and all(torch.allclose(a, b, atol=1e-4 * size) for a, b in zip(one, other))


def test_accumulating_two_batches_gives_the_step_of_one_twice_as_large(settings: dict) -> None:
    moments = []
    for name, sizes in (("batch", {"batch": 2}), ("accumulated", {"accumulate": 2}), ("one", {"batch": 1})):
        trainer = Trainer(configuration(settings, name=name, optim={**settings["optim"], "steps": 1, **sizes}))
        trainer.fit()
        moments.append(first_moments(trainer.learner.optimizer.state_dict()))
    assert same(moments[0], moments[1])
    assert not same(moments[0], moments[2])


def write_config(settings: dict, path: Path) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "TENSORBOARD_NO_TF": "1"}


def test_two_processes_take_the_step_of_one_with_the_doubled_batch(settings: dict, tmp_path: Path) -> None:
    one_step = {**settings["optim"], "steps": 1}
    single = Trainer(configuration(settings, optim={**one_step, "batch": 2}, runs=str(tmp_path / "single")))
    single.fit()
    path = write_config({**settings, "optim": one_step}, tmp_path / "two.yaml")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(TRAIN)]
    done = subprocess.run([*command, "--config", str(path)], env=environment(), capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-2000:]
    state = checkpoint.load(Path(settings["runs"]) / "tiny" / "checkpoint.pt")
    assert len(state["random"]) == 2
    assert same(first_moments(single.learner.optimizer.state_dict()), first_moments(state["optimizer"]))


def test_sigterm_writes_a_checkpoint_and_the_same_command_continues(settings: dict, tmp_path: Path) -> None:
    path = write_config({**settings, "optim": {**settings["optim"], "steps": 8}}, tmp_path / "long.yaml")
    command = [sys.executable, str(TRAIN), "--config", str(path)]
    process = subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
    )
    terms = Path(settings["runs"]) / "tiny" / "terms.jsonl"
    while not terms.exists():  # written in the first step
        assert process.poll() is None, process.stdout.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == STOPPED, output
    assert "the same command continues" in output
    state = checkpoint.load(Path(settings["runs"]) / "tiny" / "checkpoint.pt")
    assert 1 <= state["step"] < 8
    done = subprocess.run(command, env=environment(), capture_output=True, encoding="utf-8", check=True)
    assert f"from step {state['step']}" in done.stdout
    assert checkpoint.load(Path(settings["runs"]) / "tiny" / "checkpoint.pt")["step"] == 8


def test_a_run_holds_its_configuration_terms_scores_and_where_it_comes_from(settings: dict) -> None:
    config = configuration(settings)
    Trainer(config).fit()
    assert load(config.folder / "config.json") == config
    row = json.loads((config.folder / "terms.jsonl").read_text().splitlines()[0])
    assert sum(row["shares"].values()) == pytest.approx(1)
    assert all(row["gradients"][name] > 0 for name in row["terms"] if name != "teacher_segmentation")
    assert row["gradients"]["teacher_segmentation"] == 0
    scores = json.loads((config.folder / "validation.jsonl").read_text())
    assert scores["step"] == 4
    (start,) = json.loads((config.folder / "provenance.json").read_text())
    assert (start["step"], start["seen"], start["chosen_on"]) == (0, ["a", "b"], ["v"])
    assert start["packages"]["torch"] == torch.__version__
    assert start["fingerprint"]["names"] == ["a", "b", "v", "t"]
    state = checkpoint.load(config.folder / "best.pt")
    assert state["best"] == pytest.approx(np.mean(list(scores["mean"].values())))
    assert state["provenance"]["packages"]["torch"] == torch.__version__


def test_a_frozen_teacher_is_the_student_of_an_earlier_run_and_stays_as_it_is(settings: dict) -> None:
    first = configuration(settings, name="first", teacher={"kind": "none"})
    Trainer(first).fit()
    trainer = Trainer(configuration(settings, teacher={"kind": "frozen", "run": "first"}))
    before = {name: value.clone() for name, value in trainer.learner.distillation.teacher.state_dict().items()}
    wanted = checkpoint.load(first.folder / "best.pt")["average"]
    assert all(torch.equal(value, wanted[f"module.{name}"]) for name, value in before.items())
    trainer.fit()
    assert all(
        torch.equal(value, before[name]) for name, value in trainer.learner.distillation.teacher.state_dict().items()
    )


def test_two_runs_teach_together(settings: dict) -> None:
    for number, name in enumerate(("first", "second")):
        Trainer(configuration(settings, name=name, teacher={"kind": "none"}, seed=number)).fit()
    trainer = Trainer(configuration(settings, teacher={"kind": "frozen", "run": ["second", "first"]}))
    members = trainer.learner.distillation.teacher.members
    for member, name in zip(members, ("second", "first"), strict=True):
        wanted = checkpoint.load(trainer.config.runs / name / "best.pt")["average"]
        assert all(torch.equal(value, wanted[f"module.{key}"]) for key, value in member.state_dict().items())
    before = [member.state_dict()["head.weight"].clone() for member in members]
    trainer.fit()
    assert all(torch.equal(m.state_dict()["head.weight"], b) for m, b in zip(members, before, strict=True))
    row = json.loads((trainer.config.folder / "terms.jsonl").read_text().splitlines()[0])
    assert row["gradients"]["consistency"] > 0
    assert row["gradients"]["gram"] > 0


def test_a_teacher_of_four_sequences_is_trained_by_its_preset_and_then_teaches(settings: dict) -> None:
    # what makes it a teacher comes from the preset, all that makes it small from here
    teacher = preset("teacher").model_dump(mode="json")
    small = {**settings, "optim": {**settings["optim"], "steps": 1}}
    first = configuration({**small, **{key: teacher[key] for key in ("name", "teacher", "subsets", "validation")}})
    trainer = Trainer(first)
    before = {name: value.clone() for name, value in trainer.learner.average.state_dict().items()}
    trainer.fit()
    assert any(not torch.equal(value, before[name]) for name, value in trainer.learner.average.state_dict().items())
    scores = json.loads((first.folder / "validation.jsonl").read_text())
    assert list(scores["subsets"]) == ["FLAIR+T1+T1ce+T2"]
    student = Trainer(configuration(small, teacher={"kind": "frozen", "run": first.name}))
    student.fit()
    row = json.loads((student.config.folder / "terms.jsonl").read_text())
    assert "teacher_segmentation" not in row["terms"]
    assert row["gradients"]["consistency"] > 0


def test_gradients_that_are_not_finite_are_skipped_and_end_the_run_if_they_go_on(settings: dict) -> None:
    trainer = Trainer(configuration(settings))
    parameter = next(trainer.learner.distillation.student.parameters())
    before = parameter.detach().clone()
    for _ in range(9):
        parameter.grad = torch.full_like(parameter, torch.nan)
        trainer.learner._update()
    assert torch.equal(parameter, before)
    parameter.grad = torch.full_like(parameter, torch.nan)
    with pytest.raises(FloatingPointError, match=r"lower optim\.learning_rate"):
        trainer.learner._update()


@pytest.mark.parametrize(("processes", "batch", "accumulate"), [(1, 4, 1), (2, 2, 1), (2, 1, 2), (4, 1, 1)])
def test_however_the_samples_of_a_step_are_divided_they_are_the_same(
    processes: int, batch: int, accumulate: int
) -> None:
    seen = [
        [n for micro in Schedule(World(rank, processes, ALONE.device), batch, accumulate, 3, 4) for n in micro]
        for rank in range(processes)
    ]
    assert sorted(number for numbers in seen for number in numbers) == [12, 13, 14, 15]


def test_the_mask_schedule_of_validation_stays_the_same_and_shows_every_subset_equally_often() -> None:
    shown = [subset for study in range(15) for subset in schedule(study, 2)]
    assert all(shown.count(subset) == 2 for subset in SUBSETS)
    assert schedule(3, 2) == schedule(3, 2)
    assert schedule(3, 2, [("T1",)]) == [("T1",)]


def test_validation_counts_as_a_plain_dice_would() -> None:
    torch.manual_seed(0)
    network = build(NetworkConfig(width=8, blocks=(1, 1, 1, 1)))
    study = sample(5, "x", side=20)  # of which the network sees the brain's box, 16 voxels
    box = (slice(2, 18),) * 3
    score = validate(network, [study], torch.device("cpu"), ValidationConfig())["FLAIR+T1+T1ce+T2"]["TC"]
    with torch.no_grad():
        image = torch.from_numpy(study.image[(slice(None), *box)].astype(np.float32))
        p = network(image[None]).softmax(dim=1)[0].numpy()
    guess, truth = (p[0] + p[2]) > 0.5, np.isin(study.labels[box], [0, 2])
    assert score == pytest.approx(2 * (guess & truth).sum() / (guess.sum() + truth.sum()), abs=1e-4)


def test_validation_is_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    network = build(NetworkConfig(width=8, blocks=(1, 1, 1, 1), dropout=0.9)).train()
    study = sample(5, "x", side=16)
    device, config = torch.device("cpu"), ValidationConfig(subsets=2)
    assert validate(network, [study], device, config) == validate(network.train(), [study], device, config)
