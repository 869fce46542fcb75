"""An evaluation from study to tables and pictures: the shipped path, plain files, refusals that say why."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("monai", reason="training needs the extra packages: pip install .[training]")

import matplotlib.image
import SimpleITK as sitk
from mstkd_training import comparison, evaluate, illustrate, splits
from mstkd_training.cases import Case
from mstkd_training.config import Config
from mstkd_training.plots import Panels, heat_map, slices
from mstkd_training.published import benchmark
from mstkd_training.rows import FORMAT
from mstkd_training.tables import METRICS, document, table
from mstkd_training.tables import comparison as comparison_tables
from MSTKDSegmenterLib.engine import inference, network, tiles
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.package import ModelPackage, default_folder, load
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.segment import Result, segment
from MSTKDSegmenterLib.engine.sequences import SUBSETS, subset_name
from MSTKDSegmenterLib.engine.study import Study
from MSTKDSegmenterLib.scene.terminology import APPEARANCES
from phantom import make_study

COMMAND = "python training/eval.py --config configs/some.yaml"


def used(sha256: str) -> SimpleNamespace:
    """A package of which only the weights' hash and their use matter."""
    return SimpleNamespace(sha256=sha256, card={"thresholds": {"WT": 0.5, "TC": 0.5, "ET": 0.5}}, mirror=False)


@pytest.fixture(scope="module")
def package() -> ModelPackage:
    return load(default_folder())


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    study, folder = make_study(seed=0, spacing=4.0), tmp_path_factory.mktemp("case")
    images = {sequence: folder / f"case_{sequence.lower()}.nii.gz" for sequence in study.images}
    for sequence, path in images.items():
        sitk.WriteImage(study.images[sequence], str(path))
    sitk.WriteImage(study.truth, str(folder / "case_seg.nii.gz"))
    return Case("case", "patient", images, folder / "case_seg.nii.gz")


@pytest.fixture
def only_case(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """One study, two subsets."""
    for module in (evaluate, illustrate):
        monkeypatch.setattr(module, "studies_to_test", lambda config: [case])
    for module, name in ((evaluate, "SUBSETS"), (illustrate, "SHOWN")):
        monkeypatch.setattr(module, name, (("T1ce",), ("FLAIR", "T2")))


def config(tmp_path: Path, name: str = "mine") -> Config:
    (tmp_path / name).mkdir(exist_ok=True)
    return Config(name=name, runs=tmp_path, device="cpu", data={"layout": "brats2023"})


def made_up_rows(shift: float = 0.0, studies: int = 4) -> list[dict]:
    """Dice grows with the number of the study and the size of the subset; ET is empty in the first study."""
    rows = []
    for study in range(studies):
        for subset in SUBSETS:
            row = {"study": f"s{study}", "patient": f"p{study // 2}", "subset": subset_name(subset), "refused": None}
            for region in REGIONS:
                row |= {f"{region}_{metric}": 0.1 * study + 0.1 * len(subset) + shift for metric in METRICS}
                row[f"{region}_true_ml"] = 1.0
            if study == 0:
                row["ET_hd95_excluded"] = None
            rows.append(row)
    return rows


@pytest.mark.usefixtures("only_case")
def test_each_subset_is_measured_on_what_users_get(
    tmp_path: Path, case: Case, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    results: dict[str, np.ndarray] = {}

    def recording(study: Study, *arguments: object) -> Result:
        result = segment(study, *arguments)
        results[subset_name(study.subset)] = result.masks["WT"]
        return result

    monkeypatch.setattr(evaluate, "segment", recording)
    rows = evaluate.evaluate(config(tmp_path), package)
    truth = sitk.GetArrayFromImage(sitk.ReadImage(str(case.labels))) > 0
    assert [(row["study"], row["patient"], row["subset"]) for row in rows] == [
        ("case", "patient", "T1ce"),
        ("case", "patient", "FLAIR+T2"),
    ]
    for row in rows:
        found = results[row["subset"]]
        assert row["WT_dice"] == pytest.approx(2 * np.sum(found & truth) / (found.sum() + truth.sum()), abs=1e-4)
        assert row["WT_true_ml"] == pytest.approx(truth.sum() * 0.064, abs=1e-3)
        assert set(METRICS) <= {key.removeprefix("WT_") for key in row}
    assert rows[1]["WT_dice"] > 0.6


def test_a_package_is_measured_under_a_name_of_its_own_and_never_on_whom_it_knows(
    tmp_path: Path, package: ModelPackage
) -> None:
    known = package.card["training"]["seen"][0]
    for held_out, met in (("somebody", None), (known, f"keeps apart \\(test: {known}\\)")):
        data = {"cache": tmp_path / held_out, "held_out": [held_out], "test_share": 0, "validation_share": 0}
        settings = Config(name="theirs", runs=tmp_path, data=data)
        splits.write(splits.make([held_out, "another"], settings), settings)
        if met is None:
            assert evaluate.to_measure(package.folder, settings).sha256 == package.sha256
            finer = settings.model_copy(update={"data": settings.data.model_copy(update={"spacing": 1.0})})
            with pytest.raises(ValueError, match=r"works at 2 mm, .* are of 1 mm: give data\.spacing=2 "):
                evaluate.to_measure(package.folder, finer)
        else:
            with pytest.raises(ValueError, match=met):
                evaluate.to_measure(package.folder, settings)
    settings.folder.mkdir()
    (settings.folder / "config.json").touch()
    with pytest.raises(ValueError, match="theirs is of a run: give another name"):
        evaluate.to_measure(package.folder, settings)


@pytest.fixture
def segmented(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The subsets that the engine was asked for, in order."""
    asked: list[str] = []
    monkeypatch.setattr(
        evaluate, "segment", lambda study, *rest: asked.append(subset_name(study.subset)) or segment(study, *rest)
    )
    return asked


@pytest.mark.usefixtures("only_case")
def test_an_interrupted_evaluation_goes_on_where_it_was(
    tmp_path: Path, package: ModelPackage, segmented: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path)
    path = settings.folder / "evaluation.rows.jsonl"

    def interrupted(study: Study, *arguments: object) -> Result:
        if subset_name(study.subset) == "FLAIR+T2":
            raise KeyboardInterrupt
        return segment(study, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "segment", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluate.evaluate(settings, package)
    with open(path, "a") as stream:
        stream.write('{"study": "case", "sub')  # the power failed
    rows = evaluate.evaluate(settings, package)
    assert segmented == ["FLAIR+T2"]
    assert [row["subset"] for row in rows] == ["T1ce", "FLAIR+T2"]
    assert [json.loads(line) for line in path.read_text().splitlines()[1:]] == rows
    assert evaluate.evaluate(settings, package) == rows
    assert segmented == ["FLAIR+T2"]


@pytest.mark.usefixtures("only_case")
def test_rows_of_other_weights_or_settings_are_measured_again(
    tmp_path: Path, package: ModelPackage, segmented: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = evaluate.evaluate(config(tmp_path), package)
    card = {**package.card, "thresholds": {"WT": 0.9, "TC": 0.9, "ET": 0.9}}
    segmented.clear()
    again = evaluate.evaluate(config(tmp_path), replace(package, sha256="other", card=card))
    assert segmented == ["T1ce", "FLAIR+T2"]
    assert "2 rows of another sha256, thresholds are removed" in capsys.readouterr().out
    assert again[1]["WT_found_ml"] < rows[1]["WT_found_ml"]
    assert len((tmp_path / "mine" / "evaluation.rows.jsonl").read_text().splitlines()) == 3


@pytest.mark.usefixtures("only_case")
def test_what_the_software_refuses_counts_as_nothing_found_and_is_told(
    tmp_path: Path, case: Case, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path)
    sitk.WriteImage(0 * sitk.ReadImage(str(case.images["T1ce"])), str(tmp_path / "black.nii.gz"))
    broken = Case("case", "patient", {**case.images, "T1ce": tmp_path / "black.nii.gz"}, case.labels)
    monkeypatch.setattr(evaluate, "studies_to_test", lambda config: [broken])
    refused, answered = evaluate.evaluate(settings, package)
    assert "black.nii.gz" in refused["refused"]
    assert answered["refused"] is None
    assert (refused["WT_dice"], refused["WT_found_ml"], refused["WT_hd95_brats"]) == (0, 0, 374)
    assert refused["WT_true_ml"] == answered["WT_true_ml"] > 0
    assert answered["WT_dice"] > 0.6
    rows = [{**row, "refused": refused["refused"]} if row["subset"] == "T1ce" else row for row in made_up_rows()]
    text = evaluate.write(settings, rows, used("abc"), COMMAND, {})
    assert "Refused by the software, and counted as empty masks: 4 of 60." in text
    assert f"s0 T1ce, s1 T1ce, s2 T1ce, s3 T1ce: {refused['refused']}" in text
    assert next(line for line in text.splitlines() if line.startswith("| T1ce |")).endswith("| 4 |")
    record = evaluate.read(settings.folder)["refused"]
    assert record[0] == {"study": "s0", "subset": "T1ce", "reason": refused["refused"]}
    assert len(record) == 4


@pytest.mark.usefixtures("only_case")
def test_too_little_memory_for_the_network_as_it_is_used_ends_the_evaluation(
    tmp_path: Path, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "SMALLEST", 16)
    monkeypatch.setattr(inference, "free_memory", lambda: 200_000_000)
    with pytest.raises(MemoryError, match=r"case: Only 0\.2 GB .* other numbers: free some memory"):
        evaluate.evaluate(config(tmp_path), package)


@pytest.mark.usefixtures("only_case")
def test_a_missing_device_is_no_studys_fault(tmp_path: Path, package: ModelPackage) -> None:
    settings = config(tmp_path).model_copy(update={"device": "abacus"})
    with pytest.raises(UnusableInput, match="abacus"):
        evaluate.evaluate(settings, package)


@pytest.mark.usefixtures("only_case")
def test_a_network_is_built_once_for_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    original = network.build
    monkeypatch.setattr(network, "build", lambda config: built.append(config) or original(config))
    evaluate.evaluate(config(tmp_path), load(default_folder()))
    assert len(built) == len(set(map(repr, built))) <= 2  # the tumour's, and the brain's if no test has built it yet


def test_all_studies_of_the_test_patients_are_measured_but_those_left_out(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    names = ["BraTS-GLI-00001-100", "BraTS-GLI-00001-101", "BraTS-GLI-00001-102", "BraTS-GLI-00002-100"]
    for name in names:
        (data / name).mkdir(parents=True)
        for end in ("t2f", "t1n", "t1c", "t2w", "seg"):
            (data / name / f"{name}-{end}.nii.gz").touch()
    values = {"source": data, "cache": cache, "layout": "brats2024", "held_out": ["BraTS-GLI-00001"]}
    settings = Config(name="mine", data=values)
    cache.mkdir()
    splits.write(splits.make(["BraTS-GLI-00001", "BraTS-GLI-00002"], settings), settings)
    assert [case.name for case in evaluate.studies_to_test(settings)] == names[:3]
    (cache / "fingerprint.json").write_text(json.dumps({"left_out": {names[1]: ["its T1 is damaged"]}}))
    assert [case.name for case in evaluate.studies_to_test(settings)] == [names[0], names[2]]


@pytest.mark.usefixtures("only_case")
def test_the_figure_shows_truth_and_runs(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Panels] = []
    truth, _ = evaluate.true_masks(case, "brats2023")
    # the run "right" finds the truth, the run "blind" nothing
    answers = {"right": truth, "blind": {region: np.zeros_like(mask) for region, mask in truth.items()}}
    monkeypatch.setattr(illustrate, "answer", lambda case, subset, name, *rest: evaluate.Answer(answers[name]))
    monkeypatch.setattr(illustrate, "slices", lambda panels, *rest: (drawn.extend(panels), slices(panels, *rest)))
    rows = [row | {"study": "case"} for row in made_up_rows(studies=1)]
    illustrate.illustrate(config(tmp_path), {name: name for name in answers}, rows, tmp_path / "figure.png")
    assert [panels.subset for panels in drawn] == ["T1ce", "FLAIR+T2"]
    largest = truth["WT"].sum(axis=(1, 2)).max()
    for panels in drawn:
        assert list(panels.columns) == ["truth", "right", "blind"]
        assert panels.columns["truth"]["WT"].sum() == panels.columns["right"]["WT"].sum() == largest
        assert panels.dice == {"right": dict.fromkeys(REGIONS, 1.0), "blind": dict.fromkeys(REGIONS, 0.0)}
        assert 0 <= panels.image.min() < panels.image.max() <= 1
    assert (tmp_path / "figure.png").exists()


def test_the_median_study_is_shown() -> None:
    assert illustrate.typical(made_up_rows(studies=5)) == "s2"


def test_the_record_has_what_the_export_reads_and_is_plain_json(tmp_path: Path) -> None:
    settings, rows = config(tmp_path), made_up_rows()
    curves = {"WT": {"error": 0.1, "voxels": [3.0], "said": [0.5], "true": [0.6]}}
    evaluate.write(settings, rows, used("abc"), COMMAND, curves)
    record = json.loads((settings.folder / "evaluation.json").read_text(), parse_constant=pytest.fail)
    assert record["reliability"] == curves
    assert (record["sha256"], record["command"], record["measured_on"]) == ("abc", COMMAND, ["s0", "s1", "s2", "s3"])
    assert record["rows"] == rows
    assert record == evaluate.read(settings.folder)
    with open(settings.folder / "evaluation.csv") as stream:
        lines = list(csv.DictReader(stream))
    assert [float(line["WT_dice"]) for line in lines] == [row["WT_dice"] for row in rows]
    assert lines[0]["ET_hd95_excluded"] == ""


def test_the_table_is_the_mean_over_studies_by_subset() -> None:
    means = table(made_up_rows())
    assert list(means) == [subset_name(subset) for subset in SUBSETS]
    assert means["FLAIR"] == {"WT": 0.25, "TC": 0.25, "ET": 0.25}
    assert means["FLAIR+T1+T1ce+T2"]["ET"] == 0.55


def test_the_document_has_intervals_and_the_published_numbers_of_the_same_data() -> None:
    text = document("mine", made_up_rows(), benchmark("brats2024"))
    row = next(line for line in text.splitlines() if line.startswith("| T1ce |"))
    # two patients, their means 0.15 and 0.35
    assert row == "| T1ce |" + " 0.250 [0.150, 0.350] |" * 3 + " 0.729 | 0.683 | 0.686 | 0 |"
    assert "**0.818** | **0.595** | **0.598**" in text
    assert "| SMUNet (published) | 0.797 |" in text
    assert "15 of 60 left out" in text
    assert "With 2 patients an interval is hardly more than their range." in text
    assert "| FLAIR+T1+T1ce+T2 |" in document("mine", made_up_rows(), benchmark("archive"))


def test_a_comparison_says_by_how_much_and_how_surely() -> None:
    text, values = comparison_tables("one", "two", made_up_rows(), made_up_rows(shift=0.125))
    assert text.startswith("# two minus one")
    change = values["overall"]["dice"]["WT"]
    assert change.second - change.first == pytest.approx(0.125)
    assert (change.difference.low, change.difference.high) == pytest.approx((0.125, 0.125))
    assert change.p_value == 0.5  # two patients cannot say more
    assert values["overall"]["hd95_excluded"]["ET"].difference.patients == 2
    line = next(line for line in text.splitlines() if line.startswith("| T1 | WT |"))
    assert line == "| T1 | WT | 0.250 | 0.375 | +0.125 [+0.125, +0.125] | 0.5 | 1 |"
    assert "p Holm: that,\ncorrected for the 3 regions of a metric, by subset for all 45 rows" in text
    assert "Refused, and counted as empty masks: 0 of one, 0 of two." in text


@pytest.mark.parametrize("fold", [None, 1])
def test_a_comparison_is_written_with_its_figure(
    fold: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other = (config(tmp_path, name).model_copy(update={"fold": fold}) for name in ("mine", "other"))
    for one, shift in ((other, 0.0), (mine, 0.1)):
        one.folder.mkdir(parents=True, exist_ok=True)
        evaluate.write(one, made_up_rows(shift), used(f"hash of {one.name}"), COMMAND, {})
    hashes = {one.folder / "package": used(f"hash of {one.name}") for one in (mine, other)}
    monkeypatch.setattr(comparison.packages, "load", hashes.get)
    drawn: list[str] = []
    monkeypatch.setattr(comparison, "illustrate", lambda config, packages, rows, path: drawn.extend(packages))
    text = comparison.compare_runs(mine, "other")
    record = json.loads((mine.folder / "comparison.json").read_text(), parse_constant=pytest.fail)
    assert (mine.folder / "comparison.md").read_text() == text
    assert (record["first"], record["second"], drawn) == ("other", "mine", ["other", "mine"])
    assert math.isclose(record["overall"]["dice"]["TC"]["difference"]["mean"], 0.1)
    monkeypatch.setattr(comparison.packages, "load", lambda folder: used("another"))
    with pytest.raises(ValueError, match="'other' has been exported again"):
        comparison.compare_runs(mine, "other")


def test_a_run_that_was_not_evaluated_is_not_compared(tmp_path: Path) -> None:
    evaluate.write(config(tmp_path), made_up_rows(), used("abc"), COMMAND, {})
    with pytest.raises(FileNotFoundError, match="'other' has not been evaluated"):
        comparison.compare_runs(config(tmp_path), "other")
    with pytest.raises(ValueError, match="the run itself"):
        comparison.compare_runs(config(tmp_path), "mine")


def test_an_evaluation_with_other_metrics_is_not_compared(tmp_path: Path) -> None:
    settings = config(tmp_path)
    evaluate.write(settings, made_up_rows(), used("abc"), COMMAND, {})
    path = settings.folder / "evaluation.json"
    record = json.loads(path.read_text())
    del record["format"]  # as the first version wrote it
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=rf"of format None, expected {FORMAT}: .* run .* again"):
        evaluate.read(settings.folder)


def test_pictures_show_the_values_and_the_regions(tmp_path: Path) -> None:
    heat_map(table(made_up_rows()), "Dice", tmp_path / "heatmap.png")
    low, high = np.array([68, 1, 84]) / 255, np.array([253, 231, 37]) / 255  # the ends of viridis: Dice 0 and 1
    heat_map({"FLAIR": {"WT": 0.0, "TC": 0.0, "ET": 1.0}}, "ends", tmp_path / "ends.png")
    assert has_colour(tmp_path / "ends.png", low)
    assert has_colour(tmp_path / "ends.png", high)
    assert not has_colour(tmp_path / "heatmap.png", high)
    mask = np.zeros((20, 20), dtype=bool)
    mask[5:15, 5:15] = True
    white, nothing = np.ones((20, 20)), {region: np.zeros_like(mask) for region in REGIONS}
    panels = Panels("FLAIR", white, {"truth": nothing, "run": {**nothing, "WT": mask}}, {"run": {"WT": 0.5}})
    slices([panels], "slices", tmp_path / "figure.png")
    tint = 0.35 + 0.65 * np.array(APPEARANCES["WT"].rgb)
    assert has_colour(tmp_path / "figure.png", tint)


def has_colour(path: Path, colour: np.ndarray) -> bool:
    """Whether a patch of it, more than the edge of a letter, is in the picture."""
    pixels = matplotlib.image.imread(path)[..., :3]
    return int((np.abs(pixels - colour).max(axis=-1) < 0.01).sum()) > 100
