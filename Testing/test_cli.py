"""The command mstkd, run as a user runs it: exit codes, one line of reason, nothing lost, nothing half-written."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from unittest.mock import Mock

import head_phantom
import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib import cli
from MSTKDSegmenterLib.engine import package, writing
from MSTKDSegmenterLib.engine.network import NetworkConfig, build
from MSTKDSegmenterLib.engine.reliability import outlook
from MSTKDSegmenterLib.engine.sequences import SEQUENCES

GRID = dict(size=20, spacing=8.0)  # 160 mm: a head-sized box of few voxels


def image(seed: int) -> sitk.Image:
    """Of the size of a head, but a ball of noise in zeros."""
    size = GRID["size"]
    axes = np.ogrid[:size, :size, :size]
    inside = sum(((a - size / 2) / (size * 0.4)) ** 2 for a in axes) < 1
    noise = np.random.default_rng(seed).normal(100, 20, size=(size,) * 3)
    result = sitk.GetImageFromArray((noise * inside).astype(np.float32))
    result.SetSpacing([GRID["spacing"]] * 3)
    return result


@pytest.fixture
def study(tmp_path: Path) -> dict[str, Path]:
    """Four sequences of one small head."""
    paths = {}
    for sequence in SEQUENCES:
        name = sequence.lower()
        paths[name] = tmp_path / f"p_{name}.nii.gz"
        sitk.WriteImage(head_phantom.head(sequence), str(paths[name]))
    return paths


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network with random weights that marks something, so that every part of the path has work to do."""
    import torch

    torch.manual_seed(0)
    network = build(NetworkConfig(width=8, blocks=(1, 1, 1, 1), availability=True))
    torch.nn.init.constant_(network.head.bias, 0.0)
    card = {
        "kind": "tumour", "name": "tiny", "version": "0", "spacing_mm": 8.0,
        "thresholds": {"WT": 0.7, "TC": 0.5, "ET": 0.25}, "licence": "none", "data": "none", "intended_use": "tests",
        "citation": [], "quality": {"measured_on": [], "command": "none", "table": {}},
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "tiny"
    package.write(folder, network, card)
    return folder


def run(*arguments: object, package: Path | None = None) -> tuple[int, str]:
    """Exit code and stderr of the real command in its own process."""
    command = [sys.executable, "-m", "MSTKDSegmenterLib.cli", *map(str, arguments)]
    if package is not None:
        command += ["--model", str(package)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300, check=False)
    return done.returncode, done.stderr


def call(*arguments: object, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    """The same within this process: quicker, for inputs that are refused."""
    code = cli.main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err


def test_a_study_gives_its_files_on_the_grid_of_its_reference(study: dict, tiny_package: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    code, errors = run("segment", "--flair", study["flair"], "--t2", study["t2"], "-o", out, package=tiny_package)
    assert code == 0, errors
    assert any(line.endswith("] predict") for line in errors.splitlines())  # a stage without a message has no colon
    assert sorted(p.name for p in out.iterdir()) == [
        "labels.nii.gz",
        "report.html",
        "report.json",
        "segmentation.seg.nrrd",
    ]
    labels = sitk.ReadImage(str(out / "labels.nii.gz"))
    reference = sitk.ReadImage(str(study["flair"]))
    assert labels.GetSize() == reference.GetSize()
    np.testing.assert_allclose(labels.GetOrigin(), reference.GetOrigin(), atol=1e-4)
    np.testing.assert_allclose(labels.GetDirection(), reference.GetDirection(), atol=1e-6)
    values = sitk.GetArrayFromImage(labels)
    report = json.loads((out / "report.json").read_text())
    assert report["subset"] == "FLAIR+T2"
    assert set(report["inputs"]) == {"FLAIR", "T2"}
    voxel_ml = head_phantom.SPACING**3 / 1000
    assert report["volumes_ml"]["WT"] == pytest.approx((values > 0).sum() * voxel_ml, abs=1e-3)
    assert report["volumes_ml"]["TC"] == pytest.approx(np.isin(values, (1, 3)).sum() * voxel_ml, abs=1e-3)
    assert report["model"]["sha256"] == json.loads((tiny_package / "model.json").read_text())["weights"]["sha256"]
    assert report["findings"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert report["model"]["sha256"] in page
    assert "p_flair.nii.gz" in page


def test_a_region_that_the_subset_cannot_support_is_marked_in_the_segmentation(study: dict, tmp_path: Path) -> None:
    shipped = package.default_folder()
    weak = outlook(package.quality_table(shipped), ["FLAIR"]).unsupported
    code, errors = run("segment", "--flair", study["flair"], "-o", tmp_path / "out")
    assert code == 0, errors
    image = sitk.ReadImage(str(tmp_path / "out" / "segmentation.seg.nrrd"))
    names = {image.GetMetaData(f"Segment{i}_ID"): image.GetMetaData(f"Segment{i}_Name") for i in range(3)}
    assert weak
    assert names == {r: f"{r} (not reliable)" if r in weak else r for r in ("WT", "TC", "ET")}
    tags = {image.GetMetaData(f"Segment{i}_ID"): image.GetMetaData(f"Segment{i}_Tags") for i in range(3)}
    assert all("MSTKDSegmenter.reliability:not reliable" in tags[region] for region in weak)
    assert all("DICOM.SegmentAlgorithmType:AUTOMATIC" in text for text in tags.values())


def test_a_folder_is_sorted_by_itself_and_the_result_is_the_same(
    study: dict, tiny_package: Path, tmp_path: Path
) -> None:
    named, sorted_ = tmp_path / "named", tmp_path / "sorted"
    flags = [item for name, path in study.items() for item in (f"--{name}", path)]
    assert run("segment", *flags, "-o", named, package=tiny_package)[0] == 0
    assert run("segment", study["t1"].parent, "-o", sorted_, package=tiny_package)[0] == 0
    first, second = (sitk.GetArrayFromImage(sitk.ReadImage(str(f / "labels.nii.gz"))) for f in (named, sorted_))
    np.testing.assert_array_equal(first, second)


@pytest.mark.skipif(os.name != "posix", reason="a pipe that nobody reads, as POSIX systems have it")
def test_a_reader_who_leaves_before_the_summary_does_not_make_a_finished_run_a_failure(
    study: dict, tiny_package: Path, tmp_path: Path
) -> None:
    arguments = ["segment", "--t1", study["t1"], "-o", tmp_path / "out", "--model", tiny_package, "--quiet"]
    command = [sys.executable, "-m", "MSTKDSegmenterLib.cli", *map(str, arguments)]
    nobody, ours = os.pipe()
    os.close(nobody)
    done = subprocess.run(command, stdout=ours, stderr=subprocess.PIPE, encoding="utf-8", timeout=300, check=False)
    os.close(ours)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(cli.RESULTS)


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from MSTKDSegmenterLib.cli import main\n"
        "try: main(['segment', '--help'])\n"
        "except SystemExit as end: sys.exit(end.code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "--flair" in done.stdout


def test_a_path_that_the_console_cannot_show_is_no_failure(study: dict, tiny_package: Path, tmp_path: Path) -> None:
    flair, out = next(iter(study.values())), tmp_path / "łódź"
    command = [sys.executable, "-m", "MSTKDSegmenterLib.cli", "segment", "--flair", flair, "-o", out]
    done = subprocess.run(
        [*map(str, command), "--model", str(tiny_package)], capture_output=True, timeout=300, check=False,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"\\u0142" in done.stdout


def test_info_tells_model_device_and_versions(tiny_package: Path, capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["info", "--json", "--model", str(tiny_package)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["model"]["name"] == "tiny"
    assert len(facts["model"]["sha256"]) == 64
    assert facts["device"].split(":")[0] in ("cpu", "cuda", "mps")


def test_no_sequence_at_all(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, error = call("segment", "-o", tmp_path / "out", capsys=capsys)
    assert code == 2
    assert "no sequence was given" in error
    assert not (tmp_path / "out").exists()


def test_a_sequence_named_twice_is_refused(study: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    twice = ("--t1", study["t1"], "--t1", study["t2"])
    code, error = call("segment", *twice, "-o", tmp_path / "out", capsys=capsys)
    assert code == 2
    assert f"--t1 was given 2 times ({study['t1']}, {study['t2']})" in error


def test_a_folder_and_a_named_sequence_together_are_refused(
    study: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    code, error = call("segment", tmp_path, "--t1", study["t1"], "-o", tmp_path / "out", capsys=capsys)
    assert code == 2
    assert "one or the other" in error


def broken(kind: str, folder: Path) -> Path:
    """One unusable input of each kind that the command must refuse."""
    path = folder / f"{kind}.nii.gz"
    array = sitk.GetArrayFromImage(image(7))
    if kind == "missing":
        return path
    if kind == "empty":
        path.write_bytes(b"")
        return path
    if kind == "text":
        path = folder / "text.nii"
        path.write_text("this is not an image")
        return path
    if kind == "truncated":
        whole = folder / "whole.nii.gz"
        sitk.WriteImage(image(7), str(whole))
        path.write_bytes(whole.read_bytes()[:-2000])
        return path
    made = {
        "flat": lambda: sitk.GetImageFromArray(array[10]),
        "four-dimensional": lambda: sitk.GetImageFromArray(np.stack([array, array + 1]), isVector=False),
        "colour": lambda: sitk.GetImageFromArray(np.stack([array] * 3, axis=-1).astype(np.uint8), isVector=True),
        "zero": lambda: sitk.GetImageFromArray(array * 0),
        "constant": lambda: sitk.GetImageFromArray(array * 0 + 5),
        "nan": lambda: sitk.GetImageFromArray(array * np.nan),
        "tiny-spacing": lambda: sitk.GetImageFromArray(array),
    }[kind]()
    if made.GetDimension() == 3:
        made.SetSpacing([0.001 if kind == "tiny-spacing" else GRID["spacing"]] * 3)
    if kind == "colour":
        path = path.with_suffix("").with_suffix(".nrrd")
    sitk.WriteImage(made, str(path))
    return path


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("missing", "missing"),
        ("empty", "empty"),
        ("text", "text"),
        ("truncated", "truncated"),
        ("flat", "3-D|2-D|2D|3D|dimension"),
        ("four-dimensional", "4|dimension"),
        ("colour", "colour|component|RGB"),
        ("zero", "zero|0"),
        ("constant", "constant|same|5"),
        ("nan", "NaN"),
        ("tiny-spacing", "spacing"),
    ],
)
def test_an_unusable_file_is_refused_with_its_reason_and_nothing_is_written(
    kind: str, word: str, study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    import re

    path = broken(kind, tmp_path)
    before = path.read_bytes() if path.exists() else None
    out = tmp_path / "out"
    code, error = call(
        "segment", "--flair", study["flair"], "--t2", path, "-o", out, "--model", tiny_package, capsys=capsys
    )
    last = error.strip().splitlines()[-1]
    assert code == 2, error
    assert last.startswith("mstkd: ")
    assert re.search(word, last), last
    assert not out.exists()
    assert (path.read_bytes() if path.exists() else None) == before


def test_the_same_file_twice_is_refused(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    code, error = call(
        "segment",
        "--t1",
        study["t1"],
        "--t2",
        study["t1"],
        "-o",
        tmp_path / "out",
        "--model",
        tiny_package,
        capsys=capsys,
    )
    assert code == 2
    assert "T1" in error
    assert "T2" in error


def test_sequences_far_apart_are_refused(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    far = image(9)
    far.SetOrigin([900.0, 0.0, 0.0])
    sitk.WriteImage(far, str(tmp_path / "far.nii.gz"))
    code, error = call(
        "segment", "--t1", study["t1"], "--t2", tmp_path / "far.nii.gz", "-o", tmp_path / "o", "--model", tiny_package,
        capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert "overlap" in error


def test_results_are_never_written_over_unless_forced(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("precious")
    (out / "notes.txt").write_text("mine")
    arguments = ["segment", "--t1", study["t1"], "-o", out, "--model", tiny_package]
    code, error = call(*arguments, capsys=capsys)
    assert code == 2
    assert "--force" in error
    assert (out / "report.json").read_text() == "precious"
    code, error = call(*arguments, "--force", capsys=capsys)
    assert code == 0, error
    assert json.loads((out / "report.json").read_text())["subset"] == "T1"
    assert (out / "notes.txt").read_text() == "mine"


def test_probabilities_are_written_on_request_and_go_with_the_result_that_they_are_of(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out"
    arguments = ["segment", "--t1", study["t1"], "-o", out, "--model", tiny_package]
    code, error = call(*arguments, "--probabilities", capsys=capsys)
    assert code == 0, error
    probabilities = {region: f"probability_{region}.nrrd" for region in ("WT", "TC", "ET")}
    assert sorted(p.name for p in out.iterdir()) == sorted([*cli.RESULTS, *probabilities.values()])
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "labels.nii.gz")))
    whole = sitk.ReadImage(str(out / probabilities["WT"]))
    assert whole.GetOrigin() == pytest.approx(sitk.ReadImage(str(study["t1"])).GetOrigin())
    values = sitk.GetArrayFromImage(whole)
    near = np.abs(values - 0.7) < 1 / 4096  # as fine as they are written
    np.testing.assert_array_equal((values > 0.7)[~near], (labels > 0)[~near])
    for name in cli.RESULTS:
        (out / name).unlink()
    code, error = call(*arguments, capsys=capsys)
    assert code == 2
    assert "already holds probability_WT.nrrd" in error
    code, error = call(*arguments, "--force", capsys=capsys)
    assert code == 0, error
    assert sorted(p.name for p in out.iterdir()) == sorted(cli.RESULTS)


def test_results_that_another_run_has_written_meanwhile_are_not_replaced(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, write = tmp_path / "out", writing.write_image

    def beside(*arguments: object) -> None:
        (out / "report.json").write_text("of another run")
        write(*arguments)

    monkeypatch.setattr(writing, "write_image", beside)
    code, error = call("segment", "--t1", study["t1"], "-o", out, "--model", tiny_package, capsys=capsys)
    assert code == 2
    assert "already holds report.json" in error
    assert texts(out) == {"report.json": "of another run"}


def test_folders_that_were_made_for_nothing_go_again(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.setattr(writing, "write_image", Mock(side_effect=OSError(28, "No space left on device")))
    for out in (tmp_path / "a" / "b" / "c", tmp_path / "there" / "d"):
        assert call("segment", "--t1", study["t1"], "-o", out, "--model", tiny_package, capsys=capsys)[0] == 1
    assert not (tmp_path / "a").exists()
    assert list((tmp_path / "there").iterdir()) == []


def test_a_forced_run_that_fails_leaves_the_old_result(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.json").write_text("precious")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writing, "write_image", full)
    code, error = call("segment", "--t1", study["t1"], "-o", out, "--model", tiny_package, "--force", capsys=capsys)
    assert code == 1
    assert "No space left" in error
    assert [p.name for p in out.iterdir()] == ["report.json"]
    assert (out / "report.json").read_text() == "precious"


def test_what_is_in_the_place_of_a_result_and_no_file_is_refused_before_anything_is_computed(
    study: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "out" / "labels.nii.gz").mkdir(parents=True)
    code, error = call("segment", "--t1", study["t1"], "-o", tmp_path / "out", "--force", capsys=capsys)
    assert code == 2
    assert "is no file" in error


def two_results(tmp_path: Path) -> tuple[Path, Path]:
    """A new result without probabilities, and an older one with some in the folder where it shall go."""
    scratch, out = tmp_path / "out" / "scratch", tmp_path / "out"
    for folder, text, names in ((out, "old", [*cli.RESULTS[2:], "probability_WT.nrrd"]), (scratch, "new", cli.RESULTS)):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(text)
    return scratch, out


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_a_new_result_takes_the_place_of_all_of_the_old_one(tmp_path: Path) -> None:
    scratch, out = two_results(tmp_path)
    cli._replace_all(scratch, out)
    assert texts(out) == dict.fromkeys(cli.RESULTS, "new")


@pytest.mark.parametrize("missing", [True, False])
def test_if_one_result_cannot_take_its_place_the_old_ones_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    scratch, out = two_results(tmp_path)
    before = texts(out)
    if missing:
        (scratch / cli.RESULTS[3]).unlink()
    else:
        refuse_to_place(monkeypatch, scratch / cli.RESULTS[3])
    with pytest.raises(OSError, match="No such file" if missing else "No space left"):
        cli._replace_all(scratch, out)
    assert texts(out) == before


def test_old_results_that_cannot_come_back_are_kept_and_the_error_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch, out = two_results(tmp_path)
    refuse_to_place(monkeypatch, scratch / cli.RESULTS[3], scratch / "before" / cli.RESULTS[2])
    stop = cli.Stop(lambda: None)
    stop.scratch = scratch
    told = rf"could not be put back are in .*scratch{re.escape(os.sep)}before"
    with pytest.raises(OSError, match=told), cli._all_or_nothing(out, stop, force=True):
        pass
    assert texts(scratch / "before")[cli.RESULTS[2]] == "old"


def refuse_to_place(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    replace = os.replace

    def full(source: Path, target: Path) -> None:
        if source in files:
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX systems")
@pytest.mark.parametrize(("name", "delay"), [*product(("SIGINT", "SIGTERM"), (0.3, 1.0, 1.7, 2.4)), ("SIGHUP", 1.0)])
def test_a_signal_at_any_time_ends_the_command_and_nothing_is_half_written(
    study: dict, tiny_package: Path, tmp_path: Path, name: str, delay: float
) -> None:
    number = getattr(signal, name)
    out = tmp_path / "new" / "out"
    flags = [item for name, path in study.items() for item in (f"--{name}", path)]
    command = [sys.executable, "-m", "MSTKDSegmenterLib.cli", "segment", *flags, "-o", out, "--model", tiny_package]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, encoding="utf-8")
    time.sleep(delay)  # reading, importing or computing, whatever this machine is at by then
    process.send_signal(number)
    _, error = process.communicate(timeout=120)
    written = sorted(path.name for path in out.iterdir()) if out.exists() else []
    assert process.returncode in (0, 1, -number), error  # by the signal itself only while Python starts or ends
    if process.returncode == 1:
        assert written == []
        assert not out.parent.exists()
    elif process.returncode == 0:  # it was faster
        assert written == sorted(cli.RESULTS)
    else:
        assert written in ([], sorted(cli.RESULTS))


def test_an_output_that_is_a_file_is_refused(study: dict, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, error = call("segment", "--t1", study["t1"], "-o", study["t2"], capsys=capsys)
    assert code == 2
    assert "is a file" in error


@pytest.mark.skipif(sys.platform != "linux", reason="file systems of other systems take no name that is not UTF-8")
def test_an_output_whose_name_is_not_utf8_is_refused_before_anything_is_computed(
    study: dict, tiny_package: Path, tmp_path: Path
) -> None:
    out = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    code, error = run("segment", "--flair", study["flair"], "-o", out, package=tiny_package)
    assert code == 2
    assert len(error.splitlines()) == 1
    assert rf"{tmp_path}/caf\xe9 has a name that is not valid UTF-8 text" in error
    assert not Path(out).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_output_that_cannot_be_written_is_refused(
    study: dict, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    code, error = call("segment", "--t1", study["t1"], "-o", locked / "out", capsys=capsys)
    assert code == 2
    assert "cannot be written" in error


def test_an_altered_model_is_refused(
    study: dict, tiny_package: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_package.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    code, error = call("segment", "--t1", study["t1"], "-o", tmp_path / "out", "--model", copy, capsys=capsys)
    assert code == 2
    assert "sha256" in error


def test_an_output_on_a_drive_that_is_not_there_is_refused(
    study: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    exists = Path.exists
    drive = Path(tmp_path.anchor)
    monkeypatch.setattr(Path, "exists", lambda path: tmp_path in path.parents and exists(path))
    code, error = call("segment", "--t1", study["t1"], "-o", drive / "Z" / "out", capsys=capsys)
    assert code == 2
    assert f"{drive} is not there: choose another folder with -o" in error
