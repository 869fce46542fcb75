"""From a checkpoint to a package: the engine computes with it what the training network computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import cache, splits
from mstkd_training.config import Config
from mstkd_training.continuity import claim
from mstkd_training.export import export
from mstkd_training.networks import trained_student
from mstkd_training.provenance import provenance
from mstkd_training.trainer import Trainer
from MSTKDSegmenterLib.engine.package import load

LARGEST_DIFFERENCE = 2e-3
"""Of a probability: the weights are stored in float16."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    empty = np.zeros((16, 16, 16))
    for patient in ("a", "t"):
        sample = cache.Sample(
            patient, np.zeros((4, 16, 16, 16), np.float16), empty > 0, empty.astype(np.uint8), np.zeros(3)
        )
        cache.save(sample, tmp_path / "cache" / "studies" / f"{patient}.npz")
    config = Config.model_validate(
        {
            "name": "tiny", "runs": str(tmp_path / "runs"), "device": "cpu", "teacher": {"kind": "none"},
            "data": {"cache": str(tmp_path / "cache"), "held_out": ["t"], "patches": False},
            "optim": {"steps": 9, "bf16": False},  # which not every processor has
        }
    )  # fmt: skip
    splits.write(splits.make(["a", "t"], config), config)
    return config


def checkpoint(config: Config, name: str = "checkpoint.pt", step: int = 9) -> None:
    trainer = Trainer(config)
    trainer.learner.step = step
    with torch.no_grad():
        for parameter in trainer.learner.average.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))  # as if trained: no longer as it was initialised
    claim(config, fresh=True)
    trainer.save(name)


def test_the_exported_package_gives_the_same_probabilities(config: Config, tmp_path: Path) -> None:
    checkpoint(config)
    export(config, tmp_path / "package")
    mine, theirs = trained_student(config).network, load(tmp_path / "package").network()
    image, present = torch.randn(1, 4, 32, 32, 32), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    with torch.inference_mode():
        one, other = (network.probabilities(network(image, present)) for network in (mine, theirs))
    assert (one - other).abs().max() < LARGEST_DIFFERENCE
    assert one.std() > 0.01  # something to differ in


def test_the_card_says_what_was_seen_what_was_kept_out_and_that_nothing_was_measured(
    config: Config, tmp_path: Path
) -> None:
    checkpoint(config)
    card = export(config, tmp_path / "package").card
    assert card["data"] == "Studies of 1 patients of BraTS 2019-2021. Kept out of training: t."
    assert card["quality"]["command"] == "not measured"


def test_the_card_says_which_weights_of_which_code_they_are(config: Config, tmp_path: Path) -> None:
    checkpoint(config, step=9)
    card = export(config, tmp_path / "package").card["training"]
    assert (card["step"], card["steps"], card["checkpoint"]) == (9, config.optim.steps, "last")
    made = provenance(config.data.cache)
    assert card["commit"] == made["commit"]
    assert card["versions"] == {"python": made["python"], **made["packages"]}
    assert card["versions"]["torch"] == torch.__version__
    assert Config.model_validate(card["configuration"]) == config


def test_the_best_weights_are_taken_and_told_from_the_last_and_from_those_of_an_earlier_run(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    claim(config, fresh=True)
    trainer = Trainer(config)
    for step, name in ((4, "best.pt"), (6, "checkpoint.pt")):
        trainer.learner.step = step
        trainer.save(name)
    with pytest.raises(ValueError, match=r"step 6 of 9: start .*train\.py` again, .* or ask with --unfinished"):
        export(config, tmp_path / "package")
    card = export(config, tmp_path / "package", unfinished=True).card["training"]
    assert (card["step"], card["checkpoint"]) == (4, "best")
    assert "step 6 of 9" in capsys.readouterr().err
    trainer.learner.step = 9
    trainer.save()
    export(config, tmp_path / "package")
    assert "of 9" not in capsys.readouterr().err
    Trainer(config).save()  # another run under this name
    with pytest.raises(ValueError, match=r"best\.pt is not of the run .*run: .*Remove it"):
        export(config, tmp_path / "package")


def test_best_weights_of_another_configuration_are_refused(config: Config, tmp_path: Path) -> None:
    Trainer(config.model_copy(update={"seed": 5})).save("best.pt")
    config.folder.joinpath("config.json").write_text(config.model_dump_json())
    with pytest.raises(ValueError, match=r"best\.pt is not of the run .*seed: 5 -> 0"):
        export(config, tmp_path / "package")


def test_what_the_weights_are_comes_from_the_run_and_another_wish_is_refused(config: Config, tmp_path: Path) -> None:
    checkpoint(config)
    values = config.model_dump(mode="json")
    for given, told in (
        ({"size": "paper"}, "size: compact -> paper"),
        ({"network": {"width": 8}}, "network.width: not given -> 8"),
        ({"formulas": {"segmentation": "official"}}, "formulas.segmentation: corrected -> official"),
        ({"data": {**values["data"], "spacing": 1.0}}, "data.spacing: 2.0 -> 1.0"),
        ({"data": {**values["data"], "layout": "brats2024"}}, "data.layout: archive -> brats2024"),
        ({"data": {**values["data"], "held_out": ["a"]}}, r"data.held_out: \['t'\] -> \['a'\]"),
    ):
        with pytest.raises(ValueError, match=told):
            export(Config.model_validate({**values, **given}), tmp_path / "package")
    assert not (tmp_path / "package").exists()


def test_a_run_whose_patients_have_been_divided_again_is_not_exported(config: Config, tmp_path: Path) -> None:
    checkpoint(config)
    splits.path(config).unlink()
    splits.write(splits.make(["a", "b", "t"], config), config)
    with pytest.raises(ValueError, match="trained with other splits"):
        export(config, tmp_path / "package")


def test_a_run_of_the_released_formulas_keeps_its_independent_classes(config: Config, tmp_path: Path) -> None:
    config = config.model_copy(update={"formulas": config.formulas.model_copy(update={"segmentation": "official"})})
    checkpoint(config)
    export(config, tmp_path / "package")
    assert load(tmp_path / "package").network().config.independent


def test_a_run_without_checkpoint_is_refused(config: Config, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run `python training/train\.py`"):
        export(config, tmp_path / "package")
