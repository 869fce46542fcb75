"""What a run may continue with, and what is refused: another configuration, other splits, another run's leftovers."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import tiny_run
from mstkd_training import checkpoint, splits
from mstkd_training.config import Config
from mstkd_training.continuity import as_trained, claim
from mstkd_training.distributed import World
from mstkd_training.trainer import Trainer
from tiny_run import configuration

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def settings(tmp_path: Path) -> dict:
    """Without a teacher, whose networks are not the point here."""
    return {**tiny_run.settings(tmp_path), "teacher": {"kind": "none"}}


def stopped(config: Config) -> Path:
    """A run that has been interrupted at its first step; its configuration file."""
    claim(config, fresh=True)
    Trainer(config, ALONE).save()
    return config.folder / "config.json"


def test_a_checkpoint_of_another_configuration_is_refused_with_all_that_differs(settings: dict) -> None:
    stopped(configuration(settings))
    other = configuration(
        settings, seed=7, optim={**settings["optim"], "learning_rate": 0.5, "steps": 5}, teacher={"kind": "joint"}
    )
    with pytest.raises(ValueError, match=r"checkpoint\.pt does not continue this run") as refused:
        Trainer(other, ALONE).resume()
    for told in (
        "optim.learning_rate: 0.001 -> 0.5",
        "optim.steps: 4 -> 5",
        "seed: 0 -> 7",
        "teacher.kind: none -> joint",
    ):
        assert told in str(refused.value)
    assert str(refused.value).count(" -> ") == 4


def test_where_and_how_fast_a_run_goes_may_change_and_its_configuration_file_stays(settings: dict) -> None:
    config = configuration(settings)
    path = stopped(config)
    before = path.read_text()
    other = configuration(
        settings, checkpoint_every=7, log_gradients_every=9, device="auto",
        optim={**settings["optim"], "threads": 2, "workers": 0, "steps": 4},
        data={**settings["data"], "source": "elsewhere", "workers": 3, "in_memory": 0.5},
        validation={"every": 50, "subsets": 1},
    )  # fmt: skip
    assert Trainer(other, ALONE).resume()
    claim(other, fresh=False)
    assert path.read_text() == before


def test_a_fold_stays_the_same_when_another_fold_starts_elsewhere_but_not_when_its_own_does(settings: dict) -> None:
    folds = {
        "data": {**settings["data"], "held_out": [], "test_share": 0, "validation_share": 0, "folds": [["a"], ["b"]]},
        "init": "all",
    }
    claim(configuration(settings, **folds, init_folds=["one", "two"]).of_fold(0), fresh=True)
    claim(configuration(settings, **folds, init_folds=["one", "other"]).of_fold(0), fresh=False)
    with pytest.raises(ValueError, match=r"another configuration \(init: one -> other\)"):
        claim(configuration(settings, **folds, init_folds=["other", "two"]).of_fold(0), fresh=False)


def test_a_folder_of_another_configuration_is_refused_before_there_is_a_checkpoint(settings: dict) -> None:
    config = configuration(settings)
    claim(config, fresh=True)
    path = config.folder / "config.json"
    before = path.read_text()
    with pytest.raises(ValueError, match=r"optim\.clip: 1\.0 -> 3\.0.*another name"):
        Trainer(configuration(settings, optim={**settings["optim"], "clip": 3}), ALONE).fit()
    assert path.read_text() == before


def test_a_checkpoint_of_other_patients_is_refused(settings: dict) -> None:
    config = configuration(settings)
    stopped(config)
    # the same keys of the configuration, but one patient more has been prepared since
    splits.path(config).unlink()
    splits.write(splits.make((*tiny_run.PATIENTS, "z"), config), config)
    with pytest.raises(ValueError, match=r"splits: [0-9a-f]{64} -> [0-9a-f]{64}"):
        Trainer(config, ALONE).resume()


def test_a_checkpoint_of_another_number_of_processes_is_refused(settings: dict) -> None:
    trainer = Trainer(configuration(settings), ALONE)
    states = [torch.get_rng_state()] * 2
    checkpoint.save(
        {**trainer.learner.state(), "config": trainer.config.model_dump(mode="json"), "splits": trainer.splits,
         "random": states}, trainer.config.folder / "checkpoint.pt",
    )  # fmt: skip
    with pytest.raises(ValueError, match="processes: 2 -> 1"):
        trainer.resume()


@dataclass(frozen=True)
class Elsewhere(World):
    """Beside a process on another node that has found the checkpoint of step 7."""

    def gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        return [value, torch.tensor(7)]


def test_nodes_that_do_not_share_the_runs_folder_are_told_so(settings: dict) -> None:
    trainer = Trainer(configuration(settings), ALONE)
    trainer.world = Elsewhere(0, 1, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"process 0 from step 0, process 1 from step 7.*same folder on all nodes"):
        trainer.resume()


def test_a_checkpoint_is_read_into_main_memory_whatever_the_device(settings: dict) -> None:
    config = configuration(settings)
    stopped(config)
    trainer = Trainer(config, ALONE)
    trainer.world = replace(ALONE, device=torch.device("meta"))  # tensors that were read to it would be lost
    assert trainer.resume()


def test_a_run_that_starts_anew_does_not_take_the_best_weights_of_an_earlier_one_for_its_own(settings: dict) -> None:
    config = configuration(settings)
    Trainer(config, ALONE).save("best.pt")
    with pytest.raises(ValueError, match=r"best\.pt is of an earlier run.*remove it"):
        Trainer(config, ALONE).fit()


def test_a_run_is_measured_as_it_was_trained_on_what_is_here(settings: dict) -> None:
    stopped(configuration(settings))
    given = configuration(
        settings, device="auto", optim={**settings["optim"], "steps": 9},
        data={**settings["data"], "source": "here", "cache": "cache/here"},
    )  # fmt: skip
    found = as_trained(given)
    assert found.optim.steps == 4
    assert (found.device, found.data.source, found.data.cache) == ("auto", Path("here"), Path("cache/here"))
    assert (found.network, found.data.held_out) == (settings["network"], ("t",))


def test_a_run_that_does_not_exist_is_named(settings: dict) -> None:
    with pytest.raises(FileNotFoundError, match=r"runs/tiny: run `python training/train\.py`"):
        as_trained(configuration(settings))


def test_the_configuration_is_stored_in_full(settings: dict) -> None:
    config = configuration(settings)
    assert Config.model_validate(json.loads(stopped(config).read_text())) == config
