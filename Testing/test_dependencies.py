"""What the probe of PyTorch and safetensors says about installations in every stage of ruin."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import host
import pytest
from fake_packages import install

host.start()
from MSTKDSegmenterLib import dependencies, remedies  # noqa: E402 - only the host makes it importable
from MSTKDSegmenterLib.dependencies import Problem, advice, problems, version_range  # noqa: E402


@pytest.fixture
def site(tmp_path, monkeypatch) -> Path:
    """The only folder that packages are looked for in; it holds whole ones."""
    for name, version in {"torch": "2.5.1+cu124", "safetensors": "0.4.5", "numpy": "2.0.2"}.items():
        install(tmp_path, name, version)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


def entry_of(site: Path, name: str) -> Path:
    return next(site.glob(f"{name}-*.dist-info"))


def test_nothing_is_missing_here() -> None:
    assert problems() == []


def test_a_local_version_such_as_cu124_counts(site) -> None:
    assert problems() == []


def test_what_is_not_there_at_all_is_missing(site) -> None:
    for name in ("torch", "safetensors"):
        shutil.rmtree(site / name)
        shutil.rmtree(entry_of(site, name))
    assert [(one.package, one.requirement, one.state) for one in problems()] == [
        ("torch", "torch>=2.1", "missing"),
        ("safetensors", "safetensors>=0.4", "missing"),
    ]


def test_an_old_version_is_named(site) -> None:
    shutil.rmtree(entry_of(site, "torch"))
    install(site, "torch", "1.13.1")
    (problem,) = problems()
    assert (problem.state, problem.detail) == ("too old", "torch 1.13.1 is installed, torch>=2.1 is needed.")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda site, entry: (entry / "METADATA").unlink(), "METADATA"),
        (lambda site, entry: (entry / "METADATA").write_bytes(b"\xff" * 64), "METADATA"),
        (lambda site, entry: (entry / "METADATA").write_text("Name: torch\nVersion: unknown\n"), "METADATA"),
        (lambda site, entry: (entry / "RECORD").unlink(), "its installation was interrupted"),
        (lambda site, entry: [path.unlink() for path in entry.iterdir()], "METADATA"),
        (lambda site, entry: (site / "torch" / "_C.pyd").unlink(), "the file torch/_C.pyd is missing"),
        (lambda site, entry: (site / "torch" / "__init__.py").unlink(), "holds no __init__.py"),
        (lambda site, entry: shutil.rmtree(site / "torch"), "only the entry of pip is there"),
        (lambda site, entry: shutil.rmtree(entry), "pip does not know of it"),
        (lambda site, entry: entry.rename(site / "~orch-2.5.1.dist-info"), "pip does not know of it"),
    ],
    ids=[
        "no METADATA",
        "METADATA unreadable",
        "version no version",
        "no RECORD",
        "empty entry",
        "library gone",
        "namespace",
        "entry alone",
        "folder alone",
        "entry set aside by pip",
    ],
)
def test_half_an_installation_is_broken_and_says_what_is_wrong(site, damage, words) -> None:
    damage(site, entry_of(site, "torch"))
    (problem,) = problems()
    assert (problem.package, problem.state) == ("torch", "broken")
    assert words in problem.detail


def test_what_has_to_go_before_pip_can_install_again_is_named(site) -> None:
    entry = entry_of(site, "torch")
    (entry / "RECORD").unlink()
    assert problems()[0].remains == (site / "torch", entry)
    shutil.rmtree(entry)
    assert problems()[0].remains == (site / "torch",)
    shutil.rmtree(site / "torch")
    assert problems()[0].remains == ()


def test_what_an_interrupted_update_left_beside_a_whole_installation_does_no_harm(site) -> None:
    (site / "torch-2.13.0.dist-info" / "licenses").mkdir(parents=True)
    assert problems() == []


def test_a_package_that_is_already_imported_is_judged_by_its_files(site, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", type(sys)("torch"))  # a namespace without __version__ and __spec__
    assert problems() == []


def test_torch_before_2_3_needs_numpy_1(site, monkeypatch) -> None:
    shutil.rmtree(entry_of(site, "torch"))
    install(site, "torch", "2.2.2")
    (problem,) = problems()
    assert (problem.requirement, problem.state) == ("torch>=2.3", "too old")
    assert "PyTorch 2.2.2 cannot exchange data with NumPy 2.0.2" in problem.detail
    monkeypatch.setattr(remedies, "system", lambda: "Intel macOS")
    assert [(one.requirement, one.state) for one in problems()] == [("numpy<2", "too new")]
    shutil.rmtree(entry_of(site, "torch"))
    shutil.rmtree(site / "torch")
    assert [one.requirement for one in problems()] == ["torch>=2.1", "numpy<2"]
    install(site, "torch", "2.2.2")
    shutil.rmtree(entry_of(site, "numpy"))
    install(site, "numpy", "1.26.4")
    assert problems() == []


def test_nothing_heavy_is_imported_for_it() -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "MSTKDSegmenter")]
    code = (
        f"import sys; sys.path[:0] = {folders!r}; import host; host.start()\n"
        "from MSTKDSegmenterLib import dependencies; dependencies.problems()\n"
        "print(*{'torch', 'safetensors', 'SimpleITK', 'pip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


MISSING = Problem("torch", "torch>=2.1", "missing", "torch>=2.1 is not installed.")
SAFETENSORS = Problem("safetensors", "safetensors>=0.4", "missing", "safetensors>=0.4 is not installed.")


class TestAdvice:
    def test_it_names_each_package_and_the_way_to_get_it(self) -> None:
        text = advice([MISSING, SAFETENSORS], "other")
        assert "torch>=2.1 is not installed." in text
        assert "extension PyTorch" in text
        assert "slicer.util.pip_install(['safetensors>=0.4'])" in text

    def test_it_gives_a_way_without_internet_and_one_behind_a_proxy_and_no_address(self) -> None:
        text = advice([MISSING, SAFETENSORS], "other")
        assert "pip download" in text
        assert "'--no-index', '--find-links', 'FOLDER', 'torch>=2.1', 'safetensors>=0.4'" in text
        assert remedies.packages_folder() in text
        assert "HTTPS_PROXY" in text
        assert "://" not in text

    def test_long_paths_are_for_windows_and_numpy_1_for_the_mac(self) -> None:
        texts = {system: advice([MISSING], system) for system in ("Windows", "Intel macOS", "other")}
        assert [system for system, text in texts.items() if "WinError 206" in text] == ["Windows"]
        assert [system for system, text in texts.items() if "2.2.2 is the newest PyTorch" in text] == ["Intel macOS"]
        assert [system for system, text in texts.items() if "numpy<2" in text] == ["Intel macOS"]

    def test_ruins_are_to_be_removed_first(self) -> None:
        broken = Problem("torch", "torch>=2.1", "broken", "torch is there only in part.")
        assert "close Slicer, and in" in advice([broken], "other")
        assert "close Slicer, and in" not in advice([MISSING], "other")


def test_on_windows_torch_with_long_paths_is_avoided_where_they_do_not_fit(monkeypatch) -> None:
    def below(folder: str) -> str:
        monkeypatch.setattr(remedies, "packages_folder", lambda: folder)
        return version_range(MISSING, "Windows")

    assert below(r"C:\S\lib\Python\Lib\site-packages") == ">=2.1"
    assert below(r"C:\Users\somebody\AppData\Local\slicer.org\3D Slicer 5.12.3\lib\Python\Lib\site-packages") == (
        ">=2.1,<2.13"
    )
    assert version_range(MISSING, "other") == ">=2.1"


def test_the_longest_path_of_torch_is_what_it_is_taken_for() -> None:
    import importlib.metadata

    entry = importlib.metadata.distribution("torch")
    if not entry.version.startswith(dependencies.TORCH_WITH_LONG_PATHS):
        pytest.skip(f"measured on torch {dependencies.TORCH_WITH_LONG_PATHS}, here is {entry.version}")
    longest = max(entry.read_text("RECORD").splitlines(), key=lambda line: len(line.split(",")[0])).split(",")[0]
    windows = longest.replace(entry.version, entry.version.partition("+")[0] + "+cu130")
    assert len(windows) == dependencies.LONGEST_PATH_IN_TORCH


class TestRemedy:
    @pytest.mark.parametrize(
        ("line", "words"),
        [
            ("ERROR: [WinError 206] The filename or extension is too long", "short folder"),
            ("OSError: [Errno 28] No space left on device", "disk is full"),
            ("ERROR: Could not install packages due to an OSError: [WinError 5] Access is denied", "Restart Slicer"),
            ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]", "PIP_CERT"),
            ("Failed to establish a new connection: [Errno 11001] getaddrinfo failed", "could not be reached"),
            ("ERROR: No matching distribution found for torch>=2.1", "no version for this system"),
            ("something never seen before", "pip download"),
        ],
    )
    def test_it_is_read_from_what_pip_wrote(self, line, words) -> None:
        assert words in remedies.remedy(["Collecting torch", line], ["torch>=2.1"])

    def test_a_version_that_was_not_found_for_want_of_a_network_is_a_matter_of_the_network(self) -> None:
        lines = [
            "WARNING: Retrying after connection broken by 'NewConnectionError(...)'",
            "ERROR: Could not find a version that satisfies the requirement torch>=2.1 (from versions: none)",
        ]
        assert "could not be reached" in remedies.remedy(lines, ["torch>=2.1"])
