"""From folders of studies to the cache: layouts, refusals, splits, resume, and labels that stay where they were."""

from __future__ import annotations

import functools
import gzip
import json
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from head_phantom import GRID, head

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

from mstkd_training import cache, patches, prepare, splits
from mstkd_training.cases import ENDINGS, LABEL_MAP, BadCases, Case, find_cases, patient_of
from mstkd_training.config import CONVENTION, Config, DataConfig
from MSTKDSegmenterLib.engine import alignment
from MSTKDSegmenterLib.engine.brain import Brain
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.regions import CLASSES
from MSTKDSegmenterLib.engine.sequences import SEQUENCES

MIDDLE = (25.0, 20.0, 15.0)  # of the lesion, x, y, z, mm, LPS
RADII = {"WT": 18.0, "TC": 13.0, "ET": 9.0}  # mm
NAMES = {
    "archive": "BraTS2021_{:05d}",
    "brats2024": "BraTS-GLI-{:05d}-100",
    "brats2023": "BraTS-GLI-{:05d}-000",
    "fets2024": "FeTS2022_{:05d}",
    "brats2021": "BraTS2021_{:05d}",
}


@pytest.fixture(autouse=True)
def brain_without_network(monkeypatch: pytest.MonkeyPatch) -> None:
    # the phantom is skull-stripped; what finds brains in heads has its own tests
    monkeypatch.setattr(alignment, "find_brain", lambda image: Brain(image != 0, stripped=True))


@functools.cache
def image(sequence: str, patient: int) -> sitk.Image:
    return sitk.Cast(head(sequence, patient, lesion=True), sitk.sitkInt16)


def label_map(layout: str) -> sitk.Image:
    """Three balls about one middle: oedema around necrosis around enhancement."""
    points = GRID.physical(np.moveaxis(np.indices(GRID.shape)[::-1], 0, -1))
    distance = np.linalg.norm(points - MIDDLE, axis=-1)
    enhancing = 4 if CONVENTION[layout] == "brats2021" else 3
    labels = np.zeros(GRID.shape, dtype=np.uint8)
    for region, value in (("WT", 2), ("TC", 1), ("ET", enhancing)):
        labels[distance < RADII[region]] = value
    return GRID.image(labels)


def write_case(folder: Path, layout: str, patient: int, suffix: str = ".nii") -> Path:
    folder.mkdir(parents=True)
    for role, ending in ENDINGS[layout].items():
        content = label_map(layout) if role == LABEL_MAP else image(role, patient)
        sitk.WriteImage(content, str(folder / f"{folder.name}{ending}{suffix}"))
    return folder


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies of BraTS 2024, of two patients."""
    root = tmp_path_factory.mktemp("BraTS2024")
    for number, name in enumerate(("BraTS-GLI-00001-100", "BraTS-GLI-00001-101", "BraTS-GLI-00002-100")):
        write_case(root / name, "brats2024", number)
    return root


@pytest.fixture
def source(studies: Path, tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(studies, tmp_path / "source")


def configuration(source: Path, **data: object) -> Config:
    settings = {"layout": "brats2024", "spacing": 4.0, "patches": False, "held_out": ["BraTS-GLI-00002"]}
    return Config(name="tiny", data={"source": source, "cache": source.parent / "cache", **settings, **data})


def prepared(config: Config) -> list[str]:
    return sorted(path.stem for path in (config.data.cache / "studies").glob("*.npz"))


# --- layouts


@pytest.mark.parametrize("layout", ENDINGS)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_the_cases_of_every_layout_are_found_and_can_be_prepared(tmp_path: Path, layout: str, suffix: str) -> None:
    root, name = tmp_path / "source", NAMES[layout].format(7)
    folder = write_case(root / "cases" / name, layout, 0, suffix)
    if layout == "archive":
        with tarfile.open(root / "brats_cases.tar.xz", "w:xz", preset=0) as archive:
            archive.add(root / "cases", "cases")
        shutil.rmtree(root / "cases")
    config = configuration(root, layout=layout, held_out=[], test_share=0)
    (case,) = find_cases(config.data)
    assert (case.name, case.patient) == (name, patient_of(name))
    assert list(case.images) == list(SEQUENCES)
    assert [path.name for path in case.images.values()] == [
        f"{name}{ENDINGS[layout][sequence]}{suffix}" for sequence in SEQUENCES
    ]
    assert layout == "archive" or case.labels.parent == folder
    prepare.prepare(config)
    assert prepared(config) == [name]


def test_folders_of_cohorts_and_folders_of_cases_may_lie_side_by_side(source: Path) -> None:
    write_case(source / "train" / "BraTS-GLI-00009-100", "brats2024", 0)
    (source / "notes").mkdir()
    (source / "notes" / "read_me.txt").write_text("no images here")
    (source / ".hidden").mkdir()
    assert len(find_cases(configuration(source).data)) == 4


@pytest.mark.parametrize(
    ("on_disk", "named", "expected"),
    [
        ("brats2021", "brats2024", "looks like fets2024 or brats2021"),
        ("brats2024", "brats2021", "looks like brats2024 or brats2023"),
    ],
)
def test_a_folder_of_another_layout_is_refused_with_its_name(
    tmp_path: Path, on_disk: str, named: str, expected: str
) -> None:
    write_case(tmp_path / "source" / NAMES[on_disk].format(1), on_disk, 0)
    with pytest.raises(ValueError, match=expected):
        find_cases(configuration(tmp_path / "source", layout=named).data)


def test_a_source_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_cases(configuration(tmp_path / "nowhere").data)
    with pytest.raises(FileNotFoundError, match=r"brats_cases\.tar\.xz is not there"):
        find_cases(configuration(tmp_path, layout="archive").data)
    (tmp_path / "brats_cases.tar.xz").touch()
    with pytest.raises(ValueError, match="looks like archive"):
        find_cases(configuration(tmp_path).data)


def test_an_archive_that_was_half_unpacked_is_unpacked_again(tmp_path: Path) -> None:
    root = tmp_path / "source"
    write_case(root / "cases" / "BraTS2021_00001", "archive", 0)
    with tarfile.open(root / "brats_cases.tar.xz", "w:xz", preset=0) as archive:
        archive.add(root / "cases", "cases")
    (tmp_path / "cache" / "raw.part" / "cases" / "BraTS2021_00002").mkdir(parents=True)
    data = configuration(root, layout="archive").data
    assert [case.name for case in find_cases(data)] == ["BraTS2021_00001"]
    (root / "brats_cases.tar.xz").unlink()  # the second time it is not needed
    assert [case.name for case in find_cases(data)] == ["BraTS2021_00001"]


# --- refusals

BAD = "BraTS-GLI-00001-101"


def rewrite(path: Path, change: Callable[[sitk.Image], sitk.Image]) -> None:
    sitk.WriteImage(change(sitk.ReadImage(str(path))), str(path))


def shifted(original: sitk.Image) -> sitk.Image:
    original.SetOrigin([value + 3 for value in original.GetOrigin()])
    return original


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5000])


def truncate_compressed(path: Path) -> None:
    packed = gzip.compress(path.read_bytes())
    path.with_name(path.name + ".gz").write_bytes(packed[: len(packed) // 2])
    path.unlink()


SPOILT: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing sequence": ("t2f", Path.unlink, r"its FLAIR is missing, \S+-t2f.nii.gz"),
    "renamed sequence": ("t1c", lambda p: p.rename(p.with_name("T1_post.nii")), "other files there: T1_post.nii"),
    "no label map": ("seg", Path.unlink, "its label map is missing"),
    "doubled sequence": ("t1n", lambda p: shutil.copy(p, f"{p}.gz"), "its T1 is there twice"),
    "same image twice": ("t1n", lambda p: shutil.copy(p.with_name(f"{BAD}-t2w.nii"), p), "are the same image"),
    "no image": ("t2w", lambda p: p.write_bytes(b"nothing"), "its T2 cannot be read"),
    "truncated": ("t2w", truncate, "is truncated"),
    "truncated label map": ("seg", truncate, "is truncated"),
    "truncated, compressed": ("t2w", truncate_compressed, "is truncated or damaged"),
    "unknown label": ("seg", lambda p: rewrite(p, lambda i: i * 3), "has the values 6, 9, 'brats2024' knows 0, 1"),
    "shifted sequence": ("t1c", lambda p: rewrite(p, shifted), "its T1ce has another grid than its FLAIR: origin"),
    "smaller label map": ("seg", lambda p: rewrite(p, lambda i: i[2:]), "its label map has another grid .* size 50"),
    "slice": ("t1n", lambda p: rewrite(p, lambda i: i[:, :, 20]), "expected a 3-D volume"),
    "empty": ("t1n", lambda p: rewrite(p, lambda i: i * 0), "is empty"),
    "hardly anything": ("t1n", lambda p: rewrite(p, lambda i: sitk.Mask(i, i > 99)), r"T1 shows \d+ ml of brain"),
    "folder without files": ("", lambda p: [file.unlink() for file in p.iterdir()], "FLAIR is missing.*label map is"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_case_that_cannot_be_used_is_named_with_the_reason(source: Path, what: str) -> None:
    ending, spoil, reason = SPOILT[what]
    spoil(source / BAD / f"{BAD}-{ending}.nii" if ending else source / BAD)
    config = configuration(source)
    with pytest.raises(BadCases, match=reason) as caught:
        prepare.prepare(config)
    assert set(caught.value.problems) == {BAD}
    assert not prepared(config)


def test_all_bad_cases_come_in_one_list_before_anything_is_prepared(source: Path) -> None:
    first, second, third = sorted(source.iterdir())
    (first / f"{first.name}-t1n.nii").unlink()
    (first / f"{first.name}-t2w.nii").unlink()
    rewrite(second / f"{second.name}-seg.nii", lambda labels: labels * 3)
    shutil.copytree(third, source / "again" / third.name)
    with pytest.raises(BadCases) as caught:
        prepare.prepare(configuration(source))
    assert [len(reasons) for _, reasons in sorted(caught.value.problems.items())] == [2, 1, 1]
    assert "2 folders have this name" in str(caught.value)
    assert "data.skip_bad=true" in str(caught.value)


def test_a_label_value_of_another_layout_is_refused_with_its_name(source: Path) -> None:
    rewrite(source / BAD / f"{BAD}-seg.nii", lambda labels: labels + sitk.Cast(labels == 3, sitk.sitkUInt8))
    with pytest.raises(BadCases, match=r"values 4, 'brats2023' knows 0, 1, 2, 3; they fit data.layout .*brats2024"):
        prepare.prepare(configuration(source, layout="brats2023"))


def test_bad_cases_are_left_out_when_asked_and_the_fingerprint_says_so(source: Path) -> None:
    (source / BAD / f"{BAD}-t2f.nii").unlink()
    truncate(source / "BraTS-GLI-00002-100" / "BraTS-GLI-00002-100-t1n.nii")
    with pytest.raises(ValueError, match=r"data.held_out names BraTS-GLI-00002, who is not among the 1 patients"):
        prepare.prepare(configuration(source, skip_bad=True))
    config = configuration(source, skip_bad=True, held_out=[], test_share=0)
    prepare.prepare(config)
    assert prepared(config) == ["BraTS-GLI-00001-100"]
    told = json.loads((config.data.cache / "fingerprint.json").read_text())
    assert sorted(told["left_out"]) == [BAD, "BraTS-GLI-00002-100"]
    assert told["cases"] == 1


def test_a_data_set_of_bad_cases_is_refused_even_if_they_may_be_skipped(source: Path) -> None:
    for folder in source.iterdir():
        (folder / f"{folder.name}-t2f.nii").unlink()
    with pytest.raises(BadCases, match="Nothing is left"):
        prepare.prepare(configuration(source, skip_bad=True))


def test_what_only_the_engine_notices_is_reported_after_the_others_are_prepared(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, original = configuration(source), prepare.read_study

    def refusing(case: Case, data: DataConfig) -> cache.Sample:
        if case.name == BAD:
            raise UnusableInput("no brain is found")
        return original(case, data)

    monkeypatch.setattr(prepare, "read_study", refusing)
    with pytest.raises(BadCases, match="no brain is found") as caught:
        prepare.prepare(config)
    assert set(caught.value.problems) == {BAD}
    assert prepared(config) == ["BraTS-GLI-00001-100", "BraTS-GLI-00002-100"]
    assert not splits.path(config).exists()


# --- what is prepared


@pytest.fixture(scope="module")
def done(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Prepared once, not to be changed."""
    config = configuration(studies, cache=tmp_path_factory.mktemp("done") / "cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alignment, "find_brain", lambda image: Brain(image != 0, stripped=True))
        prepare.prepare(config)
    return config


def test_the_tumour_keeps_its_volume_and_its_place(done: Config) -> None:
    for study in cache.read(done.data.cache / "studies"):
        indices = np.argwhere(study.labels != CLASSES.index("background"))
        assert study.origin + 4.0 * indices.mean(axis=0)[::-1] == pytest.approx(MIDDLE, abs=0.7)
        tumour = {
            "WT": len(indices), "TC": np.isin(study.labels, (0, 2)).sum(), "ET": (study.labels == 2).sum(),
        }  # fmt: skip
        for region, voxels in tumour.items():
            ball = 4 / 3 * np.pi * RADII[region] ** 3
            assert voxels * 4.0**3 == pytest.approx(ball, rel=0.08), region


def test_a_study_is_normalised_in_its_brain_and_zero_outside(done: Config) -> None:
    study = cache.samples(done.data.cache, ["BraTS-GLI-00002"])[0]
    assert study.patient == "BraTS-GLI-00002"
    assert study.image.shape == (4, *study.labels.shape)
    for channel in study.image.astype(np.float32):
        assert not channel[~study.brain].any()
        assert channel[study.brain].mean() == pytest.approx(0, abs=0.02)
        assert channel[study.brain].std() == pytest.approx(1, abs=0.02)


def test_the_fingerprint_tells_what_the_data_are(done: Config) -> None:
    told = json.loads((done.data.cache / "fingerprint.json").read_text())
    assert (told["cases"], told["patients"], told["left_out"]) == (3, 2, {})
    assert told["orientation"] == {"LPS": 3}
    assert told["size"]["max"] == list(GRID.size)
    assert told["spacing_mm"]["min"] == list(GRID.spacing)
    values = [sitk.GetArrayFromImage(image("T1", number)) for number in range(3)]
    medians = [float(np.median(v[v != 0])) for v in values]
    assert told["intensity"]["T1"]["50%"] == {
        "median": np.median(medians), "min": min(medians), "max": max(medians),
    }  # fmt: skip
    voxels = int((sitk.GetArrayFromImage(label_map("brats2024")) > 0).sum())
    assert told["regions_ml"]["WT"]["median"] == pytest.approx(voxels * 27 / 1000, abs=1e-3)
    assert told["regions_ml"]["ET"]["absent"] == 0


def test_the_fingerprint_counts_cases_without_enhancement_and_knows_other_files(source: Path, done: Config) -> None:
    rewrite(source / BAD / f"{BAD}-seg.nii", lambda labels: labels * sitk.Cast(labels != 3, sitk.sitkUInt8))
    (source / BAD / f"{BAD}-t1n.nii").rename(source / "image.nii")
    (source / BAD / f"{BAD}-t1n.nii.gz").write_bytes(gzip.compress((source / "image.nii").read_bytes()))
    config = configuration(source)
    prepare.prepare(config)
    told, before = (json.loads((c.data.cache / "fingerprint.json").read_text()) for c in (config, done))
    assert told["regions_ml"]["ET"]["absent"] == 1
    assert told["files_sha256"] != before["files_sha256"]


def test_the_fingerprint_knows_other_contents_of_the_same_size(source: Path, done: Config) -> None:
    path = source / BAD / f"{BAD}-seg.nii"
    size = path.stat().st_size
    rewrite(path, lambda labels: sitk.Cast(labels != 0, sitk.sitkUInt8) * 2)
    assert path.stat().st_size == size
    config = configuration(source)
    prepare.prepare(config)
    told, before = (json.loads((c.data.cache / "fingerprint.json").read_text()) for c in (config, done))
    assert told["files_sha256"] != before["files_sha256"]


def test_contents_that_an_earlier_version_did_not_note_are_noted_and_nothing_is_made_anew(source: Path) -> None:
    config = configuration(source)
    prepare.prepare(config)
    path, made = config.data.cache / "examined.json", sorted((config.data.cache / "studies").iterdir())
    before, now = [file.stat().st_mtime_ns for file in made], json.loads(path.read_text())
    path.write_text(json.dumps({case: {**facts, "sha256": {}} for case, facts in now.items()}))
    prepare.prepare(config)
    assert json.loads(path.read_text()) == now
    assert [file.stat().st_mtime_ns for file in made] == before


def test_several_processes_prepare_the_same_as_one(
    studies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # in processes of their own the real network looks for the brain, here it must do so as well
    case = find_cases(configuration(studies).data)[0]
    write = tmp_path / "one"
    shutil.copytree(studies / case.name, write / case.name)
    configs = [
        configuration(write, cache=tmp_path / f"cache{workers}", workers=workers, held_out=[], test_share=0)
        for workers in (1, 2)
    ]
    for config in configs:
        prepare.prepare(config)
    one, two = (cache.read(config.data.cache / "studies")[0] for config in configs)
    np.testing.assert_array_equal(one.labels, two.labels)
    np.testing.assert_array_equal(one.image, two.image)


# --- continuing, and what must not be mixed


def test_an_interrupted_run_is_continued_where_it_stopped(
    source: Path, done: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, original, calls = configuration(source), prepare.read_study, []

    def interrupted(case: Case, data: DataConfig) -> cache.Sample:
        calls.append(case)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(case, data)

    monkeypatch.setattr(prepare, "read_study", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepare.prepare(config)
    assert len(prepared(config)) == 1
    prepare.prepare(config)
    assert len(calls) == 4  # one, the interrupted one, and two more
    folders = [c.data.cache / "studies" for c in (config, done)]
    for mine, whole in zip(*(cache.read(folder) for folder in folders), strict=True):
        np.testing.assert_array_equal(mine.image, whole.image)
        np.testing.assert_array_equal(mine.labels, whole.labels)
    prepare.prepare(config)
    assert len(calls) == 4


def test_a_case_whose_files_have_changed_is_prepared_again(source: Path) -> None:
    config = configuration(source)
    prepare.prepare(config)
    before = {path.name: path.stat().st_mtime_ns for path in (config.data.cache / "studies").iterdir()}
    rewrite(source / BAD / f"{BAD}-seg.nii", lambda labels: labels * 0)
    prepare.prepare(config)
    after = {path.name: path.stat().st_mtime_ns for path in (config.data.cache / "studies").iterdir()}
    assert {name for name in after if after[name] != before[name]} == {f"{BAD}.npz"}


@pytest.mark.parametrize("change", [{"spacing": 3.0}, {"layout": "brats2023"}])
def test_a_cache_made_with_other_settings_is_refused(source: Path, change: dict) -> None:
    prepare.prepare(configuration(source))
    with pytest.raises(ValueError, match=r"was prepared with .*spacing_mm 4\.0.* give another data\.cache"):
        prepare.prepare(configuration(source, **change))


def test_a_cache_of_which_nobody_knows_the_settings_is_refused(source: Path) -> None:
    config = configuration(source)
    (config.data.cache / "studies").mkdir(parents=True)
    with pytest.raises(ValueError, match="was prepared with format 1"):
        prepare.prepare(config)


# --- splits

MANY = [f"BraTS-GLI-{number:05d}" for number in range(40)]


def shared(tmp_path: Path, **data: object) -> Config:
    return configuration(tmp_path / "source", **{"held_out": [], **data})


def test_a_name_without_time_points_is_the_patient_itself() -> None:
    assert patient_of("BraTS-GLI-00005-100") == patient_of("BraTS-GLI-00005-101") == "BraTS-GLI-00005"
    assert patient_of("BraTS-SSA-00002-000") == "BraTS-SSA-00002"
    assert patient_of("BraTS2021_00005") == "BraTS2021_00005"
    assert patient_of("FeTS2022_00005") == "FeTS2022_00005"


def test_time_points_of_one_patient_are_never_split(done: Config) -> None:
    for seed in range(8):
        made = splits.make(
            [patient_of(path.name) for path in done.data.source.iterdir()],
            shared(done.data.cache, split_seed=seed, test_share=0.5, validation_share=0),
        )
        for chosen in (made.test, made.training):
            names = [p.stem for p in cache.samples(done.data.cache, chosen).data]
            assert len(names) == (2 if chosen == ("BraTS-GLI-00001",) else 1)
    assert len(cache.samples(done.data.cache, splits.training_patients(done))) == 2
    assert splits.test_patients(done) == ("BraTS-GLI-00002",)


def test_every_patient_is_in_one_part_and_the_shares_are_as_asked(tmp_path: Path) -> None:
    made = splits.make(MANY, shared(tmp_path, test_share=0.2, validation_share=0.1))
    assert made.patients == tuple(MANY)
    assert [len(part) for part in (made.test, made.validation, made.training)] == [8, 4, 28]


def test_splits_depend_on_patients_and_seed_alone(tmp_path: Path) -> None:
    made = splits.make(MANY, shared(tmp_path))
    assert splits.make(reversed([*MANY, MANY[0]]), shared(tmp_path)) == made
    assert splits.make(MANY, shared(tmp_path).model_copy(update={"seed": 9})) == made  # the training's seed
    assert splits.make(MANY, shared(tmp_path, split_seed=1)) != made


def test_lists_of_patients_win_over_shares(tmp_path: Path) -> None:
    made = splits.make(MANY, shared(tmp_path, held_out=MANY[3:1:-1]))
    assert (made.test, made.validation) == (tuple(MANY[2:4]), ())
    made = splits.make(MANY, shared(tmp_path, validation=MANY[:2]))
    assert made.validation == tuple(MANY[:2])
    assert len(made.test) == 8
    made = splits.make(MANY, shared(tmp_path, held_out=MANY[:1], validation=MANY[1:2]))
    assert made.training == tuple(MANY[2:])


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        ({"held_out": ["BraTS-GLI-00001-100"]}, "held_out names BraTS-GLI-00001-100, who is not among the 40"),
        ({"validation": ["nobody"]}, "validation names nobody"),
        ({"held_out": MANY[:2], "validation": MANY[1:3]}, "BraTS-GLI-00001 is in data.held_out and"),
        ({"held_out": MANY}, "nobody is left to train with"),
        ({"test_share": 0.6, "validation_share": 0.6}, "lower data.test_share"),
    ],
)
def test_impossible_splits_are_refused(tmp_path: Path, lists: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        splits.make(MANY, shared(tmp_path, **lists))


@pytest.mark.parametrize("change", [{"held_out": MANY[:2]}, {"split_seed": 5}, {"test_share": 0.5}])
def test_splits_of_another_configuration_are_refused_and_kept(tmp_path: Path, change: dict) -> None:
    config = shared(tmp_path)
    splits.write(splits.make(MANY, config), config)
    before = splits.path(config).read_text()
    assert splits.read(config) == splits.make(MANY, config)
    with pytest.raises(ValueError, match=r"is of other splits .* delete the file and prepare again"):
        splits.read(shared(tmp_path, **change))
    assert splits.path(config).read_text() == before


def test_a_patient_who_came_later_does_not_change_the_splits_silently(source: Path) -> None:
    config = configuration(source)
    prepare.prepare(config)
    write_case(source / "BraTS-GLI-00003-100", "brats2024", 5)
    with pytest.raises(ValueError, match="training: it lacks BraTS-GLI-00003"):
        prepare.prepare(config)
    assert "BraTS-GLI-00003-100" not in prepared(config)


def test_without_splits_the_next_step_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run `python training/prepare\.py`"):
        splits.training_patients(shared(tmp_path))


# --- reading


@pytest.mark.parametrize(("share", "kept"), [(1.0, 3), (0.67, 2), (0.0, 0)])
def test_only_a_share_of_the_studies_is_kept_in_memory(
    done: Config, monkeypatch: pytest.MonkeyPatch, share: float, kept: int
) -> None:
    read: list[Path] = []
    original = cache.Load.__call__
    monkeypatch.setattr(cache.Load, "__call__", lambda self, path: read.append(path) or original(self, path))
    items = cache.samples(done.data.cache, ["BraTS-GLI-00001", "BraTS-GLI-00002"], share)
    assert (len(items), len(read)) == (3, kept)
    assert [items[index].patient for index in range(3)] == ["BraTS-GLI-00001"] * 2 + ["BraTS-GLI-00002"]
    assert len(read) == 3


def test_a_patient_without_prepared_studies_is_named(done: Config) -> None:
    with pytest.raises(FileNotFoundError, match="no prepared study of somebody"):
        cache.samples(done.data.cache, ["BraTS-GLI-00001", "somebody"])


def test_studies_are_read_by_the_names_in_the_fingerprint_not_by_whatever_lies_there(source: Path) -> None:
    config = configuration(source)
    prepare.prepare(config)
    write_case(source / "BraTS-GLI-00001-102", "brats2024", 7)
    prepare.prepare(config)
    studies = config.data.cache / "studies"
    assert len(cache.samples(config.data.cache, ["BraTS-GLI-00001"])) == 3
    shutil.rmtree(source / "BraTS-GLI-00001-102")
    prepare.prepare(config)
    assert (studies / "BraTS-GLI-00001-102.npz").exists()
    names = [path.stem for path in cache.samples(config.data.cache, ["BraTS-GLI-00001"]).data]
    assert names == ["BraTS-GLI-00001-100", "BraTS-GLI-00001-101"]
    (studies / "BraTS-GLI-00001-101.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"no prepared study of .*00001-101\.npz"):
        cache.samples(config.data.cache, ["BraTS-GLI-00001"])
    (config.data.cache / "fingerprint.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"fingerprint\.json lists no prepared cases"):
        cache.samples(config.data.cache, ["BraTS-GLI-00001"])


# --- lesion patches


def test_a_patch_is_found_where_it_was_cut_out() -> None:
    whole = np.zeros((48, 48, 48), dtype=np.uint8)
    whole[10:22, 14:30, 20:31] = 2
    whole[13:18, 17:25, 22:27] = 4
    padded = np.pad(whole, 32)
    corner = (-6, 3, 9)
    cut = padded[tuple(slice(a + 32, a + 64) for a in corner)]
    valid = np.ones((32, 32, 32), dtype=bool)
    valid[:6] = False
    assert patches.locate(cut, valid, whole) == corner
    cut = cut.copy()
    cut[20, 20, 20] = 1
    with pytest.raises(ValueError, match="the archives do not belong together"):
        patches.locate(cut, valid, whole)


def test_patches_of_patients_who_test_or_validate_are_not_trained_with(tmp_path: Path) -> None:
    config = shared(tmp_path, held_out=MANY[:1], validation=MANY[1:2], aliases={MANY[1]: "Old_7", MANY[2]: "Old_8"})
    splits.write(splits.make(MANY, config), config)
    empty = np.zeros((2, 2, 2), np.uint8)
    for patient in (MANY[0], "Old_7", "Old_8", "Old_9"):
        piece = cache.Sample(patient, np.zeros((4, 2, 2, 2), np.float16), empty > 0, empty, np.zeros(3))
        cache.save(piece, config.data.cache / "patches" / f"{patient}.npz")
    assert [patch.patient for patch in patches.read(config)] == ["Old_8", "Old_9"]


@pytest.mark.parametrize("layout", ["archive", "brats2024"])  # of the studies, the patches have their own convention
def test_a_patch_lands_on_the_working_grid_with_its_tumour(tmp_path: Path, layout: str) -> None:
    root, labels = tmp_path / "source", np.zeros((128, 128, 128), dtype=np.uint8)
    labels[50:66, 60:70, 40:64] = 4  # x, y, z
    corner = (42, 49, 36)
    cut = labels[tuple(slice(a, a + 32) for a in corner)]
    values = np.random.default_rng(0).integers(1, 40, size=(1, 4, 32, 32, 32)).astype(np.int8)
    root.mkdir()
    for name, arrays in (
        (patches.MASKS, {"labels": labels[None], "patient": np.array(["p"])}),
        (patches.IMAGES, {
            "images": values, "labels": cut[None], "patient": np.array(["p"]),
            "valid": np.packbits(np.ones((1, 32**3), bool), axis=1),
        }),
    ):  # fmt: skip
        np.savez(tmp_path / "a.npz", **arrays)
        (root / name).write_bytes(lzma.compress((tmp_path / "a.npz").read_bytes(), preset=0))
    config = configuration(root, layout=layout, spacing=2.0)
    patches.prepare(config.data)
    (patch,) = cache.read(config.data.cache / "patches")
    enhancing = np.argwhere(patch.labels == CLASSES.index("ET"))
    step = np.array((1.875, 1.875, 155 / 128))
    # voxel k of 1.875 mm spans from 1.875 k to 1.875 (k + 1) mm of the field, which begins half a millimetre before its
    # first voxel centre at (0, -239, 0)
    middle = (np.array((50 + 66, 60 + 70, 40 + 64)) / 2) * step - 0.5 + (0, -239, 0)
    assert patch.origin + 2.0 * enhancing.mean(axis=0)[::-1] == pytest.approx(middle, abs=0.5)
    assert len(enhancing) * 8.0 == pytest.approx(16 * 10 * 24 * step.prod(), rel=0.1)
    assert not list(config.data.cache.glob("*.incomplete"))


def test_missing_archives_of_patches_are_noticed_before_anything_else(source: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no brats20_patches\.npz\.xz .* data\.patches=false"):
        prepare.prepare(configuration(source, patches=True))
