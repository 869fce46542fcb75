"""How PyTorch is told to compute."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import backend
from mstkd_training.config import OptimConfig
from MSTKDSegmenterLib.engine.network import COMPACT, build


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.use_deterministic_algorithms(False)
    torch.set_num_threads(threads)


def test_sums_are_in_a_fixed_order_where_it_is_asked_for() -> None:
    for wanted in (True, False):
        backend.set_up(OptimConfig(deterministic=wanted, threads=1, bf16=False), torch.device("cpu"))
        assert torch.are_deterministic_algorithms_enabled() == wanted


def test_a_gpu_without_bfloat16_is_named_with_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    gpu = torch.device("cuda", 0)
    with pytest.raises(ValueError, match=r"Tesla T4 has no bfloat16: set optim\.bf16=false"):
        backend.set_up(OptimConfig(), gpu)
    backend.set_up(OptimConfig(bf16=False), gpu)


@pytest.mark.parametrize("there", [True, False])
def test_a_processor_without_bfloat16_is_not_left_to_emulate_it(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(backend, "cpu_has_bf16", lambda: there)
    cpu = torch.device("cpu")
    backend.set_up(OptimConfig(bf16=False), cpu)
    if there:
        backend.set_up(OptimConfig(), cpu)
    else:
        with pytest.raises(ValueError, match=r"AVX-512.*set optim\.bf16=false"):
            backend.set_up(OptimConfig(), cpu)


@pytest.mark.skipif(torch.backends.cpu.get_cpu_capability() != "AVX2", reason="only certain for processors with AVX2")
def test_onednn_has_no_bfloat16_where_there_is_avx2_only() -> None:
    assert not backend.cpu_has_bf16()


def test_zeros_along_depth_change_neither_outputs_nor_gradients_nor_what_is_stored() -> None:
    torch.manual_seed(0)
    plain = build(replace(COMPACT, width=8, dropout=0.0, transformer=None))
    padded = copy.deepcopy(plain)
    backend.pad_in_depth(padded)
    padded = copy.deepcopy(padded)  # as the average of a student is
    image, present = torch.randn(1, 4, 16, 24, 16), torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    outputs = []
    for network in (plain, padded):
        outputs.append(network(image, present))
        outputs[-1].square().mean().backward()
    torch.testing.assert_close(outputs[1], outputs[0])
    assert padded.state_dict().keys() == plain.state_dict().keys()
    for ours, theirs in zip(padded.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_gradients_over_a_whole_crop_are_exact_to_a_ten_thousandth_of_the_largest() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Conv3d(16, 16, 3, padding=1, dtype=torch.float64)
    padded = copy.deepcopy(plain).float()
    backend.pad_in_depth(padded)
    image, pull = torch.randn(1, 16, 64, 80, 64), torch.randn(1, 16, 64, 80, 64)
    (plain(image.double()) * pull.double()).sum().backward()
    (padded(image) * pull).sum().backward()
    largest = plain.weight.grad.abs().max().item()
    torch.testing.assert_close(padded.weight.grad.double(), plain.weight.grad, rtol=0, atol=1e-4 * largest)
