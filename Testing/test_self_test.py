"""The tests that Slicer runs, run in the host: the same code with the real child process and the model that ships."""

from __future__ import annotations

import unittest

import host
import pytest
import slicer
from panel_driver import Panel

host.start()
import MSTKDSegmenter as module  # noqa: E402 - only the host makes it importable

NAMES = unittest.defaultTestLoader.getTestCaseNames(module.MSTKDSegmenterTest)


@pytest.fixture
def opened(monkeypatch):
    """The application keeps one panel and hands it out; it is made when the module is opened first."""
    panel = Panel()
    genuine = slicer.util.getModuleWidget
    panels = {"MSTKDSegmenter": panel.widget}
    monkeypatch.setattr(slicer.util, "getModuleWidget", lambda name: panels.get(name) or genuine(name))
    yield
    panel.close()


def test_slicer_finds_them_by_the_name_of_the_module() -> None:
    suite = unittest.defaultTestLoader.loadTestsFromName("MSTKDSegmenter")
    assert len(NAMES) >= 6
    assert suite.countTestCases() == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_passes(name, opened) -> None:
    result = unittest.TestResult()
    module.MSTKDSegmenterTest(name).run(result)
    assert [text for _, text in result.failures + result.errors + result.skipped] == []
    assert result.testsRun == 1


def test_without_the_packages_they_are_skipped_with_the_reason(tmp_path, monkeypatch) -> None:
    from MSTKDSegmenterLib import dependencies

    (tmp_path / "requirements.txt").write_text("no-such-package>=1\n")
    monkeypatch.setattr(dependencies, "REQUIREMENTS", tmp_path / "requirements.txt")
    result = unittest.TestResult()
    for name in NAMES:
        module.MSTKDSegmenterTest(name).run(result)
    module.MSTKDSegmenterTest().runTest()  # what the button Reload and Test calls
    assert result.wasSuccessful()
    assert len(result.skipped) == len(NAMES)
    assert "no-such-package>=1 is not installed" in result.skipped[0][1]


def test_the_button_says_which_of_them_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Test(module.MSTKDSegmenterTest):
        """Of the real ones none takes part."""

    for name in NAMES:
        monkeypatch.setattr(Test, name, lambda self: None, raising=False)
    monkeypatch.setattr(Test, NAMES[1], lambda self: self.fail("as expected"))
    with pytest.raises(AssertionError, match=rf"1 of {len(NAMES)} tests failed: {NAMES[1]}$"):
        Test().runTest()


@pytest.mark.parametrize("shown", [True, False])
def test_the_panel_is_left_as_it_was_found(opened, shown: bool) -> None:
    panel = slicer.util.getModuleWidget("MSTKDSegmenter")
    panel.parent.isEntered = shown
    if shown:
        panel.enter()
    result = unittest.TestResult()
    module.MSTKDSegmenterTest("test_the_panel_segments_what_it_recognises").run(result)
    assert result.wasSuccessful()
    assert panel._entered == shown
