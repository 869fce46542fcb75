"""The command lines of training/: any order of arguments, and errors that users can mend in one line."""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import command

TRAINING = Path(__file__).resolve().parents[1] / "training"


def call(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: object) -> int | str | None:
    """Exit code of an entry point."""
    monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(TRAINING / script), run_name="__main__")
    return ended.value.code


def parsed(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["x.py", *map(str, arguments)])
    found: list[argparse.Namespace] = []
    command.run(found.append, command.parser(""))
    return found[0]


def test_options_and_overrides_come_in_any_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for words in ("a=1 --config c b=2", "--config c a=1 --debug b=2", "a=1 b=2 --config c"):
        found = parsed(monkeypatch, *words.split())
        assert (found.config, found.overrides) == (Path("c"), ["a=1", "b=2"])


@pytest.mark.parametrize("script", ["prepare.py", "train.py", "eval.py", "export.py"])
def test_a_configuration_that_is_not_there_is_one_line_on_stderr(
    script: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    more = ["--output", tmp_path / "model"] if script == "export.py" else []
    assert call(monkeypatch, script, "--config", tmp_path / "no.yaml", *more) == 2
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "no configuration at " in told.err
    assert "no.yaml: expected a YAML file" in told.err


def test_what_is_wrong_with_a_configuration_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    wrong = ("optim.stepz=7", "data.spacing=-1", "teacher.kind=frozen")
    assert call(monkeypatch, "train.py", *wrong, "--config", path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    for what in ("optim.stepz", "data.spacing", "needs a run"):
        assert what in line
    path.write_text("name: [x\n")
    assert call(monkeypatch, "train.py", "--config", path) == 2
    assert "c.yaml" in capsys.readouterr().err


def test_names_of_runs_to_compare_with_are_not_taken_for_overrides_nor_the_other_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("name: x\n")
    against = ("--against", "one", "--against", "other")
    assert call(monkeypatch, "crossvalidate.py", "--config", path, *against, f"runs={tmp_path}") == 2
    assert f"{tmp_path / 'one' / 'crossvalidation.json'} does not exist" in capsys.readouterr().err


def test_the_traceback_is_there_for_those_who_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", str(tmp_path / "no.yaml"), "--debug"])
    with pytest.raises(FileNotFoundError):
        runpy.run_path(str(TRAINING / "train.py"), run_name="__main__")


def test_commands_without_a_configuration_do_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "synthetic.py") == 2
    assert "nothing to do" in capsys.readouterr().err
    assert call(monkeypatch, "brain_mask.py", "--data", tmp_path, "--run", tmp_path) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_of_several_processes_the_one_that_fails_says_which_it_is_and_only_the_first_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    assert call(monkeypatch, "train.py", "--config", tmp_path / "no.yaml") == 2
    assert "train.py, process 3: " in capsys.readouterr().err
    assert "no.yaml" in (tmp_path / "error.json").read_text()  # from where torchrun repeats it
    command.show(command.Config(name="x"))
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("RANK", "0")
    command.show(command.Config(name="x"))
    assert '"name": "x"' in capsys.readouterr().out
