"""How PyTorch computes in a run: threads, precision, order of sums."""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
    torch.backends.cudnn.benchmark = not optim.deterministic  # crops are all of one size: try its algorithms once
    # CUDA has no such way for some of what every run needs, as the gradient of max_pool3d: PyTorch warns of those
    torch.use_deterministic_algorithms(optim.deterministic, warn_only=device.type == "cuda")


def layout(optim: OptimConfig, device: torch.device) -> torch.memory_format:
    """How images and weights lie in memory; on the CPU PyTorch 2.13 gives wrong gradients for some widths otherwise."""
    last = optim.channels_last and device.type == "cuda"
    return torch.channels_last_3d if last else torch.contiguous_format


def pad_in_depth(network: nn.Module) -> None:
    """Let every 3-D convolution of a network find its zeros along depth instead of adding them itself; in place.

    The outputs are the same, and so are the gradients of the weights to 1e-4 of the largest: the quick kernel adds all
    voxels up in one float. On a CPU with AVX2 alone a step takes 0.5 to 0.6 of the time: oneDNN has that kernel only
    without padding along the first axis, and PyTorch leaves single images with no more than 20480 of channels x depth
    x height to its slowest convolution (4 x 64 x 80, the stem of a crop of 64 x 80 x 64, is just that).
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d) and module.padding[0]:
            module.register_forward_pre_hook(_DepthPadding(module.padding[0]))
            module.padding = (0, *module.padding[1:])


class _DepthPadding:
    """Hook; a class, so that a network that has it can be copied and pickled."""

    def __init__(self, voxels: int) -> None:
        self.voxels = voxels

    def __call__(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        return (F.pad(inputs[0], (0, 0, 0, 0, self.voxels, self.voxels)),)


def cpu_has_bf16() -> bool:
    """Whether convolutions in bfloat16 run on this processor without being emulated operation by operation."""
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
