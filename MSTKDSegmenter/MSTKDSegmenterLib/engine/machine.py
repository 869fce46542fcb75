"""How much of this machine the process may use: processor cores and memory, container limits included."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def usable_cores(root: Path = ROOT) -> int | None:
    """Physical cores that this process may run on; None where only PyTorch's own choice is known (macOS, Windows).

    Two hyper-threads of a core count once: they share the arithmetic units that convolutions keep busy.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    cores = set()
    for cpu in os.sched_getaffinity(0):
        siblings = _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings or str(cpu))
    limits = [len(cores)]
    for group in _groups(root, "cpu"):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if not quota:  # the older cgroup v1
            quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period) > 0:
            limits.append(int(quota) // int(period))
    return max(1, min(limits))


def free_memory(root: Path = ROOT) -> int | None:
    """Bytes that this process can still take before the system has to end it; None where that is unknown.

    Linux ends a process that takes too much without an error that could be caught, so it has to be known before.
    """
    lines = (line.split() for line in _text(root / "proc/meminfo").splitlines())
    limits = [int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:"]
    for group in _groups(root, "memory"):
        for most, now, cache in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            if _text(group / most).isdigit() and _text(group / now).isdigit():
                statistics = (line.split() for line in _text(group / "memory.stat").splitlines())
                given_back = sum(int(words[1]) for words in statistics if words[0] == cache)
                limits.append(int(_text(group / most)) - int(_text(group / now)) + given_back)
    return max(0, min(limits)) if limits else None


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The control groups of this process, from its own to the outermost; a limit of any of them holds."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / (controller if controllers else "")
            inner = top / path.strip("/")
            yield from (group for group in (inner, *inner.parents) if group == top or top in group.parents)


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""
