"""Where to compute: PyTorch and its devices are tried before they are trusted, and what was chosen is said."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from .errors import UnusableInput
from .machine import usable_cores

DEVICES = ("auto", "cuda", "mps", "cpu")
OLDEST_TORCH = (2, 1)


class TorchError(RuntimeError):
    """PyTorch is not there, or is there and does not work. The message says what to do."""


@dataclass(frozen=True)
class Device:
    """``name`` is what torch calls it, ``reason`` one sentence that says why it was chosen."""

    name: str
    reason: str


def require_torch() -> ModuleType:
    """The module ``torch``, after making sure that it is whole: half an installation can often be imported.

    Raises:
        TorchError: it is missing, broken, too old, or does not go with the installed NumPy.
    """
    again = "Install it again: pip install --force-reinstall torch (in Slicer: the PyTorch extension)."
    try:
        import torch
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise TorchError(f"PyTorch is installed, but lacks its part {error.name!r}. {again}") from error
        message = "PyTorch is not installed. Install it: pip install torch (in Slicer: the PyTorch extension)."
        raise TorchError(message) from error
    except Exception as error:  # a broken binary raises whatever it likes: OSError, AttributeError, TypeError ...
        raise TorchError(f"PyTorch is installed, but cannot be loaded ({error}). {again}") from error
    version = getattr(torch, "__version__", None)
    if version is None or not hasattr(torch, "nn"):
        raise TorchError(f"PyTorch is installed only in part: {getattr(torch, '__path__', 'torch')}. {again}")
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH:
        raise TorchError(f"PyTorch is version {version}, expected 2.1 or newer. Update: pip install --upgrade torch")
    try:
        torch.from_numpy(np.ones(1, dtype=np.float32))
    except RuntimeError as error:
        raise TorchError(
            f"PyTorch {version} does not work with NumPy {np.__version__} ({error}). Install: pip install 'numpy<2'"
        ) from error
    return torch


def choose_device(requested: str = "auto") -> Device:
    """The device to compute on: the one that was asked for, or with "auto" the first of CUDA, MPS, CPU that works.

    CUDA and MPS have to give the same result as the CPU for a small convolution before they are chosen.

    Raises:
        UnusableInput: the name is unknown, or that device was asked for and cannot be used.
        TorchError: see require_torch.
    """
    if requested not in DEVICES:
        raise UnusableInput(f"Device {requested!r} is unknown, expected one of {', '.join(DEVICES)}.")
    torch = require_torch()
    if requested == "cpu":
        return Device("cpu", "CPU: asked for")
    refused: list[str] = []
    for name, obstacle in (("cuda", _cuda_obstacle), ("mps", _mps_obstacle)):
        if requested not in ("auto", name):
            continue
        problem = obstacle(torch) or _fault(torch, name)
        if problem is None:
            what = f"CUDA: {torch.cuda.get_device_name()}" if name == "cuda" else "MPS: the Apple GPU"
            return Device(name, f"{what} {'was found' if requested == 'auto' else 'was asked for'} and passed its test")
        if requested == name:
            raise UnusableInput(f"Device {name!r} was asked for and cannot be used: {problem}. Choose 'auto' or 'cpu'.")
        # that a PC has no Apple GPU explains nothing
        if name == "cuda" or _is_mac():
            refused.append(problem)
    return Device("cpu", f"CPU: {' and '.join(refused)}")


def _cuda_obstacle(torch: ModuleType) -> str | None:
    if torch.cuda.is_available():
        return None
    return "no CUDA device found" if torch.version.cuda else "the installed PyTorch is built without CUDA"


def _mps_obstacle(torch: ModuleType) -> str | None:
    if not _is_mac():
        return "MPS exists on Macs only"
    if platform.machine() != "arm64":
        return "the Apple GPU needs a native arm64 Python, this one is for Intel processors"
    return None if torch.backends.mps.is_available() else "no Apple GPU that PyTorch can use"


def _is_mac() -> bool:
    return platform.system() == "Darwin"


def _fault(torch: ModuleType, name: str) -> str | None:
    """What is wrong with a device, by running a block like the network's on it and on the CPU; None if nothing is."""
    nn = torch.nn
    values = torch.linspace(-200, 200, 4 * 8 * 8 * 8).sin().reshape(1, 4, 8, 8, 8)
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            block = nn.Sequential(
                nn.Conv3d(4, 8, 3, stride=2, padding=1), nn.GroupNorm(8, 8), nn.ReLU(), nn.ConvTranspose3d(8, 8, 1),
                nn.Upsample(scale_factor=2.0), nn.Upsample(size=(6, 6, 6), mode="trilinear"), nn.Conv3d(8, 4, 1),
            )  # fmt: skip
            expected = block(values)
            found = block.to(name)(values.to(name)).cpu()
    except Exception as error:  # drivers fail in many ways, and every one of them means: do not use it
        return f"{name} failed a test convolution ({first_line(error)})"
    # TensorFloat-32 may be on and is good to about 1e-3; a broken device is off by far more
    if not torch.allclose(found, expected, atol=0.02):
        return f"{name} computed a test convolution wrongly (off by {float((found - expected).abs().max()):.2g})"
    return None


@dataclass(frozen=True)
class CpuTuning:
    """What tune_cpu did: how many threads PyTorch uses, and one sentence that says why and what else was set."""

    threads: int
    reason: str


def tune_cpu(threads: int | None = None) -> CpuTuning:
    """Let PyTorch use the physical cores this process may use, and glibc keep memory that is about to be used again.

    For a process that ends with the job (worker, command): freed memory is not given back to the system any more.
    Measured with the compact network and one thread: 1.0 s before, 0.6 s after, the same result bit for bit.

    Args:
        threads: this many instead. The variable OMP_NUM_THREADS, if set, comes next, then the cores.

    Raises:
        TorchError: see require_torch.
    """
    torch = require_torch()
    cores = usable_cores()
    if threads is not None:
        reason = "as asked for"
    elif os.environ.get("OMP_NUM_THREADS"):
        threads, reason = torch.get_num_threads(), "from OMP_NUM_THREADS"
    elif cores is not None:
        threads, reason = cores, "one per physical core that may be used"
    else:
        threads, reason = torch.get_num_threads(), "PyTorch's own choice"
    torch.set_num_threads(threads)
    memory = "freed memory is kept for the next layer" if _keep_freed_memory() else "memory is handled as by default"
    return CpuTuning(threads, f"{threads} thread{'s' * (threads != 1)} ({reason}); {memory}")


def _keep_freed_memory() -> bool:
    """Tell glibc to keep and reuse large blocks; otherwise every layer pays for fresh pages. False where not glibc."""
    if platform.system() != "Linux":
        return False
    max_mmaps, trim_threshold, top_pad = -4, -1, -2  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another C library
        return False
    # not M_MMAP_THRESHOLD: glibc before 2.35 refuses values above 32 MB there, and one activation has 40
    settings = ((max_mmaps, 0), (trim_threshold, 2**31 - 1), (top_pad, 256 << 20))
    return all([mallopt(option, value) == 1 for option, value in settings])


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
