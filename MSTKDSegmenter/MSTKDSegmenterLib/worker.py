"""One segmentation as a child process: `python -m MSTKDSegmenterLib.worker JOB.json`, or by the path of this file.

JOB.json::

    {"sequences": {"FLAIR": "flair.nrrd", ...},   any subset; image files or DICOM series folders
     "names": {"FLAIR": "what the user calls it"}, the files are copies of images in memory; may be left out, and then
     "reasons": {"FLAIR": "why it is FLAIR"},      these too
     "notes": ["what speaks against them"],
     "model": null,                                folder of a model package; null: the one that ships
     "device": "auto",
     "same_patient": false,                        true: whatever their anatomy says
     "probabilities": false,                       true: write those of the regions as well
     "output": "folder"}                           labels.nii.gz, report.json and, if wanted, probability_WT.nrrd (TC,
                                                   ET) are written there, all or none

Standard output is one JSON object a line: ``{"stage", "fraction", "message"}`` now and then, and one last line, either
``{"done": true, "report": path, "labels": path, "probabilities": {"WT": path, ...}}`` or
``{"error": text, "kind": "input" | "failed" | "cancelled"}``.
All other output, of libraries too, goes to standard error. Exit code 0 done, 1 failed or cancelled, 2 unusable input.

The process lives as long as its standard input is open: the parent closes it to cancel, and the system does so when
the parent dies. A file named `stop` beside JOB.json cancels as well, for parents whose launcher does not hand standard
input on, and so does SIGTERM. Each time it is gone within two seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import SimpleITK as sitk

    from .engine.progress import Event
    from .stopping import Stop

DONE, FAILED, UNUSABLE = 0, 1, 2
STOP = "stop"
"""Name of the file that cancels, in the folder of the job file."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the job in the file named by the one argument; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    channel = _Channel()
    if len(arguments) != 1:
        channel.end({"error": f"Expected the path of one job file, got {len(arguments)} arguments.", "kind": "input"})
        return UNUSABLE
    from .engine.errors import Cancelled, UnusableInput
    from .stopping import STOPPED, Stop

    try:
        file = Path(arguments[0]).absolute()
        ways = (_stdin_closed, lambda: _appears(file.with_name(STOP)))
        with Stop(lambda: channel.end({"error": STOPPED, "kind": "cancelled"}), ways) as stop:
            job = _read_job(file)
            with _inside(job["output"]):
                written = _run(job, channel, stop)
    except UnusableInput as error:
        channel.end({"error": str(error), "kind": "input"})
        return UNUSABLE
    except Cancelled as error:
        channel.end({"error": str(error), "kind": "cancelled"})
        return FAILED
    except Exception as error:
        traceback.print_exc()
        channel.end({"error": f"{type(error).__name__}: {error}", "kind": "failed"})
        return FAILED
    channel.end({"done": True, **written})
    return DONE


def _read_job(path: Path) -> dict[str, Any]:
    from .engine.errors import UnusableInput
    from .engine.sequences import SEQUENCES

    try:
        job = json.loads(path.read_text(encoding="utf-8"))
        if not set(job["sequences"]) <= set(SEQUENCES):
            raise KeyError(f"sequences are {', '.join(job['sequences'])}, known are {', '.join(SEQUENCES)}")
        return {
            "sequences": {str(sequence): Path(file).absolute() for sequence, file in job["sequences"].items()},
            "names": dict(job.get("names") or {}),
            "reasons": dict(job.get("reasons") or {}),
            "notes": list(job.get("notes") or []),
            "model": Path(job["model"]).absolute() if job.get("model") else None,
            "device": str(job.get("device") or "auto"),
            "same_patient": bool(job.get("same_patient")),
            "probabilities": bool(job.get("probabilities")),
            "output": Path(job["output"]).absolute(),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableInput(
            f"The job file {path} cannot be used ({error!r}): expected JSON with sequences (name to file) and output."
        ) from error


def _run(job: dict[str, Any], channel: _Channel, stop: Stop) -> dict[str, Any]:
    """Compute and write, inside the folder for the output; returns the paths of what was written."""
    import SimpleITK as sitk

    from .engine.device import tune_cpu
    from .engine.package import default_folder, load
    from .engine.progress import Event
    from .engine.report import write_report
    from .engine.segment import segment
    from .engine.study import study_from_files, study_from_images
    from .engine.writing import PROBABILITIES, write_image, write_probability

    package = load(job["model"] or default_folder())
    channel.event(Event("start", 0.0, "loading PyTorch"))  # takes seconds, the first time after a restart many
    print(tune_cpu().reason)
    if job["names"]:
        images = {sequence: sitk.ReadImage(_from_here(path)) for sequence, path in job["sequences"].items()}
        study = study_from_images(images, job["names"], job["reasons"])
        study.same_patient = job["same_patient"]
    else:
        study = study_from_files(job["sequences"], job["same_patient"])
    study.notes += job["notes"]

    output, probabilities = job["output"], {}
    stop.scratch = Path(tempfile.mkdtemp(prefix=".mstkd-", dir=output))
    scratch = Path(stop.scratch.name)

    def keep(region: str, probability: sitk.Image) -> None:
        probabilities[region] = PROBABILITIES[region]
        write_probability(probability, scratch / probabilities[region])

    try:
        wanted = keep if job["probabilities"] else None
        result = segment(study, package, job["device"], channel.event, stop.requested.is_set, wanted)
        write_image(result.reference_grid.image(result.labels), scratch / "labels.nii.gz")
        write_report(result.report, scratch / "report.json")
        with stop.last_step():
            for file in ("labels.nii.gz", "report.json", *probabilities.values()):
                os.replace(scratch / file, output / file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return {
        "report": str(output / "report.json"),
        "labels": str(output / "labels.nii.gz"),
        "probabilities": {region: str(output / file) for region, file in probabilities.items()},
    }


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """With the folder, made if need be, as the working directory.

    On Windows SimpleITK opens names in the system's code page, and the user's own folder may have letters that are not
    in it: seen from inside, the names are plain.
    """
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(tempfile.gettempdir())  # Windows does not remove a folder that a process is in


def _from_here(path: Path) -> str:
    try:
        return os.path.relpath(path)
    except ValueError:  # on another drive
        return str(path)


class _Channel:
    """The lines on standard output, which is kept for them alone."""

    def __init__(self) -> None:
        # libraries print to descriptor 1 behind Python's back; from here on that is standard error
        self._stream = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self._ended = False

    def event(self, event: Event) -> None:
        """Report progress."""
        self._send({"stage": event.stage, "fraction": round(event.fraction, 4), "message": event.message})

    def end(self, line: dict[str, Any]) -> None:
        """Send the last line; what comes later is not sent any more."""
        self._send(line, last=True)

    def _send(self, line: dict[str, Any], last: bool = False) -> None:
        with self._lock:
            if self._ended:
                return
            self._ended = last
            with contextlib.suppress(OSError):  # nobody reads any more; then standard input is closed as well
                self._stream.write(json.dumps(line) + "\n")
                self._stream.flush()


def _stdin_closed() -> None:
    # not sys.stdin: its lock, held by a thread that waits, would break the end of the process
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass


def _appears(file: Path) -> None:
    while not file.exists():
        time.sleep(0.1)


if __name__ == "__main__":
    if not __package__:  # started by its path: its own folder stands first on sys.path, the one above belongs there
        sys.path[0] = str(Path(__file__).resolve().parents[1])
        from MSTKDSegmenterLib.worker import main
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # everything is written; unloading torch in good order would take another second
