"""The picture shows the result that was written, where it lies in the patient."""

from __future__ import annotations

import json

import figure
import matplotlib.pyplot as plt
import numpy as np
import pytest
import SimpleITK as sitk
import surface
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.regions import regions_of
from MSTKDSegmenterLib.scene.segmentation import write_segmentation
from phantom import make_study

STUDY = make_study(seed=1, spacing=4.0)
GRID = Grid.of(STUDY.truth)
TRUTH = regions_of(sitk.GetArrayFromImage(STUDY.truth), "brats2023")
RED = (1.0, 0.0, 0.0)


@pytest.fixture(scope="module")
def scene() -> figure.Scene:
    regions = {name: GRID.image(mask) for name, mask in TRUTH.items()}
    images = {name: STUDY.images[name] for name in ("FLAIR", "T2")}
    return figure.make_scene(images, regions, regions, brain=STUDY.images["FLAIR"] > 0, spacing=4.0)


def ball(centre: tuple[float, float, float], radius: float) -> sitk.Image:
    """0.5 on a sphere; 20 voxels of 2 mm per side, from the origin."""
    index = np.indices((20, 20, 20))[::-1] * 2.0
    away = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(index, centre)))
    image = sitk.GetImageFromArray((0.5 + (radius - away) / 4).clip(0, 1).astype(np.float32))
    image.SetSpacing((2.0, 2.0, 2.0))
    return image


def test_segments_are_read_back_as_they_were_written(tmp_path) -> None:
    write_segmentation(tmp_path / "segmentation.seg.nrrd", TRUTH, GRID)
    segments = figure.read_segments(tmp_path / "segmentation.seg.nrrd")
    assert set(segments) == set(TRUTH)
    for name, image in segments.items():
        there = sitk.Resample(image, STUDY.truth, sitk.Transform(), sitk.sitkNearestNeighbor)
        assert np.array_equal(sitk.GetArrayFromImage(there).astype(bool), TRUTH[name])


def test_a_tilted_study_is_drawn_upright_with_the_same_tumour(scene) -> None:
    # the patient stays where it is, the grid is another: voxel axes permuted and flipped
    def other(image: sitk.Image) -> sitk.Image:
        return sitk.Flip(sitk.PermuteAxes(image, (2, 0, 1)), (True, False, True))

    regions = {name: other(GRID.image(mask)) for name, mask in TRUTH.items()}
    images = {name: other(STUDY.images[name]) for name in ("FLAIR", "T2")}
    again = figure.make_scene(images, regions, brain=other(STUDY.images["FLAIR"] > 0), spacing=4.0)
    assert again.grid.size == scene.grid.size
    assert np.allclose(again.regions["WT"], scene.regions["WT"], atol=1e-3)
    assert np.allclose(again.images["T2"], scene.images["T2"], rtol=1e-3, atol=0.5)


def test_a_sequence_that_lies_elsewhere_is_drawn_where_the_reference_shows_the_same() -> None:
    turn = sitk.Euler3DTransform((10.0, -20.0, 30.0), 0.1, -0.05, 0.3, (12.0, -7.0, 4.0))
    moved = sitk.Image(STUDY.images["T2"])  # the header alone says that the head lies elsewhere
    axes = np.array(turn.GetMatrix()).reshape(3, 3) @ np.array(moved.GetDirection()).reshape(3, 3)
    moved.SetOrigin(turn.TransformPoint(moved.GetOrigin()))
    moved.SetDirection(axes.ravel().tolist())
    regions = {name: GRID.image(mask) for name, mask in TRUTH.items()}
    shift = turn.TransformPoint((0.0, 0.0, 0.0))
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(turn.GetMatrix()).reshape(3, 3)
    matrix[:3, 3] = shift
    brain = STUDY.images["FLAIR"] > 0
    images = {"FLAIR": STUDY.images["FLAIR"], "T2": moved}
    drawn = figure.make_scene(images, regions, None, brain, 4.0, {"T2": figure.rigid(matrix.tolist())})
    expected = figure.make_scene({"T2": STUDY.images["T2"]}, regions, None, brain, 4.0).images["T2"]
    assert np.abs(drawn.images["T2"] - expected).max() < 0.02 * expected.max()


def test_a_surface_appears_where_the_mask_is_and_in_its_colour() -> None:
    picture = surface.render([surface.Surface(ball((20, 20, 20), 10), RED, 1.0, 1.0)], (0, -1, 0), 64, (0, 0, 0))
    red = picture[..., 0] > 40
    assert picture.shape == (64, 64, 3)
    assert red[32, 32] and not red[2, 2]
    assert (picture[red][:, 0] > picture[red][:, 1]).all()
    rows, columns = np.nonzero(red)
    assert (rows.mean(), columns.mean()) == pytest.approx((31.5, 31.5), abs=1.5)


def test_seen_from_the_front_the_patients_left_is_on_the_right_and_up_is_up() -> None:
    frame = surface.Surface(ball((20, 20, 20), 15), (1, 1, 1), 0.0, 0.0)
    lesion = surface.Surface(ball((28, 20, 26), 4), RED, 1.0, 1.0)
    picture = surface.render([frame, lesion], (0, -1, 0), 64, (0, 0, 0)).astype(int)
    rows, columns = np.nonzero(picture[..., 0] - picture[..., 1] > 40)
    assert columns.mean() > 32 > rows.mean()


def test_a_translucent_surface_lets_what_lies_behind_shine_through() -> None:
    glass = surface.Surface(ball((20, 20, 20), 15), (1, 1, 1), 0.1, 0.3)
    inside = surface.Surface(ball((20, 20, 20), 5), RED, 1.0, 1.0)
    picture = surface.render([glass, inside], (0, -1, 0), 64, (0, 0, 0)).astype(int)
    assert picture[32, 32, 0] - picture[32, 32, 1] > 60


def test_slices_go_through_the_tumour(scene) -> None:
    z, y, x = figure._middle(scene)
    core = scene.regions["TC"] > 0.5
    assert core[z].any() and core[:, y].any() and core[:, :, x].any()


def test_the_picture_is_written_with_the_colours_of_the_segments(scene, tmp_path) -> None:
    path = tmp_path / "figure.png"
    figure.draw(scene, path, "A title", {"WT": "12 ml"}, "A caption")
    pixels = plt.imread(path)[..., :3].reshape(-1, 3)
    assert len(pixels) > 500_000
    for name in ("WT", "ET"):
        assert (np.abs(pixels - figure.COLOURS[name]).max(axis=1) < 0.02).sum() > 100, name


def test_an_empty_result_can_be_drawn(scene, tmp_path) -> None:
    nothing = {name: np.zeros_like(mask) for name, mask in scene.regions.items()}
    empty = figure.Scene(scene.grid, {"T2": scene.images["T2"]}, scene.brain, nothing, {})
    figure.draw(empty, tmp_path / "empty.png", "Nothing found")
    assert (tmp_path / "empty.png").stat().st_size > 10_000


def test_without_opengl_the_missing_package_is_named_in_one_line(scene, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")  # the process that tries OpenGL dies
    with pytest.raises(surface.NoRenderingError, match=r"apt-get install \w+") as caught:
        figure.draw(scene, tmp_path / "figure.png", "A title")
    assert "\n" not in str(caught.value)


def test_the_command_line_draws_what_the_command_wrote(tmp_path, monkeypatch, capsys) -> None:
    paths = STUDY.write(tmp_path / "study")
    result = tmp_path / "result"
    result.mkdir()
    write_segmentation(result / "segmentation.seg.nrrd", TRUTH, GRID)
    report = {"subset": "T2", "inputs": {"T2": {"source": str(paths["T2"])}}, "volumes_ml": {"WT": 1.0}}
    report["harmonising"] = {"reference": "T2", "reference_to_sequence_lps": {"T2": np.eye(4).tolist()}}
    (result / "report.json").write_text(json.dumps(report))
    monkeypatch.setattr(figure, "find_brain", lambda image: type("Brain", (), {"mask": image > 0}))
    monkeypatch.setattr("sys.argv", ["figure.py", str(result), "-o", str(tmp_path / "figure.png")])
    assert figure.main() == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
