"""Installing from the panel: what is asked, what is installed and how, and what the user reads when it fails.

What Slicer owns (dialogs, `pip_install`, the extension PyTorch, `slicer.packaging`) is imitated as documented. Where
pip's own behaviour matters it is the real one, with a folder of wheels as its only source and one as its only target;
elsewhere its result is written, as starting it takes seconds.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import fake_packages
import host
import pytest
import slicer

host.start()
from MSTKDSegmenterLib import remedies  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib.dependencies import problems  # noqa: E402
from MSTKDSegmenterLib.panel import installing  # noqa: E402

PYTORCH_UTILS = """
import slicer

calls = []

class PyTorchUtilsLogic:
    def installTorch(self, askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=None,
                     torchvisionVersionRequirement=None):
        calls.append((askConfirmation, torchVersionRequirement))
        slicer.util.pip_install(["torch" + torchVersionRequirement])
"""


VERSIONS = {"torch": "2.5.1", "safetensors": "0.5.0"}


class Slicer:
    """What the user sees and answers, and what pip was asked for."""

    def __init__(self, site: Path, wheels: Path) -> None:
        self.site, self.wheels = site, wheels
        self.says_yes = True
        self.real_pip = False
        self.questions: list[str] = []
        self.details: list[str] = []
        self.notes: list[str] = []
        self.pip_calls: list[list[str]] = []

    def confirmOkCancelDisplay(self, text, windowTitle=None, parent=None, **more) -> bool:  # noqa: N802, N803
        self.questions.append(text)
        self.details.append(more["detailedText"])
        return self.says_yes

    def infoDisplay(self, text, windowTitle=None, parent=None, standardButtons=None, **more) -> None:  # noqa: N802, N803
        self.notes.append(text)

    def pip_install(self, requirements, **more) -> None:
        """As slicer.util: what pip writes is printed, and lost to the exception."""
        self.pip_calls.append(requirements)
        if not self.real_pip:
            for requirement in requirements:
                name = requirement.partition(">")[0]
                fake_packages.install(self.site, name, VERSIONS[name])
            print("Successfully installed", *requirements)
            return
        where = ["--no-index", "--find-links", str(self.wheels), "--target", str(self.site), "--no-cache-dir"]
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--isolated",
            "--disable-pip-version-check",
            *where,
            *requirements,
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        print(done.stdout)
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command)


@pytest.fixture
def application(tmp_path, monkeypatch) -> Slicer:
    """A Slicer 5.10 that is not in testing mode, with the extension PyTorch and neither package; wheels of both."""
    for folder in ("site", "wheels"):
        (tmp_path / folder).mkdir()
    (tmp_path / "site" / "PyTorchUtils.py").write_text(PYTORCH_UTILS)
    for name, version in VERSIONS.items():
        fake_packages.write_wheel(tmp_path / "wheels", name, version)
    application = Slicer(tmp_path / "site", tmp_path / "wheels")
    for name in ("confirmOkCancelDisplay", "infoDisplay", "pip_install"):
        monkeypatch.setattr(slicer.util, name, getattr(application, name), raising=False)
    monkeypatch.setattr(slicer.util, "WaitCursor", contextlib.nullcontext, raising=False)
    monkeypatch.setattr(slicer, "app", SimpleNamespace(testingEnabled=lambda: False))
    monkeypatch.setattr(remedies, "packages_folder", lambda: str(application.site))
    monkeypatch.setattr(sys, "path", [str(application.site)])
    for name in ("torch", "safetensors", "PyTorchUtils"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return application


def test_all_is_there_so_nothing_is_asked(application) -> None:
    fake_packages.install(application.site, "torch", "2.5.1")
    fake_packages.install(application.site, "safetensors", "0.5.0")
    assert installing.ensure()
    assert (application.questions, application.pip_calls) == ([], [])


def test_both_are_installed_after_one_question_that_says_what_how_large_and_where(application) -> None:
    application.real_pip = True
    assert installing.ensure()
    assert problems() == []
    (question,) = application.questions
    for words in ("torch>=2.1", "safetensors>=0.4", "GB to download", "below 1 MB", str(application.site), "are free"):
        assert words in question


def test_torch_comes_through_the_extension_and_is_not_asked_for_twice(application) -> None:
    installing.ensure()
    assert sys.modules["PyTorchUtils"].calls == [(False, ">=2.1")]
    assert application.pip_calls == [["torch>=2.1"], ["safetensors>=0.4"]]


def test_declining_leaves_everything_as_it_was(application) -> None:
    application.says_yes = False
    assert not installing.ensure()
    assert application.pip_calls == []
    assert "Without internet" in application.details[0]  # by hand, where it can be copied


def test_testing_mode_neither_asks_nor_installs(application, monkeypatch) -> None:
    monkeypatch.setattr(slicer.app, "testingEnabled", lambda: True)
    assert not installing.ensure()
    assert (application.questions, application.pip_calls) == ([], [])


def test_another_thread_is_refused(application) -> None:
    raised = []

    def call() -> None:
        try:
            installing.ensure()
        except RuntimeError as error:
            raised.append(str(error))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert "main thread" in raised[0]
    assert (application.questions, application.pip_calls) == ([], [])


def test_a_failure_says_the_last_lines_of_pip_and_what_to_do(application, monkeypatch) -> None:
    application.real_pip = True
    next(application.wheels.glob("torch*")).unlink()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)  # a machine's own constraints would be what pip complains about
    with pytest.raises(RuntimeError) as caught:
        installing.ensure()
    text = str(caught.value)
    assert "torch>=2.1 could not be installed" in text
    assert "ERROR: No matching distribution found for torch>=2.1" in text
    assert "pip found no version for this system" in text


def test_what_is_printed_meanwhile_still_reaches_the_console(application, capsys) -> None:
    installing.ensure()
    assert "Successfully installed torch>=2.1" in capsys.readouterr().out


def test_an_extension_of_another_time_is_a_failure_with_a_remedy_too(application) -> None:
    (application.site / "PyTorchUtils.py").write_text("class PyTorchUtilsLogic: pass")
    with pytest.raises(RuntimeError, match=r"no attribute 'installTorch'(.|\n)*pip download"):
        installing.ensure()


def test_pip_that_reports_no_error_is_not_believed(application, monkeypatch) -> None:
    monkeypatch.setattr(slicer.util, "pip_install", lambda requirements, **more: None)
    with pytest.raises(RuntimeError, match=r"not everything is there\.\ntorch>=2\.1 is not installed"):
        installing.ensure()


def test_half_an_installation_is_removed_and_made_whole(application) -> None:
    entry = fake_packages.install(application.site, "torch", "2.13.0")
    (entry / "RECORD").unlink()
    (application.site / "torch" / "old.pyd").touch()
    assert installing.ensure()
    assert "Removed first" in application.questions[0]
    assert str(entry) in application.questions[0]
    assert problems() == []
    assert not (application.site / "torch" / "old.pyd").exists()


def test_torch_that_is_in_use_is_not_replaced(application, monkeypatch) -> None:
    fake_packages.install(application.site, "torch", "1.13.1")
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    with pytest.raises(RuntimeError, match=r"torch 1\.13\.1 is installed.*restart Slicer"):
        installing.ensure()
    assert (application.questions, application.pip_calls) == ([], [])


class TestWithoutTheExtension:
    @pytest.fixture(autouse=True)
    def without(self, application) -> None:
        (application.site / "PyTorchUtils.py").unlink()

    def manager(self, monkeypatch, downloads: bool = True, unpacks: bool = True) -> SimpleNamespace:
        """The Extensions Manager, as far as it is used."""
        model = SimpleNamespace(interactive=True, asked=[])

        def install(name: str, restart: bool = True, update: bool = False) -> bool:
            model.asked.append((name, restart, model.interactive))
            return downloads

        model.installExtensionFromServer = install
        model.isExtensionInstalled = lambda name: bool(model.asked) and unpacks
        monkeypatch.setattr(slicer.app, "extensionsManagerModel", lambda: model, raising=False)
        return model

    def test_it_is_offered_and_slicer_is_not_restarted_over_unsaved_work(self, application, monkeypatch) -> None:
        model = self.manager(monkeypatch)
        assert not installing.ensure()
        assert model.asked == [("PyTorch", False, False)]
        assert model.interactive  # for the next module that installs one
        assert "extension PyTorch" in application.questions[0]
        assert "restart Slicer and press Apply again" in application.notes[0]
        assert application.pip_calls == []

    def test_it_may_be_declined(self, application, monkeypatch) -> None:
        model = self.manager(monkeypatch)
        application.says_yes = False
        assert not installing.ensure()
        assert model.asked == []

    @pytest.mark.parametrize("what", ["downloads", "unpacks"])
    def test_its_failure_says_how_to_get_it_by_hand(self, application, monkeypatch, what) -> None:
        self.manager(monkeypatch, **{what: False})
        with pytest.raises(RuntimeError, match=r"could not be installed(.|\n)*PyTorch Utils(.|\n)*Without internet"):
            installing.ensure()

    def test_a_slicer_without_extensions_manager_says_how_to_get_it_by_hand(self, application) -> None:
        with pytest.raises(RuntimeError, match=r"PyTorch Utils(.|\n)*Without internet"):
            installing.ensure()

    def test_it_is_not_needed_for_safetensors_alone(self, application) -> None:
        fake_packages.install(application.site, "torch", "2.5.1")
        assert installing.ensure()
        assert application.pip_calls == [["safetensors>=0.4"]]


class TestSlicer512:
    """slicer.packaging is there, and is used for what does not come through the extension."""

    @pytest.fixture
    def packaging(self, application, monkeypatch) -> SimpleNamespace:
        module = ModuleType("slicer.packaging")
        module.calls, module.busy = [], False

        def pip_ensure(
            requirements,
            constraints=None,
            skip_packages=None,
            prompt_install=True,
            prompt_restart=True,
            requester=None,
            skip_in_testing=True,
            show_progress=True,
        ) -> None:
            module.calls.append((requirements, prompt_install, requester))
            application.pip_install(requirements)

        module.pip_ensure, module.isPipInstallInProgress = pip_ensure, lambda: module.busy
        monkeypatch.setitem(sys.modules, "slicer.packaging", module)
        return module

    def test_it_installs_without_a_second_question(self, application, packaging) -> None:
        assert installing.ensure()
        assert packaging.calls == [(["safetensors>=0.4"], False, "MSTKD Segmenter")]

    def test_it_waits_for_nobody(self, application, packaging) -> None:
        packaging.busy = True
        with pytest.raises(RuntimeError, match="another module is installing packages"):
            installing.ensure()
