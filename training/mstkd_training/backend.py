"""How PyTorch computes in a run: threads, precision, order of sums."""

from __future__ import annotations

import os

import torch

from .config import OptimConfig


def set_up(optim: OptimConfig, device: torch.device) -> None:
    """As configured, for this process.

    Raises:
        ValueError: bfloat16 is asked for and the GPU, or the processor, has none.
    """
    torch.set_num_threads(optim.threads)
    if optim.bf16 and device.type == "cpu" and not cpu_has_bf16():
        raise ValueError(
            "optim.bf16 is true, but oneDNN has no bfloat16 on this processor (it needs AVX-512): a step would take "
            "many times as long as in float32, set optim.bf16=false"
        )
    if optim.bf16 and device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"optim.bf16 is true, but {torch.cuda.get_device_name(device)} has no bfloat16: set optim.bf16=false"
        )
    if optim.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when it is first used
    torch.use_deterministic_algorithms(optim.deterministic)


def cpu_has_bf16() -> bool:
    """Whether convolutions in bfloat16 run on this processor without being emulated operation by operation."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
