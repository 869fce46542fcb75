"""Devices are tried before they are trusted; what is chosen is said, what cannot be used is refused with a remedy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from MSTKDSegmenterLib.engine import device as devices
from MSTKDSegmenterLib.engine.device import TorchError, choose_device, require_torch
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.machine import free_memory, usable_cores

LIBRARY = Path(devices.__file__).resolve().parents[2]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch claims that there is a CUDA device."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imaginary 9000")


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "12.6")
    monkeypatch.setattr(devices.platform, "system", lambda: "Linux")


def test_without_a_gpu_auto_takes_the_cpu_and_says_why(no_cuda: None) -> None:
    device = choose_device("auto")
    assert (device.name, device.reason) == ("cpu", "CPU: no CUDA device found")


def test_a_pytorch_without_cuda_is_said(no_cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    assert choose_device().reason == "CPU: the installed PyTorch is built without CUDA"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_cuda_device_that_fails_its_test_is_not_used(cuda: None) -> None:
    device = choose_device("auto")
    assert device.name == "cpu"
    assert "cuda failed a test convolution" in device.reason
    with pytest.raises(UnusableInput, match="'cuda' was asked for and cannot be used: cuda failed a test"):
        choose_device("cuda")


def test_a_device_that_works_is_used(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_fault", lambda torch, name: None)
    assert choose_device("auto").reason == "CUDA: Imaginary 9000 was found and passed its test"
    assert choose_device("cuda").reason == "CUDA: Imaginary 9000 was asked for and passed its test"


def test_the_test_convolution_passes_on_the_cpu_and_leaves_the_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    assert devices._fault(torch, "cpu") is None
    assert torch.equal(torch.get_rng_state(), state)


def test_a_device_that_computes_wrongly_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = torch.nn.Conv3d.forward
    calls = []

    def wrong_the_second_time(self: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return convolve(self, x) + (0.1 if len(calls) > 2 else 0.0)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", wrong_the_second_time)
    assert "cpu computed a test convolution wrongly (off by 0." in devices._fault(torch, "cpu")


@pytest.mark.parametrize(
    ("system", "machine", "problem"),
    [
        ("Linux", "x86_64", "MPS exists on Macs only"),
        ("Darwin", "x86_64", "needs a native arm64 Python"),
    ],
)
def test_the_apple_gpu_needs_a_native_python_on_a_mac(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, problem: str
) -> None:
    monkeypatch.setattr(devices.platform, "system", lambda: system)
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    with pytest.raises(UnusableInput, match=rf"'mps' was asked for .*{problem}.* Choose 'auto' or 'cpu'"):
        choose_device("mps")


def test_what_was_asked_for_is_not_replaced_in_silence(no_cuda: None) -> None:
    with pytest.raises(UnusableInput, match="'cuda' was asked for and cannot be used: no CUDA device found"):
        choose_device("cuda")
    assert choose_device("cpu").reason == "CPU: asked for"
    with pytest.raises(UnusableInput, match="'gpu' is unknown, expected one of auto, cuda, mps, cpu"):
        choose_device("gpu")


def test_a_working_pytorch_is_accepted() -> None:
    assert require_torch() is torch


def test_a_half_installed_pytorch_is_said_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))  # what an empty folder named torch imports as
    with pytest.raises(TorchError, match=r"installed only in part.*pip install --force-reinstall torch"):
        require_torch()


def test_a_pytorch_that_is_too_old_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(__version__="1.13.1+cu117", nn=None))
    with pytest.raises(TorchError, match=r"version 1\.13\.1\+cu117, expected 2\.1 or newer"):
        require_torch()


def test_a_pytorch_that_does_not_go_with_numpy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(array: object) -> None:
        raise RuntimeError("Numpy is not available")

    old = SimpleNamespace(__version__="2.2.2", nn=None, from_numpy=refuse)
    monkeypatch.setitem(sys.modules, "torch", old)
    with pytest.raises(TorchError, match=r"2\.2\.2 does not work with NumPy .*pip install 'numpy<2'"):
        require_torch()


def test_a_missing_pytorch_is_said_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # how Python is told that there is no such module
    with pytest.raises(TorchError, match=r"PyTorch is not installed\. Install it: pip install torch"):
        require_torch()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise OSError('[WinError 126] c10.dll')", r"cannot be loaded \(\[WinError 126\] c10.dll\). Install it again"),
        ("import torch_part", "lacks its part 'torch_part'. Install it again"),
    ],
)
def test_a_broken_pytorch_is_said_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    (tmp_path / "torch.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "torch")
    with pytest.raises(TorchError, match=message):
        require_torch()


def test_hyper_threads_and_container_limits_are_not_counted_as_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight threads on four cores; then a container that may use two and a half of them."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    for cpu in range(8):
        topology = tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 4},{cpu % 4 + 4}\n")
    assert usable_cores(tmp_path) == 4
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4, 5}, raising=False)
    assert usable_cores(tmp_path) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/pod/job\n")
    inner = tmp_path / "sys/fs/cgroup/pod/job"
    inner.mkdir(parents=True)
    (inner / "cpu.max").write_text("max 100000\n")
    assert usable_cores(tmp_path) == 4
    (inner.parent / "cpu.max").write_text("250000 100000\n")
    assert usable_cores(tmp_path) == 2


def test_the_old_kind_of_container_limits_counts_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(4)), raising=False)
    group = tmp_path / "sys/fs/cgroup/cpu,cpuacct/job"
    group.mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cpu").symlink_to("cpu,cpuacct")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("3:memory:/job\n2:cpu,cpuacct:/job\n1:name=systemd:/job\n")
    (group / "cpu.cfs_period_us").write_text("100000")
    (group / "cpu.cfs_quota_us").write_text("50000")
    assert usable_cores(tmp_path) == 1
    (group / "cpu.cfs_quota_us").write_text("-1")
    assert usable_cores(tmp_path) == 4


def test_free_memory_is_the_least_that_machine_and_container_leave(tmp_path: Path) -> None:
    assert free_memory(tmp_path) is None
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000 kB\nMemAvailable: 5000 kB\n")
    assert free_memory(tmp_path) == 5000 * 1024
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    group = tmp_path / "sys/fs/cgroup/job"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("3000000\n")
    (group / "memory.current").write_text("2000000\n")
    (group / "memory.stat").write_text("anon 1500000\ninactive_file 400000\n")
    assert free_memory(tmp_path) == 3_000_000 - 2_000_000 + 400_000


def tuned(threads: str, **environment: str) -> list[str]:
    """Threads and reason from a process of its own, for what is tuned stays tuned."""
    code = (
        f"from MSTKDSegmenterLib.engine.device import tune_cpu; import torch; result = tune_cpu({threads});"
        "print(torch.get_num_threads(), result.threads, result.reason, sep='|')"
    )
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=LIBRARY, env={**inherited, **environment}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().split("|")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts cores as Linux tells them")
def test_tuning_uses_the_cores_there_are_and_says_so() -> None:
    set_threads, threads, reason = tuned("")
    assert int(set_threads) == int(threads) == usable_cores()
    assert "one per physical core that may be used" in reason
    assert "freed memory is kept" in reason or "handled as by default" in reason


def test_tuning_respects_omp_num_threads_and_what_was_asked_for() -> None:
    set_threads, threads, reason = tuned("", OMP_NUM_THREADS="1")
    assert (set_threads, threads) == ("1", "1")
    assert reason.startswith("1 thread (from OMP_NUM_THREADS)")
    set_threads, threads, reason = tuned("3", OMP_NUM_THREADS="1")
    assert (set_threads, threads) == ("3", "3")
    assert reason.startswith("3 threads (as asked for)")
