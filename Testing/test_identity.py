"""One patient under several names: together in the splits, apart from the test, unknown to a frozen teacher."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import cache, identity, patches, splits
from mstkd_training.config import Config
from mstkd_training.networks import first_student
from mstkd_training.provenance import write
from mstkd_training.seen import check_package, check_run, chosen_on, seen
from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.network import NetworkConfig, build
from MSTKDSegmenterLib.engine.package import ModelPackage

TWICE = "BraTS2021_01426"
OLD = identity.KNOWN[TWICE]


def configuration(tmp_path: Path, name: str = "mine", teacher: dict | None = None, **data: object) -> Config:
    data = {"cache": tmp_path / "cache", "patches": False, **data}
    return Config(name=name, runs=tmp_path, teacher=teacher or {"kind": "none"}, data=data)


def prepared(config: Config, *patients: str) -> Config:
    splits.write(splits.make(patients, config), config)
    return config


def patch_of(patient: str, config: Config, number: int = 0) -> None:
    empty = np.zeros((2, 2, 2), np.uint8)
    piece = cache.Sample(patient, np.zeros((4, 2, 2, 2), np.float16), empty > 0, empty, np.zeros(3))
    cache.save(piece, config.data.cache / "patches" / f"{number:04d}_{patient}.npz")


@pytest.mark.parametrize("seed", range(8))
def test_a_patient_with_two_names_is_never_on_both_sides(tmp_path: Path, seed: int) -> None:
    everyone = [TWICE, OLD, *(f"p{number}" for number in range(8))]
    made = splits.make(everyone, configuration(tmp_path, split_seed=seed, test_share=0.3, validation_share=0.3))
    assert made.patients == tuple(sorted(everyone))
    assert sum({TWICE, OLD} <= set(part) for part in (made.test, made.validation, made.training)) == 1


def test_a_list_that_names_a_patient_means_the_other_name_too(tmp_path: Path) -> None:
    assert splits.make([TWICE, OLD, "p"], configuration(tmp_path, held_out=[OLD])).test == (TWICE, OLD)
    with pytest.raises(ValueError, match=rf"{TWICE} is in data\.held_out .* under another name"):
        splits.make([TWICE, OLD, "p"], configuration(tmp_path, held_out=[OLD], validation=[TWICE]))


def test_patches_of_a_tested_patient_are_left_out_without_being_asked_to(tmp_path: Path) -> None:
    config = prepared(configuration(tmp_path, patches=True, held_out=[TWICE]), TWICE, "p")
    for number, patient in enumerate((OLD, "BraTS20_Training_001")):
        patch_of(patient, config, number)
    assert [patch.patient for patch in patches.read(config)] == ["BraTS20_Training_001"]


def test_nothing_is_learnt_from_those_who_are_omitted_and_the_others_test_as_before(tmp_path: Path) -> None:
    everyone = [TWICE, *(f"p{number}" for number in range(8))]
    plain = configuration(tmp_path, test_share=0.3)
    fewer = configuration(tmp_path, "fewer", test_share=0.3, omitted=[TWICE, "p0", "p1"], patches=True, splits="fewer")
    made, before = prepared(fewer, *everyone), splits.make(everyone, plain)
    for number, patient in enumerate((OLD, "BraTS20_Training_001")):
        patch_of(patient, fewer, number)
    parts = splits.read(made)
    assert (parts.test, parts.validation) == (before.test, before.validation)
    assert set(parts.training) == set(before.training) - {TWICE, "p0", "p1"}
    assert parts.patients == tuple(sorted(everyone))
    assert [patch.patient for patch in patches.read(fewer)] == ["BraTS20_Training_001"]
    assert seen(fewer) == sorted([*parts.training, "BraTS20_Training_001"])
    with pytest.raises(ValueError, match=r"data\.omitted names q, who is not among"):
        splits.make(everyone, configuration(tmp_path, omitted=["q"]))


def test_who_is_omitted_tests_all_the_same_in_the_fold_that_holds_them_out(tmp_path: Path) -> None:
    data = {"test_share": 0, "validation_share": 0, "folds": [["a", "b"], ["c", "d"]], "omitted": ["a", "c"]}
    config = configuration(tmp_path, **data)
    first, second = (splits.make("abcd", config.of_fold(number)) for number in (0, 1))
    assert (first.test, first.training, first.omitted) == (("a", "b"), ("d",), ("c",))
    assert (second.test, second.training, second.omitted) == (("c", "d"), ("b",), ("a",))


def test_the_editions_from_2021_on_number_the_same_people_alike(tmp_path: Path) -> None:
    data = configuration(tmp_path).data
    assert identity.identities(["BraTS2021_00005", "BraTS-GLI-00005", "BraTS-GLI-00006"], data) == {
        "BraTS2021_00005",
        "BraTS2021_00006",
    }
    same = {"BraTS2021_00005", "BraTS-GLI-00005", "FeTS2022_00005"}
    assert identity.all_names(["BraTS-GLI-00005"], data) == identity.all_names(["FeTS2022_00005"], data) == same
    everyone = {TWICE, OLD, TWICE.replace("BraTS2021_", "BraTS-GLI-"), TWICE.replace("BraTS2021_", "FeTS2022_")}
    for name in everyone:
        assert identity.all_names([name], data) == everyone
    start = package(tmp_path / "start", training={"seen": ["BraTS2021_00005"], "chosen_on": []})
    config = configuration(tmp_path, layout="brats2024", held_out=["BraTS-GLI-00005"])
    with pytest.raises(ValueError, match="knows patients whom this run keeps apart"):
        check_package(start, prepared(config, "BraTS-GLI-00005", "BraTS-GLI-00007"))


@pytest.mark.parametrize("edition", ["BraTS2021_", "BraTS-GLI-", "FeTS2022_"])
@pytest.mark.parametrize("turned", [False, True])
def test_an_alias_holds_both_ways_and_in_every_edition(tmp_path: Path, edition: str, turned: bool) -> None:
    old, new = "BraTS20_Training_050", f"{edition}00100"
    aliases = {new: old} if turned else {old: new}
    config = configuration(tmp_path, held_out=[new], aliases=aliases)
    assert identity.all_names([new], config.data) == identity.all_names([old], config.data) >= {old, new}
    start = package(tmp_path / "start", training={"seen": [old], "chosen_on": []})  # noted without this alias
    with pytest.raises(ValueError, match="knows patients whom this run keeps apart"):
        check_package(start, prepared(config, new, "a"))


def test_an_alias_between_two_of_one_edition_keeps_them_together(tmp_path: Path) -> None:
    one, other = "BraTS-GLI-00100", "BraTS-GLI-00200"
    config = configuration(tmp_path, held_out=[one], aliases={other: one})
    assert splits.make([one, other, "a"], config).test == (one, other)


def test_names_that_lead_on_and_on_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data\.aliases: a leads to b, which leads to c"):
        identity.names(configuration(tmp_path, aliases={"a": "b", "b": "c"}).data)


def frozen(tmp_path: Path, **data: object) -> Config:
    return configuration(tmp_path, "student", {"kind": "frozen", "run": "teacher"}, **data)


def test_a_frozen_teacher_must_not_know_whom_its_student_is_tested_on(tmp_path: Path) -> None:
    everyone = (TWICE, "a", "b", "c", "d")
    teacher = configuration(tmp_path, "teacher", cache=tmp_path / "one", held_out=["b"], validation=["c"], patches=True)
    prepared(teacher, "a", "b", "c", "d")
    patch_of(OLD, teacher)
    write(teacher, step=0)
    for held_out, validation, omitted, met in (
        ([TWICE], ["c"], [], f"test: {OLD}"),
        (["c"], [], [], "test: c"),  # the teacher's weights were chosen on this patient
        (["b"], ["a"], [], "validation: a"),
        (["b"], ["c"], ["d"], "omitted: d"),
    ):
        student = frozen(tmp_path, cache=tmp_path / met, held_out=held_out, validation=validation, omitted=omitted)
        prepared(student, *everyone)
        with pytest.raises(ValueError, match=rf"run 'teacher' knows patients whom this run keeps apart \({met}\)"):
            check_run("teacher", student)
    check_run(
        "teacher", prepared(frozen(tmp_path, cache=tmp_path / "two", held_out=["b"], validation=["c"]), *everyone)
    )


def test_what_a_teachers_teacher_has_seen_counts(tmp_path: Path) -> None:
    write(prepared(configuration(tmp_path, "teacher", held_out=["b"]), "a", "b"), step=0)
    second = configuration(
        tmp_path, "second", {"kind": "frozen", "run": "teacher"}, cache=tmp_path / "two", held_out=["b"]
    )
    write(prepared(second, "b", "c"), step=0)
    third = configuration(
        tmp_path, "third", {"kind": "frozen", "run": "second"}, cache=tmp_path / "three", held_out=["a"]
    )
    with pytest.raises(ValueError, match="test: a"):
        check_run("second", prepared(third, "a", "b", "c"))


def test_what_any_of_several_teachers_has_seen_counts(tmp_path: Path) -> None:
    for name, patients in (("first", "ab"), ("second", "bc")):
        teacher = configuration(tmp_path, name, cache=tmp_path / f"of {name}", held_out=["b"])
        write(prepared(teacher, *patients), step=0)
    taught = configuration(
        tmp_path, "taught", {"kind": "frozen", "run": ["first", "second"]}, cache=tmp_path / "two", held_out=["b"]
    )
    assert seen(prepared(taught, "b", "d")) == ["a", "c", "d"]


def test_a_teacher_that_does_not_say_whom_it_has_seen_is_refused(tmp_path: Path) -> None:
    student = prepared(frozen(tmp_path, held_out=["b"]), "a", "b")
    with pytest.raises(FileNotFoundError, match="nobody knows whom run 'teacher' has learnt from"):
        check_run("teacher", student)


def package(folder: Path, **card: object) -> ModelPackage:
    network = build(NetworkConfig(width=8, blocks=(1, 1, 1, 1)))
    texts = dict.fromkeys(("name", "version", "licence", "data", "intended_use"), "a text")
    told = {
        **texts, "kind": "tumour", "spacing_mm": 2.0, "thresholds": {"WT": 0.5, "TC": 0.5, "ET": 0.5}, "citation": [],
        "quality": {"measured_on": [], "command": "none", "table": {}},
    }  # fmt: skip
    return packages.write(folder, network, {**told, **card})


def test_weights_to_start_from_must_not_know_whom_the_run_is_tested_on(tmp_path: Path) -> None:
    start = package(tmp_path / "start", training={"seen": [OLD, "c"], "chosen_on": ["d"]})
    config = configuration(tmp_path, held_out=["b"]).model_copy(update={"init": start.folder})
    check_package(start, prepared(config, "a", "b"))
    assert seen(config) == sorted([OLD, "a", "c"])
    assert chosen_on(config) == ["d"]
    for number, known in enumerate((TWICE, "c", "d")):
        other = configuration(tmp_path, cache=tmp_path / str(number), held_out=[known])
        with pytest.raises(ValueError, match="knows patients whom this run keeps apart"):
            check_package(start, prepared(other, "a", known))


def test_weights_that_do_not_say_whom_they_know_are_no_start(tmp_path: Path) -> None:
    start = package(tmp_path / "start")
    with pytest.raises(ValueError, match="does not say whom its weights have learnt from"):
        check_package(start, prepared(configuration(tmp_path, held_out=["b"]), "a", "b"))


def test_weights_of_another_network_are_no_start(tmp_path: Path) -> None:
    start = package(tmp_path / "start", training={"seen": [], "chosen_on": []})
    config = configuration(tmp_path, held_out=["b"]).model_copy(update={"init": start.folder})
    with pytest.raises(ValueError, match=r"this run trains .* choose another"):
        first_student(prepared(config, "a", "b"))


def test_a_student_starts_with_the_weights_that_it_is_told_to(tmp_path: Path) -> None:
    start = package(tmp_path / "start", training={"seen": [], "chosen_on": []})
    network = {"width": 8, "blocks": [1, 1, 1, 1], "transformer": None, "availability": False}
    config = configuration(tmp_path, held_out=["b"]).model_copy(update={"init": start.folder, "network": network})
    found = first_student(prepared(config, "a", "b")).state_dict()
    for name, tensor in start.network().state_dict().items():
        assert np.array_equal(found[name].numpy(), tensor.numpy()), name


def test_a_run_that_goes_on_from_another_has_seen_whom_that_one_has_seen(tmp_path: Path) -> None:
    write(prepared(configuration(tmp_path, "first", held_out=["b"]), "a", "b"), step=0)
    second = configuration(tmp_path, "second", cache=tmp_path / "two", held_out=["b"])
    second = second.model_copy(update={"start": "first"})
    assert seen(prepared(second, "b", "c")) == ["a", "c"]
    third = configuration(tmp_path, "third", cache=tmp_path / "three", held_out=["a"])
    with pytest.raises(ValueError, match=r"run 'first' knows patients whom this run keeps apart \(test: a\)"):
        first_student(prepared(third.model_copy(update={"start": "first"}), "a", "b"))


def test_a_start_is_noted_where_something_has_changed(tmp_path: Path) -> None:
    config = prepared(configuration(tmp_path, held_out=["b"]), "a", "b")
    write(config, step=0)
    write(config, step=7)
    path = config.folder / "provenance.json"
    assert [start["step"] for start in json.loads(path.read_text())] == [0]
    (config.data.cache / "fingerprint.json").write_text('{"files_sha256": "other"}')
    write(config, step=9)
    assert [start["step"] for start in json.loads(path.read_text())] == [0, 9]


def test_the_known_names_are_those_of_the_label_maps_that_coincide(shared_data: Path, tmp_path: Path) -> None:
    with np.load(io.BytesIO(lzma.decompress((shared_data / patches.MASKS).read_bytes()))) as arrays:
        theirs, owners = (arrays["labels"][:, 1::4, 1::4, 1::4] > 0).reshape(-1, 32**3), arrays["patient"]
    found = {}
    with tarfile.open(shared_data / "brats_cases.tar.xz") as archive:
        for member in archive:
            if member.name.endswith("_seg.nii"):
                archive.extract(member, tmp_path, filter="data")
                labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / member.name))).transpose(2, 1, 0)
                # both cover one field, with 240 x 240 x 155 and with 128^3 voxels
                centres = [((np.arange(1, 128, 4) + 0.5) * side / 128).astype(int) for side in labels.shape]
                mine = labels[np.ix_(*centres)].ravel() > 0
                dice = 2 * (theirs & mine).sum(axis=1) / (theirs.sum(axis=1) + mine.sum())
                if dice.max() > 0.9:
                    found[Path(member.name).parent.name] = str(owners[dice.argmax()])
    assert found == identity.KNOWN
