"""How PyTorch is told to compute."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import backend
from mstkd_training.config import OptimConfig


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def test_sums_are_in_a_fixed_order_where_it_is_asked_for() -> None:
    for wanted in (True, False):
        backend.set_up(OptimConfig(deterministic=wanted, threads=1), torch.device("cpu"))
        assert torch.are_deterministic_algorithms_enabled() == wanted


def test_a_gpu_without_bfloat16_is_named_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    gpu = torch.device("cuda", 0)
    with pytest.raises(ValueError, match=r"Tesla T4 has no bfloat16: set optim\.bf16=false"):
        backend.set_up(OptimConfig(), gpu)
    backend.set_up(OptimConfig(bf16=False), gpu)
    backend.set_up(OptimConfig(), torch.device("cpu"))
