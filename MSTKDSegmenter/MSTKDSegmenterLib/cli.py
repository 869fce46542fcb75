"""The command `mstkd`: segment a study from a shell, or say what model and device are there.

Exit code 0 done, 1 failed, 2 unusable input; the reason is one line on stderr. Nothing heavy is imported before the
command line has been understood.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__
from .engine.errors import Cancelled, UnusableInput
from .engine.progress import Event
from .engine.sequences import SEQUENCES
from .stopping import STOPPED, Stop

if TYPE_CHECKING:
    import SimpleITK as sitk

RESULTS = ("segmentation.seg.nrrd", "labels.nii.gz", "report.json", "report.html")
BEFORE = "before"
"""Folder in the scratch folder, for results that are being replaced."""
DONE, FAILED, UNUSABLE = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a path that a console cannot show is no failure
    try:
        options.run(options)
    except UnusableInput as error:
        return _fail(error, UNUSABLE)
    except (Cancelled, KeyboardInterrupt):
        return _fail(STOPPED, FAILED)
    except Exception as error:
        if options.debug:
            raise
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", FAILED)
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mstkd",
        description="Brain tumour segmentation from any subset of FLAIR, T1, T1ce and T2. Research use only.",
    )
    parser.add_argument("--version", action="version", version=f"mstkd {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    segment = commands.add_parser("segment", help="segment one study", description="Segment one study.")
    segment.set_defaults(run=_segment)
    segment.add_argument("folder", nargs="?", type=Path, help="a folder with a whole study, sorted by itself")
    for sequence in SEQUENCES:
        what = f"{sequence}: an image file or a DICOM series folder"
        # all that are given, so that a second one is refused and does not take the place of the first
        segment.add_argument("--" + sequence.lower(), type=Path, action="append", metavar="PATH", help=what)
    segment.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the results")
    segment.add_argument(
        "--same-patient", action="store_true", help="the sequences are of one patient, whatever anatomy and headers say"
    )
    segment.add_argument("--probabilities", action="store_true", help="also write the probability of each region")
    segment.add_argument("--device", choices=("auto", "cuda", "mps", "cpu"), default="auto")
    segment.add_argument(
        "--force", action="store_true", help="replace the results that are already in OUT, all of them"
    )
    segment.add_argument("--quiet", action="store_true", help="no progress on stderr")

    info = commands.add_parser("info", help="say which model, device and versions are in use")
    info.set_defaults(run=_info)
    info.add_argument("--json", action="store_true", help="as JSON")
    for command in (segment, info):
        command.add_argument("--model", type=Path, metavar="DIR", help="model package (default: the one that ships)")
        command.add_argument("--debug", action="store_true", help="show the traceback of a failure")
    return parser


def _segment(options: argparse.Namespace) -> None:
    _check_output(options.output, options.force)
    named = {s: getattr(options, s.lower()) for s in SEQUENCES if getattr(options, s.lower()) is not None}
    for sequence, paths in named.items():
        if len(paths) > 1:
            raise UnusableInput(
                f"--{sequence.lower()} was given {len(paths)} times ({', '.join(map(str, paths))}): expected one image "
                "for each sequence"
            )
    given = {sequence: path for sequence, (path,) in named.items()}
    if options.folder is not None and given:
        raise UnusableInput(
            f"both a study folder ({options.folder}) and {', '.join('--' + s.lower() for s in given)} were given: "
            "expected one or the other; leave out the folder to name every sequence yourself"
        )
    if options.folder is None and not given:
        raise UnusableInput("no sequence was given: name at least one, such as --flair FILE, or a folder with a study")
    with Stop(lambda: _fail(STOPPED, FAILED)) as stop:
        _compute(options, given, stop)


def _compute(options: argparse.Namespace, given: dict[str, Path], stop: Stop) -> None:
    from .engine.device import tune_cpu
    from .engine.package import load
    from .engine.report import write_report
    from .engine.report_page import page
    from .engine.segment import segment
    from .engine.study import study_from_files, study_from_folder
    from .engine.writing import PROBABILITIES, write_image, write_probability
    from .scene.segmentation import attribution, write_segmentation

    package = load(options.model or _shipped())
    if options.folder is not None:
        study = study_from_folder(options.folder, options.same_patient)
    else:
        study = study_from_files(given, options.same_patient)
    tune_cpu()
    progress = None if options.quiet else _show
    with _all_or_nothing(options.output, stop, options.force) as scratch:

        def keep(region: str, probability: sitk.Image) -> None:
            write_probability(probability, scratch() / PROBABILITIES[region])

        wanted = keep if options.probabilities else None
        result = segment(study, package, options.device, progress, stop.requested.is_set, wanted)
        folder = scratch()
        write_segmentation(folder / RESULTS[0], result.masks, result.reference_grid, **attribution(result.report))
        write_image(result.reference_grid.image(result.labels), folder / RESULTS[1])
        write_report(result.report, folder / RESULTS[2])
        (folder / RESULTS[3]).write_text(page(result.report), encoding="utf-8")
    try:
        _summarise(result.report, options.output)
        sys.stdout.flush()
    except BrokenPipeError:  # the results are there, and whoever read the summary has seen enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _info(options: argparse.Namespace) -> None:
    from .engine.package import load

    package = load(options.model or _shipped())
    facts: dict[str, Any] = {
        "version": __version__,
        "python": sys.version.split()[0],
        "model": {
            "name": package.name,
            "version": package.version,
            "sha256": package.sha256,
            "licence": package.licence,
        },
        "folder": str(package.folder),
        "quality": package.quality.table,
    }
    try:
        import torch

        from .engine.device import choose_device

        device = choose_device("auto")
        facts["torch"], facts["device"] = torch.__version__, f"{device.name}: {device.reason}"
    except Exception as error:  # a broken torch is exactly what one wants to read here
        facts["torch"] = facts["device"] = f"not usable ({error})"
    if options.json:
        print(json.dumps(facts, indent=2))
        return
    for key in ("version", "python", "torch", "device", "folder"):
        print(f"{key:8} {facts[key]}")
    for key, value in facts["model"].items():
        print(f"model    {key}: {value}")
    print("\nMean Dice on studies kept out of training when measured:")
    for subset, row in facts["quality"].items():
        print(f"  {subset:18}" + "  ".join(f"{region} {value:.2f}" for region, value in row.items()))


def _shipped() -> Path:
    from .engine.package import default_folder

    return default_folder()


def _check_output(output: Path, force: bool) -> None:
    """Refuse before anything is computed, not after."""
    from .engine.reading import check_path

    check_path(output)
    if output.exists() and not output.is_dir():
        raise UnusableInput(f"{output} is a file: expected a folder for the results; choose another with -o")
    there = [name for name in _files() if (output / name).exists()]
    no_files = [name for name in there if not (output / name).is_file()]
    if no_files:
        raise UnusableInput(f"{output / no_files[0]} is no file and cannot be replaced: choose another folder with -o")
    if there and not force:
        raise UnusableInput(
            f"{output} already holds {', '.join(there)}: choose another folder, or add --force to replace"
        )
    parent = output if output.is_dir() else next((p for p in output.absolute().parents if p.exists()), None)
    if parent is None:  # on Windows: a drive or a share
        raise UnusableInput(f"{output.absolute().anchor} is not there: choose another folder with -o")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UnusableInput(f"{parent} cannot be written to: choose a folder of yours with -o")


@contextmanager
def _all_or_nothing(output: Path, stop: Stop, force: bool) -> Iterator[Callable[[], Path]]:
    """A scratch folder in the output, made when it is asked for; its files take their places together at the end.

    Results of before go, those too that are not made again. If a new one cannot take its place, they are put back.
    Folders that were made for nothing go again.
    """

    def scratch() -> Path:
        if stop.scratch is None:
            stop.made = [path for path in (output, *output.parents) if not path.exists()]
            output.mkdir(parents=True, exist_ok=True)
            stop.scratch = Path(tempfile.mkdtemp(prefix=".mstkd-", dir=output))
        return stop.scratch

    try:
        yield scratch
        with stop.last_step():
            _check_output(output, force)  # again: another run may have put its results there meanwhile
            _replace_all(scratch(), output)
    finally:
        if stop.scratch is None or not _kept_back(stop.scratch):
            stop.clean_up()


def _replace_all(scratch: Path, output: Path) -> None:
    new = [name for name in _files() if name in RESULTS or (scratch / name).exists()]
    before = scratch / BEFORE
    before.mkdir()
    try:
        for name in _files():
            if (output / name).exists():
                os.replace(output / name, before / name)
        for name in new:
            os.replace(scratch / name, output / name)
    except OSError:
        old = [path.name for path in before.iterdir()]
        try:
            for name in old:
                os.replace(before / name, output / name)
            for name in new:
                if name not in old and not (scratch / name).exists():  # it was placed already
                    (output / name).unlink(missing_ok=True)
        except OSError as error:
            raise OSError(f"{error}; those results of before that could not be put back are in {before}") from error
        raise
    shutil.rmtree(before, ignore_errors=True)


def _kept_back(scratch: Path) -> bool:
    """Whether results of before are still there."""
    return any((scratch / BEFORE).glob("*"))


def _files() -> tuple[str, ...]:
    """Names of all that a run can leave."""
    from .engine.writing import PROBABILITIES

    return (*RESULTS, *PROBABILITIES.values())


def _show(event: Event) -> None:
    told = f"{event.stage}: {event.message}" if event.message else event.stage
    print(f"[{100 * event.fraction:3.0f} %] {told}", file=sys.stderr, flush=True)


def _summarise(report: dict[str, Any], output: Path) -> None:
    print(f"{report['subset']} -> {output}")
    if report["expected"]:
        print(f"  expected Dice: mean of {report['model']['measured_on']} studies kept out of training when measured")
    for region, volume in report["volumes_ml"].items():
        expected = report["expected"].get(region)
        quality = f"   expected Dice {expected['dice']:.2f} ({expected['grade']})" if expected else ""
        print(f"  {region}  {volume:8.2f} ml{quality}")
    for line in report["findings"]:
        print(f"  ! {line}")


def _fail(reason: object, code: int) -> int:
    print(f"mstkd: {' '.join(str(reason).split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
