"""The child process: what it says, what it leaves behind, and that it goes away when it is told to or left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from MSTKDSegmenterLib import child
from MSTKDSegmenterLib.child import ChildJob
from MSTKDSegmenterLib.engine.errors import Cancelled, UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid
from stand_in import HEEDS, IN_ONE_CALL, MODULE_FOLDER, write_worker

GRID = Grid((30, 28, 26), (5.0, 5.5, 6.0), (5.0, 6.0, 7.0), (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0))


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Writes a worker with another computation and makes ChildJob start it; returns its path."""

    def write(body: str = "") -> Path:
        path = write_worker(tmp_path / "worker.py", body)
        monkeypatch.setattr(child, "WORKER", path)
        return path

    return write


@pytest.fixture
def job(tmp_path) -> dict:
    values = np.random.default_rng(0).uniform(1, 9, GRID.shape).astype(np.float32)
    sitk.WriteImage(GRID.image(values), str(tmp_path / "FLAIR.nrrd"))
    return {"sequences": {"FLAIR": str(tmp_path / "FLAIR.nrrd")}, "output": str(tmp_path / "out")}


def start(script: Path, job: dict, tmp_path: Path) -> subprocess.Popen:
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "job.json")], stdin=pipe, stdout=pipe, stderr=pipe
    )


def until_it_computes(process: subprocess.Popen) -> None:
    while b'"first"' not in process.stdout.readline():
        assert process.poll() is None


def last_line(process: subprocess.Popen) -> dict:
    return json.loads(process.stdout.read().splitlines()[-1])


def files(folder: str) -> list[str]:
    return sorted(os.listdir(folder)) if os.path.isdir(folder) else []


class TestLines:
    def test_standard_output_is_json_whatever_libraries_print(self, stand_in, job, tmp_path) -> None:
        script = stand_in("""
            print("from Python")
            os.write(1, b"from C\\n")
            os.system("echo from a child of the child")
        """)
        process = start(script, job, tmp_path)
        out, err = process.stdout.read(), process.stderr.read()
        lines = [json.loads(line) for line in out.splitlines()]
        assert process.wait() == 0
        assert [line.get("stage") for line in lines] == ["start", "first", None]
        assert lines[1] == {"stage": "first", "fraction": 0.25, "message": "ein schöner Anfang"}
        assert lines[-1] == {
            "done": True,
            "report": str(Path(job["output"]) / "report.json"),
            "labels": str(Path(job["output"]) / "labels.nii.gz"),
            "probabilities": {},
        }
        assert [text in err for text in (b"from Python", b"from C", b"from a child")] == [True, True, True]

    def test_the_label_map_lies_where_the_image_does(self, stand_in, job, tmp_path) -> None:
        assert start(stand_in(), job, tmp_path).wait() == 0
        assert files(job["output"]) == ["labels.nii.gz", "report.json"]
        labels = sitk.ReadImage(str(Path(job["output"]) / "labels.nii.gz"))
        assert Grid.of(labels).matches(GRID)
        assert np.argwhere(sitk.GetArrayFromImage(labels)).min(axis=0).tolist() == [1, 1, 1]

    def test_what_is_known_of_the_images_and_changed_in_them_reaches_the_report(self, stand_in, job, tmp_path) -> None:
        values = sitk.GetArrayFromImage(sitk.ReadImage(job["sequences"]["FLAIR"]))
        values[:2] = np.nan
        sitk.WriteImage(GRID.image(values), job["sequences"]["FLAIR"])
        known = {"names": {"FLAIR": "my scan"}, "reasons": {"FLAIR": "named 'dark'"}, "notes": ["It is old."]}
        assert start(stand_in(), {**job, **known}, tmp_path).wait() == 0
        report = json.loads((Path(job["output"]) / "report.json").read_text(encoding="utf-8"))
        given = report["inputs"]["FLAIR"]
        assert (given["source"], given["recognised_by"]) == ("my scan", "named 'dark'")
        mended, told, _ = report["findings"]
        assert "my scan" in mended and "NaN" in mended
        assert told == "It is old."

    def test_probabilities_lie_there_too_when_they_are_wanted(self, stand_in, job, tmp_path) -> None:
        process = start(stand_in(), {**job, "probabilities": True}, tmp_path)
        written = last_line(process)["probabilities"]
        assert process.wait() == 0
        assert files(job["output"]) == [
            "labels.nii.gz",
            *(f"probability_{r}.nrrd" for r in ("ET", "TC", "WT")),
            "report.json",
        ]
        assert list(written) == ["WT", "TC", "ET"]
        image = sitk.ReadImage(written["TC"])
        labels = sitk.GetArrayFromImage(sitk.ReadImage(str(Path(job["output"]) / "labels.nii.gz")))
        assert image.GetPixelID() == sitk.sitkFloat32
        assert Grid.of(image).matches(GRID)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), np.where(np.isin(labels, (1, 3)), 0.75, 0))

    def test_image_libraries_see_plain_names_whatever_the_folders_are_called(self, stand_in, job, tmp_path) -> None:
        """On Windows SimpleITK opens no names with letters that are not in the system's code page."""
        folder = tmp_path / "Jürgen 漢"
        folder.mkdir()
        os.replace(job["sequences"]["FLAIR"], folder / "FLAIR.nrrd")
        given = {
            "sequences": {"FLAIR": str(folder / "FLAIR.nrrd")},
            "names": {"FLAIR": "my scan"},
            "output": str(folder / "out"),
            "probabilities": True,
        }
        script = stand_in()
        script.write_text(
            "import json, sys, SimpleITK as sitk\n"
            "def noting(call, at):\n"
            "    def noted(*given, **options):\n"
            "        print('NAME', json.dumps(given[at]), file=sys.stderr)\n"
            "        return call(*given, **options)\n"
            "    return noted\n"
            "sitk.ReadImage, sitk.WriteImage = noting(sitk.ReadImage, 0), noting(sitk.WriteImage, 1)\n"
            + script.read_text(encoding="utf-8"),
            encoding="utf-8",
        )
        process = start(script, given, tmp_path)
        last, err = last_line(process), process.stderr.read().decode()
        names = [json.loads(line[5:]) for line in err.splitlines() if line.startswith("NAME ")]
        assert len(names) == 5
        assert all(map(str.isascii, names))
        assert Path(last["labels"]) == folder / "out" / "labels.nii.gz"
        assert len(files(given["output"])) == 5

    def test_no_probabilities_stay_behind_when_the_computation_fails_after_them(self, stand_in, job, tmp_path) -> None:
        script = stand_in("""
            keep("WT", study.images["FLAIR"].image)
            raise RuntimeError("late")
        """)
        assert start(script, {**job, "probabilities": True}, tmp_path).wait() == 1
        assert files(job["output"]) == []

    def test_names_of_the_user_stand_in_for_paths(self, stand_in, job, tmp_path) -> None:
        assert start(stand_in(), {**job, "names": {"FLAIR": "5: dark fluid"}}, tmp_path).wait() == 0
        report = json.loads((Path(job["output"]) / "report.json").read_text())
        assert report["inputs"]["FLAIR"]["source"] == "5: dark fluid"
        assert (report["model"]["folder"], report["device"]["name"]) == ("the one that ships", "auto")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"sequences": {"FLAIR": "nowhere.nrrd"}}, "nowhere.nrrd"),
            ({"sequences": {}}, "No sequence is given"),
            ({"sequences": {"FLAIRE": "x"}}, "FLAIRE"),
            ({"sequences": "FLAIR"}, "job file"),
            ({"output": None}, "job file"),
        ],
    )
    def test_unusable_input_ends_with_2_and_the_reason(self, stand_in, job, tmp_path, change, message) -> None:
        process = start(stand_in(), {**job, **change}, tmp_path)
        line = last_line(process)
        assert process.wait() == 2
        assert line["kind"] == "input"
        assert message in line["error"]
        assert files(job["output"]) == []

    def test_a_failure_ends_with_1_and_the_traceback_on_standard_error(self, stand_in, job, tmp_path) -> None:
        process = start(stand_in("raise RuntimeError('no such kernel')"), job, tmp_path)
        assert last_line(process) == {"error": "RuntimeError: no such kernel", "kind": "failed"}
        assert process.wait() == 1
        assert b"Traceback" in process.stderr.read()

    def test_a_missing_job_file_is_unusable_input(self, tmp_path) -> None:
        command = [sys.executable, "-m", "MSTKDSegmenterLib.worker", str(tmp_path / "none.json")]
        process = subprocess.run(command, cwd=MODULE_FOLDER, input=b"", capture_output=True, check=False)
        assert process.returncode == 2
        assert "none.json" in json.loads(process.stdout.splitlines()[-1])["error"]


@pytest.mark.parametrize("body", [HEEDS, IN_ONE_CALL], ids=["between two steps", "inside one long step"])
class TestGoingAway:
    """Two seconds are promised; the tests allow for a machine that is busy with something else."""

    @pytest.mark.parametrize("how", ["stdin", "SIGTERM"])
    def test_it_ends_when_told_to(self, stand_in, job, tmp_path, body, how) -> None:
        process = start(stand_in(body), job, tmp_path)
        until_it_computes(process)
        asked = time.monotonic()
        if how == "stdin":
            process.stdin.close()
        else:
            process.terminate()
        line = last_line(process)
        assert process.wait(10) == 1
        assert time.monotonic() - asked < 4
        assert line["kind"] == "cancelled"
        assert files(job["output"]) == []

    def test_it_ends_when_its_parent_is_killed(self, stand_in, job, tmp_path, body) -> None:
        script = stand_in(body)
        (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
        parent = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import subprocess, sys, time\n"
                "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
                "p.stdout.readline(); p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)",
                sys.executable,
                str(script),
                str(tmp_path / "job.json"),
            ],
            stdout=subprocess.PIPE,
        )
        pid = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        assert ends_within(pid, 4)


def ends_within(pid: int, seconds: float) -> bool:
    """Whether a process that is not ours is gone, or only a zombie nobody has collected, by then."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    os.kill(pid, signal.SIGKILL)
    return False


def wait_for(running: ChildJob, stage: str) -> None:
    """Until the process has reached a stage."""
    while not any(event.stage == stage for event in running.events()):
        assert running.running(), running.result()
        time.sleep(0.02)


class TestParent:
    def test_it_sees_the_events_and_gets_the_result(self, stand_in, job) -> None:
        stand_in("job.report('second', 0.5, ''); job.report('third', 1.0, '')")
        events = []
        with ChildJob(sys.executable, job) as running:
            while running.running():
                events += running.events()
                time.sleep(0.02)
            events += running.events()
            output = running.result()
            assert sitk.GetArrayFromImage(sitk.ReadImage(str(output.labels))).max() == 3
        assert [(event.stage, event.fraction) for event in events] == [
            ("start", 0.0),
            ("first", 0.25),
            ("second", 0.5),
            ("third", 1.0),
        ]
        assert output.report["model"]["folder"] == "the one that ships"
        assert output.probabilities == {}

    def test_it_leaves_no_files_of_its_own(self, stand_in, job, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(child.tempfile, "tempdir", str(tmp_path / "temporary"))
        (tmp_path / "temporary").mkdir()
        stand_in()
        with ChildJob(sys.executable, job) as running:
            running.result()
        assert files(str(tmp_path / "temporary")) == []

    def test_unusable_input_arrives_as_a_value_error_with_the_reason(self, stand_in, job) -> None:
        stand_in("raise UnusableInput('The brain is missing. Choose another image.')")
        with ChildJob(sys.executable, job) as running, pytest.raises(UnusableInput, match="The brain is missing"):
            running.result()

    def test_a_failure_arrives_with_the_last_lines(self, stand_in, job) -> None:
        stand_in("print('loading the kernel'); raise RuntimeError('no such kernel')")
        with ChildJob(sys.executable, job) as running, pytest.raises(RuntimeError, match="no such kernel") as caught:
            running.result()
        assert "loading the kernel" in str(caught.value)

    @pytest.mark.parametrize(
        ("number", "said"), [(signal.SIGSEGV, f"signal {int(signal.SIGSEGV)}"), (signal.SIGKILL, "memory runs out")]
    )
    def test_a_crash_is_an_error_and_not_the_end_of_the_parent(self, stand_in, job, number, said) -> None:
        stand_in(f"sys.stdout.flush(); os.kill(os.getpid(), {int(number)}); time.sleep(9)")
        with ChildJob(sys.executable, job) as running, pytest.raises(RuntimeError, match=said):
            running.result()

    def test_behind_a_launcher_a_crash_says_what_it_may_have_been(self, stand_in, job, tmp_path) -> None:
        launcher = tmp_path / "PythonSlicer"
        launcher.write_text(f'#!/bin/sh\n"{sys.executable}" "$@" || exit 1\n')
        launcher.chmod(0o755)
        stand_in(f"sys.stdout.flush(); os.kill(os.getpid(), {int(signal.SIGKILL)}); time.sleep(9)")
        with ChildJob(str(launcher), job) as running, pytest.raises(RuntimeError, match=r"memory runs out.*'cpu'"):
            running.result()

    def test_cancelling_ends_it_and_is_said(self, stand_in, job) -> None:
        stand_in(IN_ONE_CALL)
        with ChildJob(sys.executable, job) as running:
            wait_for(running, "first")
            running.cancel()
            with pytest.raises(Cancelled):
                running.result()

    def test_a_process_that_does_not_listen_is_killed(self, job, tmp_path, monkeypatch) -> None:
        deaf = tmp_path / "deaf.py"
        deaf.write_text("import time\ntime.sleep(60)")
        monkeypatch.setattr(child, "WORKER", deaf)
        monkeypatch.setattr(child, "PATIENCE", 0.1)
        with ChildJob(sys.executable, job) as running:
            running.cancel()
            with pytest.raises(Cancelled):
                running.result()

    def test_leaving_the_block_ends_the_process(self, stand_in, job) -> None:
        stand_in(IN_ONE_CALL)
        with ChildJob(sys.executable, job) as running:
            wait_for(running, "first")
        assert not running.running()

    # PythonSlicer is a launcher: its process is not the one that computes. Whether the one on Windows hands standard
    # input on is not known.
    @pytest.mark.parametrize("handing_on", ['"{python}" "$@"\nexit $?', 'tail -f /dev/null | "{python}" "$@"'])
    def test_behind_a_launcher_the_process_ends_as_well(self, stand_in, job, tmp_path, handing_on) -> None:
        launcher = tmp_path / "PythonSlicer"
        launcher.write_text(f"#!/bin/sh\n{handing_on.format(python=sys.executable)}\n")
        launcher.chmod(0o755)
        pid_file = tmp_path / "pid"
        stand_in(f"open({str(pid_file)!r}, 'w').write(str(os.getpid())); job.report('waiting', 0.5)\ntime.sleep(60)")
        with ChildJob(str(launcher), job) as running:
            wait_for(running, "waiting")
        assert ends_within(int(pid_file.read_text()), 4)

    def test_a_python_that_is_not_there_is_an_os_error(self, job, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(child.tempfile, "tempdir", str(tmp_path))
        before = files(str(tmp_path))
        with pytest.raises(OSError, match="no-python"):
            ChildJob(str(tmp_path / "no-python"), job)
        assert files(str(tmp_path)) == before
