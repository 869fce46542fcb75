"""The parent's side of worker.py: start the job in a process of its own, watch it without waiting, cancel it.

A crash of torch or a lack of memory ends that process and not the one that the user works in. No threads and no qt: the
child writes its events into a file, which is read whenever the caller asks, e.g. from a timer.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .engine.errors import Cancelled, UnusableInput
from .engine.progress import Event
from .worker import STOP

WORKER = Path(__file__).with_name("worker.py")
PATIENCE = 4.0
"""Seconds after cancelling before the process is killed; it is expected to be gone after two."""


@dataclass(frozen=True)
class Output:
    """What a job wrote: its report, the path of the label map (NCR 1, ED 2, ET 3), and the paths of the probabilities
    by region, if they were wanted."""

    report: dict[str, Any]
    labels: Path
    probabilities: dict[str, Path]


class ChildJob:
    """One segmentation in a child process.

    Example::

        with ChildJob(sys.executable, {"sequences": {"FLAIR": "flair.nrrd"}, "output": "results"}) as child:
            while child.running():
                for event in child.events():
                    print(event)
                time.sleep(0.1)
            output = child.result()

    Leaving the block ends the process if it still runs.
    """

    def __init__(self, python: str, job: Mapping[str, Any], within: Path | None = None) -> None:
        """Start ``job`` (see worker.py) with the given Python executable.

        Args:
            within: folder for its own files while it runs; None: the system's for temporary files.

        Raises:
            OSError: the executable cannot be started.
        """
        self._folder = folder = Path(tempfile.mkdtemp(prefix="mstkd-job-", dir=within))
        (folder / "job.json").write_text(json.dumps({**job, "output": str(job["output"])}), encoding="utf-8")
        self._log = folder / "log.txt"
        self._unread = b""
        self._last: dict[str, Any] = {}
        self._killed_at: float | None = None
        try:
            with open(folder / "events.jsonl", "wb") as out, open(self._log, "wb") as log:
                self._process = subprocess.Popen(
                    [python, str(WORKER), str(folder / "job.json")],
                    stdin=subprocess.PIPE,
                    stdout=out,
                    stderr=log,
                    creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # Windows opens a console otherwise
                )
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._lines = open(folder / "events.jsonl", "rb")  # noqa: SIM115

    def __enter__(self) -> ChildJob:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def running(self) -> bool:
        """Whether the process still runs. One that does not heed ``cancel`` is killed here."""
        if self._process.poll() is not None:
            return False
        if self._killed_at is not None and time.monotonic() > self._killed_at:
            self._process.kill()
        return True

    def events(self) -> list[Event]:
        """The progress since the last call; returns at once."""
        *lines, self._unread = (self._unread + self._lines.read()).split(b"\n")
        events = []
        for line in lines:
            try:
                content = json.loads(line)
            except ValueError:
                continue  # not ours: a launcher between us and the worker may print as well
            if "stage" in content:
                events.append(Event(content["stage"], content["fraction"], content["message"]))
            else:
                self._last = content
        return events

    def cancel(self) -> None:
        """Ask the process to end, which it does within two seconds. Returns at once."""
        if self._killed_at is None:
            self._killed_at = time.monotonic() + PATIENCE
            # a launcher between us and the worker may not hand on that standard input is closed
            with contextlib.suppress(OSError):  # no room: then that alone has to do
                (self._folder / STOP).touch()
            with contextlib.suppress(OSError):  # it is gone already
                self._process.stdin.close()

    def result(self) -> Output:
        """Waits for the end, and says what was written.

        Raises:
            UnusableInput: the input, with cause and remedy.
            Cancelled: ``cancel`` was called.
            RuntimeError: anything else, with the last lines the process wrote.
        """
        while self.running():
            time.sleep(0.02)
        self.events()
        if self._last.get("done"):
            report = json.loads(Path(self._last["report"]).read_text(encoding="utf-8"))
            probabilities = {region: Path(path) for region, path in self._last["probabilities"].items()}
            return Output(report, Path(self._last["labels"]), probabilities)
        kind, error = self._last.get("kind"), self._last.get("error")
        if kind == "input":
            raise UnusableInput(error)
        if kind == "cancelled" or self._killed_at is not None:
            raise Cancelled(error or "Stopped on request; nothing was written.")
        if error is None:
            error = f"The segmentation process ended unexpectedly ({_meaning(self._process.returncode)})."
        raise RuntimeError("\n".join([error, *self._tail()]))

    def close(self) -> None:
        """End the process, if it still runs, and remove its files."""
        self.cancel()
        while self.running():
            time.sleep(0.02)
        self._lines.close()
        shutil.rmtree(self._folder, ignore_errors=True)  # behind a launcher the worker may still be ending

    def _tail(self) -> list[str]:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return ["Its last lines:", *lines[-10:]] if lines else []


def _meaning(code: int) -> str:
    if code == -9:  # SIGKILL, which Windows does not have
        return "killed by the system, as it does when memory runs out; close other programs and try again"
    if (
        code == 1
    ):  # of Slicer's launcher, whatever happened to the Python behind it; the worker itself says why it fails
        return (
            "it crashed, or the system killed it, as it does when memory runs out; close other programs and try again, "
            "or try the device 'cpu'"
        )
    if code < 0:
        return f"it crashed with signal {-code}; try the device 'cpu'"
    return f"exit code {code}"
