"""Model packages: what is written comes back, and nothing damaged, foreign or incomplete is ever used."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.errors import PackageError, UnusableInput
from MSTKDSegmenterLib.engine.network import MSTKDNet, NetworkConfig, build
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from MSTKDSegmenterLib.engine.transformer import TransformerConfig

BRANCH = TransformerConfig(decoder="token", patch=1, width=16, depth=4, heads=2, mlp=16, grid=(2, 2, 2))
TINY = NetworkConfig(width=8, blocks=(1, 1, 1, 1), transformer=BRANCH, availability=True)
ROW = {"WT": 0.8, "TC": 0.7, "ET": 0.6}
CARD = {
    "kind": "tumour",
    "name": "tiny",
    "version": "0.1",
    "spacing_mm": 2,
    "thresholds": {"WT": 0.5, "TC": 0.5, "ET": 0.5, "FLAIR": {"WT": 0.4}},
    "licence": "none",
    "data": "random numbers",
    "intended_use": "tests",
    "citation": ["nobody"],
    "quality": {"measured_on": ["a"], "command": "none", "table": {subset_name(s): dict(ROW) for s in SUBSETS}},
}


def curves(points: list[list[float]]) -> dict[str, list[list[float]]]:
    return {"with T1ce": [[0, 0], [1, 1]], "without T1ce": points}


@pytest.fixture(scope="module")
def network() -> MSTKDNet:
    torch.manual_seed(0)
    return build(TINY).eval()


@pytest.fixture
def folder(tmp_path: Path, network: MSTKDNet) -> Path:
    packages.write(tmp_path / "tiny", network, CARD)
    return tmp_path / "tiny"


def edit(folder: Path, **changes: object) -> None:
    """Change keys of model.json; None removes the key."""
    card = json.loads((folder / "model.json").read_text())
    card.update(changes)
    (folder / "model.json").write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


def test_a_written_network_comes_back_rounded_to_half_precision(folder: Path, network: MSTKDNet) -> None:
    loaded = packages.load(folder).network()
    assert loaded.config == network.config and not loaded.training
    for name, tensor in network.state_dict().items():
        found = loaded.state_dict()[name]
        assert found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), tensor.numpy().astype(np.float16).astype(np.float32))


def test_a_package_says_what_its_card_said(folder: Path) -> None:
    package = packages.load(folder)
    assert (package.kind, package.name, package.version, package.spacing) == ("tumour", "tiny", "0.1", 2.0)
    assert package.sequences == ("FLAIR", "T1", "T1ce", "T2")
    assert package.classes == ("NCR", "ED", "ET", "background")
    assert package.quality.table["FLAIR+T2"]["TC"] == 0.7
    assert package.card["normalisation"] == {"name": "z-score in brain", "clip": 4.5, "percentiles": [0.05, 99.9]}
    assert package.sha256 == hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()


def test_a_subset_may_have_its_own_threshold(folder: Path) -> None:
    package = packages.load(folder)
    assert package.thresholds(["FLAIR"]) == {"WT": 0.4, "TC": 0.5, "ET": 0.5}
    assert package.thresholds(["FLAIR", "T2"]) == {"WT": 0.5, "TC": 0.5, "ET": 0.5}


def test_a_subset_may_have_a_temperature_and_a_model_its_mirrored_look_and_tiles(folder: Path) -> None:
    package = packages.load(folder)
    assert (package.temperature(["FLAIR"]), package.mirror, package.tile) == (1.0, False, None)
    edit(folder, temperatures={"FLAIR+T2": 1.7}, mirror=True, tile=[64, 80, 64])
    package = packages.load(folder)
    assert (package.temperature(["T2", "FLAIR"]), package.temperature(["FLAIR"])) == (1.7, 1.0)
    assert (package.mirror, package.tile) == (True, (64, 80, 64))


def test_a_package_may_know_what_its_probabilities_are_worth(folder: Path) -> None:
    assert packages.load(folder).calibration("WT", ["T2"]) is None
    one, other = [[0, 0], [0.25, 0.1], [1, 0.9]], [[0, 0], [1, 0.5]]
    edit(folder, calibration={"WT": {"with T1ce": one, "without T1ce": other}})
    package = packages.load(folder)
    assert package.calibration("WT", ["FLAIR", "T1ce"]) == one
    assert package.calibration("WT", ["FLAIR", "T1"]) == other
    assert package.calibration("ET", ["FLAIR", "T1ce"]) is None


def test_the_network_is_built_once_and_leaves_the_random_numbers_alone(folder: Path) -> None:
    package = packages.load(folder)
    state = torch.get_rng_state()
    assert package.network() is package.network()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_package_is_read_and_verified_without_torch(folder: Path) -> None:
    code = (
        "import sys; from MSTKDSegmenterLib.engine.package import load;"
        f"print(load({str(folder)!r}).name, 'torch' in sys.modules)"
    )
    library = str(Path(packages.__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=library, capture_output=True, encoding="utf-8")
    assert done.stdout.split() == ["tiny", "False"], done.stderr


def test_the_quality_table_needs_neither_torch_nor_the_weights(folder: Path) -> None:
    (folder / "weights.safetensors").unlink()
    code = (
        "import sys; from MSTKDSegmenterLib.engine.package import quality_table;"
        f"print(quality_table({str(folder)!r})['FLAIR+T2']['TC'], 'torch' in sys.modules, 'safetensors' in sys.modules)"
    )
    library = str(Path(packages.__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code], cwd=library, capture_output=True, encoding="utf-8")
    assert done.stdout.split() == ["0.7", "False", "False"], done.stderr


def test_the_quality_table_of_a_package_that_cannot_be_used_is_refused(folder: Path, tmp_path: Path) -> None:
    edit(folder, format=2)
    with pytest.raises(PackageError, match="format is 2"):
        packages.quality_table(folder)
    with pytest.raises(PackageError, match=r"model\.json: is missing"):
        packages.quality_table(tmp_path / "nothing")


def test_a_brain_package_has_one_sequence_and_one_class(tmp_path: Path) -> None:
    brain = build(NetworkConfig(sequences=1, classes=1, width=8, blocks=(1, 1, 1, 1)))
    quality = {"measured_on": [], "command": "none", "table": {"heads": {"brain": 0.9}}}
    card = {**CARD, "kind": "brain", "thresholds": {"brain": 0.5}, "quality": quality}
    package = packages.write(tmp_path / "brain", brain, card)
    assert package.thresholds() == {"brain": 0.5}
    assert packages.load(tmp_path / "brain", "brain").sha256 == package.sha256
    for look in (packages.load, packages.quality_table):
        with pytest.raises(PackageError, match="of kind 'brain', expected 'tumour'"):
            look(tmp_path / "brain")
    assert package.network().config.sequences == 1
    with pytest.raises(PackageError, match="network with 4 sequences and 4 classes"):
        packages.write(tmp_path / "wrong", brain, CARD)


@pytest.mark.parametrize("size", [0, 1000, -1])
def test_half_copied_weights_are_refused_with_both_sizes(folder: Path, size: int) -> None:
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:size])
    with pytest.raises(PackageError, match=rf"safetensors: has .* bytes, expected {len(whole):,}.*Copy the whole"):
        packages.load(folder)


def test_one_changed_bit_in_the_weights_is_refused_with_both_hashes(folder: Path) -> None:
    weights = folder / "weights.safetensors"
    expected = packages.load(folder).sha256
    content = bytearray(weights.read_bytes())
    content[-100] ^= 1
    weights.write_bytes(content)
    with pytest.raises(PackageError, match=f"{hashlib.sha256(content).hexdigest()}, expected {expected}"):
        packages.load(folder)


def test_missing_files_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "weights.safetensors").unlink()
    with pytest.raises(PackageError, match=r"weights\.safetensors: is missing"):
        packages.load(folder)
    with pytest.raises(PackageError, match=r"nothing.*model\.json: is missing"):
        packages.load(tmp_path / "nothing")


@pytest.mark.parametrize("content", [b"", b'{"format": 1, "kind": "tum', b"\x89PNG\xff", b"[1, 2]"])
def test_a_description_that_is_no_json_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    with pytest.raises(PackageError, match=r"model\.json: (cannot be read as JSON|holds a list)"):
        packages.load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("format", 2),
        ("format", True),
        ("kind", "kidney"),
        ("kind", ["tumour"]),
        ("sequences", ["T1", "FLAIR", "T1ce", "T2"]),
        ("classes", ["background", "NCR", "ED", "ET"]),
        ("regions", {"WT": ["ED"]}),
        ("normalisation", {"name": "z-score in brain", "clip": 5, "percentiles": [0.05, 99.9]}),
        ("name", ""),
        ("citation", "a text"),
        ("spacing_mm", 0),
        ("spacing_mm", float("nan")),
        ("spacing_mm", "2"),
        ("network", {"sequences": 3, "classes": 4}),
        ("weights", {"file": "../weights.safetensors"}),
        ("thresholds", {"WT": 0.5, "TC": 0.5}),
        ("thresholds", {"WT": 0.5, "TC": 0.5, "ET": 1.5}),
        ("thresholds", {"WT": 0.5, "TC": 0.5, "ET": 0.5, "FLAIR": 0.4}),
        ("thresholds", {"WT": 0.5, "TC": 0.5, "ET": 0.5, "T3": {"WT": 0.4}}),
        ("quality", {"measured_on": [], "command": "none", "table": {"FLAIR": ROW}}),
        ("temperatures", {"FLAIR": 0}),
        ("temperatures", {"T3": 1.0}),
        ("calibration", {"edema": curves([[0, 0], [1, 1]])}),
        ("calibration", {"WT": {"with T1ce": [[0, 0], [1, 1]]}}),
        ("calibration", {"WT": [[0, 0], [1, 1]]}),
        ("calibration", {"WT": curves([[0, 0]])}),
        ("calibration", {"WT": curves([[0, 0], [1, 1.1]])}),
        ("calibration", {"WT": curves([[0, 0], [0, 1]])}),
        ("calibration", {"WT": curves([[0, 0.5], [1, 0.4]])}),
        ("calibration", {"WT": curves([[0, 0, 0], [1, 1, 1]])}),
        ("calibration", [[0, 0], [1, 1]]),
        ("mirror", 1),
        ("tile", [64, 64]),
        ("tile", [64, 64, 8]),
        ("tile", [64, 64, 64.0]),
    ],
)
def test_a_description_of_something_the_engine_cannot_do_is_refused(folder: Path, key: str, value: object) -> None:
    edit(folder, **{key: value})
    with pytest.raises(PackageError, match=rf"model\.json: {key} is .*, expected .*\. (Choose|Copy)"):
        packages.load(folder)


@pytest.mark.parametrize("key", ["kind", "network", "weights", "licence", "quality", "regions"])
def test_a_description_that_lacks_a_key_is_refused(folder: Path, key: str) -> None:
    edit(folder, **{key: None})
    with pytest.raises(PackageError, match=key):
        packages.load(folder)


def test_weights_of_another_network_are_refused_by_tensor(folder: Path) -> None:
    edit(folder, network={**TINY.to_dict(), "width": 16})
    with pytest.raises(PackageError, match=r"tensor \S+ has shape .* the network in model\.json has"):
        packages.load(folder).network()


def test_arguments_that_no_network_has_are_refused(folder: Path) -> None:
    edit(folder, network={**TINY.to_dict(), "layers": 3})
    with pytest.raises(PackageError, match=r"network cannot be built.*layers"):
        packages.load(folder).network()


def test_every_package_error_counts_as_unusable_input() -> None:
    assert issubclass(PackageError, UnusableInput)


def test_writing_replaces_a_package_and_leaves_nothing_else(folder: Path, network: MSTKDNet) -> None:
    before = packages.load(folder)
    after = packages.write(folder, network, {**CARD, "version": "0.2"})
    assert (before.version, after.version) == ("0.1", "0.2")
    assert after.sha256 == before.sha256  # the same weights give the same file
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_failed_write_leaves_the_old_package_as_it_was(folder: Path, network: MSTKDNet) -> None:
    before = (folder / "model.json").read_bytes()
    with pytest.raises(PackageError, match="licence"):
        packages.write(folder, network, {key: value for key, value in CARD.items() if key != "licence"})
    assert (folder / "model.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_failed_replacement_brings_the_old_package_back(
    folder: Path, network: MSTKDNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = packages.os.replace

    def refuse_the_new(source: Path, target: Path) -> None:
        if str(source).endswith(".part"):
            raise PermissionError("in use")
        replace(source, target)

    monkeypatch.setattr(packages.os, "replace", refuse_the_new)
    with pytest.raises(PermissionError):
        packages.write(folder, network, {**CARD, "version": "0.2"})
    assert packages.load(folder).version == "0.1"
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_folder_with_other_files_is_never_replaced(tmp_path: Path, network: MSTKDNet) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(PackageError, match="not a model package"):
        packages.write(tmp_path, network, CARD)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_weights_that_half_precision_cannot_hold_are_not_written(tmp_path: Path) -> None:
    network = build(TINY)
    with torch.no_grad():
        network.head.bias[0] = 1e6
    with pytest.raises(PackageError, match=r"head\.bias is not finite in float16"):
        packages.write(tmp_path / "huge", network, CARD)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_the_right_to_look_into_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", denied)
    for look in (packages.load, packages.quality_table):
        with pytest.raises(
            PackageError, match=r"model\.json.*cannot be looked at \(Permission denied\)\. Check your rights"
        ):
            look(tmp_path)


@pytest.mark.parametrize("inside", [True, False])
def test_the_shipped_package_is_found_in_a_wheel_and_in_the_source_tree(
    tmp_path: Path, network: MSTKDNet, monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    library = tmp_path / "MSTKDSegmenterLib"
    models = (library if inside else tmp_path) / "Resources" / "Models"
    models.mkdir(parents=True)
    monkeypatch.setattr(packages, "__file__", str(library / "engine" / "package.py"))
    with pytest.raises(PackageError, match=r"kind 'tumour'.*none; expected exactly one"):
        packages.default_folder()
    packages.write(models / "first", network, CARD)
    assert packages.default_folder() == models / "first"
    with pytest.raises(PackageError, match=r"kind 'brain'.*none"):
        packages.default_folder("brain")
    packages.write(models / "second", network, CARD)
    with pytest.raises(PackageError, match=r"first and .*second"):
        packages.default_folder()
