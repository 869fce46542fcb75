"""What helping processes do when they start: leave cores to each other, and signals to the one that started them."""

from __future__ import annotations

import signal

import SimpleITK as sitk
import torch


def one_thread() -> None:
    """The processes share the cores among themselves."""
    torch.set_num_threads(1)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)


def loading(_: int) -> None:
    """For a process that makes training samples, by its number."""
    one_thread()
    # a terminal or a scheduler signals it too; it has to live until the checkpoint is written
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
