"""Several networks that teach as one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training.config import Config
from mstkd_training.ensemble import Ensemble
from mstkd_training.networks import new_student
from MSTKDSegmenterLib.engine.network import MSTKDNet, Taps
from pydantic import ValidationError

SMALL = {"width": 8, "blocks": [1, 1, 1, 1], "dropout": 0.0, "transformer": None}


def member(seed: int, **formulas: str) -> MSTKDNet:
    torch.manual_seed(seed)
    return new_student(Config.model_validate({"name": "tiny", "network": SMALL, "formulas": formulas})).eval()


@torch.no_grad()
def test_several_say_what_they_say_on_average() -> None:
    members = [member(seed) for seed in range(3)]
    image, present = torch.randn(2, 4, 16, 16, 16), torch.ones(2, 4)
    said = Ensemble(members)(image, present).softmax(dim=1).numpy()
    each = [np.exp(m(image, present).numpy().astype(np.float64)) for m in members]
    wanted = np.mean([odds / odds.sum(axis=1, keepdims=True) for odds in each], axis=0)
    assert said == pytest.approx(wanted, abs=1e-6)
    assert np.abs(wanted - each[0] / each[0].sum(axis=1, keepdims=True)).max() > 0.01


@torch.no_grad()
def test_the_first_of_several_shows_its_features() -> None:
    first, second = member(0), member(1)
    image, present = torch.randn(1, 4, 16, 16, 16), torch.ones(1, 4)
    shown, own = Taps(), Taps()
    Ensemble([first, second])(image, present, shown)
    first(image, present, own)
    assert torch.equal(shown.content, own.content)
    assert len(shown.stages) == len(own.stages) == 3


def test_answers_without_common_logits_are_not_averaged() -> None:
    independent = {"segmentation": "official", "background": "official"}
    with pytest.raises(ValueError, match=r"classes are independent.* name one run in teacher\.run"):
        Ensemble([member(0, **independent), member(1, **independent)])


def test_one_run_or_a_list_of_them_can_be_named_each_once() -> None:
    def teacher(run: object, kind: str = "frozen") -> tuple[str, ...]:
        return Config.model_validate({"name": "tiny", "teacher": {"kind": kind, "run": run}}).teacher.run

    assert teacher("first") == ("first",)
    assert teacher(["first", "second"]) == ("first", "second")
    assert teacher(None, "ema") == ()
    with pytest.raises(ValidationError, match="the same run twice, name each once"):
        teacher(["first", "first"])
    with pytest.raises(ValidationError, match="a frozen teacher needs a run"):
        teacher([])
    with pytest.raises(ValidationError, match="no other has one"):
        teacher("first", "ema")
