"""Prediction: the network's own answer, in one piece or in tiles, on what memory there is, stopped when asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from MSTKDSegmenterLib.engine import inference, package, tiles
from MSTKDSegmenterLib.engine.device import Device
from MSTKDSegmenterLib.engine.errors import Cancelled
from MSTKDSegmenterLib.engine.inference import predict
from MSTKDSegmenterLib.engine.network import MSTKDNet, NetworkConfig, build
from MSTKDSegmenterLib.engine.progress import Event, Job
from MSTKDSegmenterLib.engine.transformer import TransformerConfig

BRANCH = TransformerConfig(decoder="token", patch=1, width=16, depth=4, heads=2, mlp=16, grid=(2, 3, 2))
TINY = NetworkConfig(width=8, blocks=(1, 1, 1, 1), transformer=BRANCH, availability=True)
CPU = Device("cpu", "CPU: asked for")
# torch takes "cpu:0" for the CPU, predict takes it for an accelerator because that is not the CPU's name
ACCELERATOR = Device("cpu:0", "an accelerator")
ALL = (True, True, True, True)


class Limited(MSTKDNet):
    """A network that fails for more than `limit` voxels at once, and on an accelerator for more than `limit_there`."""

    limit = limit_there = 10**9
    error: Exception = RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB")

    def to(self, *arguments: object) -> MSTKDNet:
        self.limit = self.limit_there
        return super().to(*arguments)

    def forward(self, x: torch.Tensor, *arguments: torch.Tensor) -> torch.Tensor:
        if x[0, 0].numel() > self.limit:
            raise self.error
        return super().forward(x, *arguments)


@pytest.fixture(scope="module")
def network() -> MSTKDNet:
    torch.manual_seed(0)
    return build(TINY).eval()


@pytest.fixture
def limited(network: MSTKDNet) -> Limited:
    result = Limited(TINY).eval()
    result.load_state_dict(network.state_dict())
    return result


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "SMALLEST", 16)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)


def logits(network: MSTKDNet, channels: np.ndarray, present: tuple[bool, ...] = ALL) -> np.ndarray:
    """The network applied by hand."""
    with torch.no_grad():
        return network(torch.from_numpy(channels.copy())[None], torch.tensor([present]).float())[0].numpy()


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits.astype(float))
    return powers / powers.sum(axis=0)


def answer(network: MSTKDNet, channels: np.ndarray, present: tuple[bool, ...] = ALL) -> np.ndarray:
    return softmax(logits(network, channels, present))


def test_a_volume_goes_through_the_network_whole(network: MSTKDNet) -> None:
    channels = noise(16, 24, 16)
    prediction = predict(network, channels, ALL, CPU, Job())
    assert prediction.probabilities.dtype == np.float32
    assert (prediction.tile, prediction.device, prediction.findings) == ((16, 24, 16), CPU, [])
    np.testing.assert_allclose(prediction.probabilities, answer(network, channels), atol=1e-5)


def test_a_volume_of_any_size_is_padded_and_cut_back(network: MSTKDNet) -> None:
    channels = noise(13, 24, 9)
    prediction = predict(network, channels, ALL, CPU, Job())
    expected = answer(network, np.pad(channels, [(0, 0), (0, 3), (0, 0), (0, 7)]))[:, :13, :, :9]
    assert prediction.probabilities.shape == (4, 13, 24, 9)
    np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-5)


def test_air_around_the_brain_changes_nothing_and_is_background(network: MSTKDNet) -> None:
    channels = noise(13, 24, 9)
    around = np.pad(channels, [(0, 0), (3, 8), (0, 5), (7, 0)])
    found, alone = (predict(network, image, ALL, CPU, Job(), mirror=True) for image in (around, channels))
    inside = (slice(None), slice(3, 16), slice(0, 24), slice(7, 16))
    np.testing.assert_array_equal(found.logits[inside], alone.logits)
    background = found.probabilities[3].copy()
    background[inside[1:]] = 1
    np.testing.assert_allclose(background, 1, atol=1e-6)
    assert found.tile == alone.tile == found.box == alone.box == (16, 24, 16)
    tiled = predict(network, around, ALL, CPU, Job(), tile=(16, 16, 16))
    assert (tiled.box, tiled.tile) == ((16, 24, 16), (16, 16, 16))
    np.testing.assert_array_equal(
        tiled.logits[inside], predict(network, channels, ALL, CPU, Job(), (16, 16, 16)).logits
    )


def test_the_box_holds_what_any_sequence_shows(network: MSTKDNet) -> None:
    channels = noise(16, 24, 16)
    channels[:2, :8], channels[2:, 8:] = 0, 0
    around = np.pad(channels, [(0, 0), (8, 8), (0, 0), (0, 0)])
    found = predict(network, around, ALL, CPU, Job())
    assert found.box == (16, 24, 16)
    np.testing.assert_allclose(found.logits[:, 8:24], logits(network, channels), atol=1e-4)


def test_an_image_of_air_alone_is_background(network: MSTKDNet) -> None:
    found = predict(network, np.zeros((4, 16, 24, 9), dtype=np.float32), (False,) * 4, CPU, Job())
    assert found.probabilities.shape == (4, 16, 24, 9)
    assert (found.probabilities[3] > 0.99).mean() > 0.99  # the network is asked about one voxel of it


def test_the_network_is_told_which_sequences_are_absent(network: MSTKDNet) -> None:
    channels, present = noise(16, 16, 16), (True, False, False, True)
    channels[1:3] = 0
    prediction = predict(network, channels, present, CPU, Job())
    np.testing.assert_allclose(prediction.probabilities, answer(network, channels, present), atol=1e-5)


def test_tiles_are_averaged_as_monai_does(network: MSTKDNet) -> None:
    inferers = pytest.importorskip("monai.inferers", reason="the comparison needs MONAI: pip install .[training]")
    channels = noise(40, 24, 32)
    given = torch.ones(1, 4)
    inferer = inferers.SlidingWindowInferer((16, 24, 16), overlap=0.5, mode="gaussian", sigma_scale=0.125)
    with torch.no_grad():
        expected = inferer(torch.from_numpy(channels)[None], lambda x: network(x, given))[0]
    prediction = predict(network, channels, ALL, CPU, Job(), tile=(16, 24, 16))
    assert prediction.tile == (16, 24, 16)
    np.testing.assert_allclose(prediction.logits, expected, atol=1e-4)
    np.testing.assert_allclose(prediction.probabilities, expected.softmax(dim=0), atol=1e-5)


def test_tiles_give_probabilities_that_sum_to_one(network: MSTKDNet) -> None:
    probabilities = predict(network, noise(21, 30, 16), ALL, CPU, Job(), tile=(16, 16, 16)).probabilities
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)


def test_a_tile_that_is_larger_than_the_volume_is_the_whole_volume(network: MSTKDNet) -> None:
    prediction = predict(network, noise(16, 16, 12), ALL, CPU, Job(), tile=(100, 100, 100))
    assert prediction.tile == (16, 16, 16)


@pytest.mark.parametrize(("shape", "tile"), [((40, 24, 32), (16, 24, 16)), ((17, 5, 9), (8, 5, 3))])
def test_tiles_cover_every_voxel_and_stay_inside(shape: tiles.Tile, tile: tiles.Tile) -> None:
    covered = np.zeros(shape, dtype=int)
    for place in tiles.places(shape, tile):
        assert covered[place].shape == tile
        covered[place] += 1
    assert covered.min() >= 1


def test_a_tile_counts_most_in_its_middle() -> None:
    weight = tiles.weights((9, 16, 8))
    assert weight[4, 7, 3] == weight.max()
    # along one axis: exp(-d^2 / (2 sigma^2)) with sigma = 16 / 8, 2.5 voxels from the middle against 0.5
    np.testing.assert_allclose(weight[4, 5, 3] / weight[4, 7, 3], np.exp(-(2.5**2 - 0.5**2) / 8), rtol=1e-5)
    assert weight[0, 0, 0] == np.float32(1e-3)


def test_tiles_get_smaller_along_their_longest_side_down_to_64_voxels() -> None:
    ladder = [(160, 192, 144)]
    while (step := tiles.smaller(ladder[-1], 32)) is not None:
        ladder.append(step)
    assert ladder[1:] == [(160, 96, 144), (96, 96, 144), (96, 96, 96), (64, 96, 96), (64, 64, 96), (64, 64, 64)]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
    ids=str,
)
def test_too_little_memory_makes_tiles_smaller_and_is_said(
    network: MSTKDNet, limited: Limited, small_tiles: None, error: Exception
) -> None:
    channels = noise(32, 24, 16)
    limited.limit, limited.error = 16 * 24 * 16, error
    prediction = predict(limited, channels, ALL, CPU, Job())
    assert prediction.tile == (16, 24, 16)
    assert prediction.findings == ["cpu: too little memory for tiles of 32 x 24 x 16 voxels, took 16 x 24 x 16."]
    expected = predict(network, channels, ALL, CPU, Job(), tile=(16, 24, 16)).probabilities
    np.testing.assert_array_equal(prediction.probabilities, expected)


def test_an_accelerator_with_too_little_memory_gets_smaller_tiles(limited: Limited, small_tiles: None) -> None:
    limited.limit_there = 16 * 16 * 16
    prediction = predict(limited, noise(16, 24, 16), ALL, ACCELERATOR, Job())
    assert (prediction.device, prediction.tile) == (ACCELERATOR, (16, 16, 16))
    assert len(prediction.findings) == 1


def test_the_cpu_takes_over_whole_when_nothing_fits_on_the_accelerator(
    network: MSTKDNet, limited: Limited, small_tiles: None
) -> None:
    channels = noise(16, 24, 16)
    limited.limit_there = 100
    prediction = predict(limited, channels, ALL, ACCELERATOR, Job())
    assert (prediction.device.name, prediction.tile) == ("cpu", (16, 24, 16))
    assert prediction.device.reason == "CPU: cpu:0 failed (out of memory)"
    assert prediction.findings == [
        "cpu:0: too little memory for tiles of 16 x 24 x 16 voxels, took 16 x 16 x 16.",
        "cpu:0: failed (out of memory), the CPU took over.",
    ]
    np.testing.assert_array_equal(prediction.probabilities, predict(network, channels, ALL, CPU, Job()).probabilities)


def test_an_accelerator_that_breaks_is_replaced_and_named(limited: Limited) -> None:
    limited.limit_there, limited.error = 0, RuntimeError("driver shut down\nwith a long trace")
    prediction = predict(limited, noise(16, 16, 16), ALL, ACCELERATOR, Job())
    assert prediction.device.name == "cpu"
    assert prediction.findings == ["cpu:0: failed (driver shut down), the CPU took over."]


def test_a_defect_on_the_cpu_is_not_taken_for_too_little_memory(limited: Limited) -> None:
    limited.limit, limited.error = 0, RuntimeError("shapes do not match")
    with pytest.raises(RuntimeError, match="shapes do not match"):
        predict(limited, noise(16, 16, 16), ALL, CPU, Job())


def test_memory_that_is_too_little_for_any_tile_is_said_with_the_amount(limited: Limited, small_tiles: None) -> None:
    limited.limit = 100
    with pytest.raises(MemoryError, match=r"tiles of 16 x 16 x 16 voxels, which take about .* GB\. Close other"):
        predict(limited, noise(32, 16, 16), ALL, CPU, Job())


def test_the_cpu_is_not_asked_for_more_memory_than_is_free(
    network: MSTKDNet, small_tiles: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_small_tile = 16 * 16 * 16 * 8 * inference.BYTES_PER_VOXEL_AND_WIDTH
    monkeypatch.setattr(inference, "free_memory", lambda: int(1.5 * one_small_tile))
    prediction = predict(network, noise(32, 16, 16), ALL, CPU, Job())
    assert prediction.tile == (16, 16, 16)
    assert prediction.findings == ["Only 0.0 GB of memory are free: took tiles of 16 x 16 x 16 voxels."]
    monkeypatch.setattr(inference, "free_memory", lambda: None)  # macOS, Windows
    assert predict(network, noise(32, 16, 16), ALL, CPU, Job()).tile == (32, 16, 16)


@pytest.mark.parametrize("device", [CPU, ACCELERATOR], ids=lambda device: device.name)
@pytest.mark.parametrize("layers_before", [1, 20, 45])
def test_a_cancelled_job_stops_after_the_layer_that_runs(
    network: MSTKDNet, monkeypatch: pytest.MonkeyPatch, device: Device, layers_before: int
) -> None:
    run = []
    convolve = torch.nn.Conv3d.forward

    def counted(self: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        run.append(x.shape)
        return convolve(self, x)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", counted)
    asked = itertools.count(1)
    with pytest.raises(Cancelled):
        predict(network, noise(16, 16, 16), ALL, device, Job(cancelled=lambda: next(asked) > layers_before))
    assert len(run) <= layers_before + 1
    stopped = len(run)
    predict(network, noise(16, 16, 16), ALL, device, Job())  # nothing is left behind that would stop this one
    assert stopped < len(run) - stopped


def test_progress_runs_from_layer_to_layer_and_ends_at_one(network: MSTKDNet) -> None:
    events: list[Event] = []
    predict(network, noise(16, 16, 16), ALL, CPU, Job(events.append))
    fractions = [event.fraction for event in events]
    assert fractions == sorted(fractions) and fractions[-1] == 1.0
    assert len(fractions) > 20 and max(np.diff(fractions)) < 0.1
    events.clear()
    predict(network, noise(16, 32, 16), ALL, CPU, Job(events.append), tile=(16, 16, 16))
    assert {event.message for event in events} == {"part 1 of 3", "part 2 of 3", "part 3 of 3"}
    events.clear()
    predict(network, noise(16, 16, 16), ALL, CPU, Job(events.append), mirror=True)  # two looks at one part
    assert ({event.message for event in events}, events[-1].fraction) == ({""}, 1.0)


@pytest.mark.parametrize("device", [CPU, ACCELERATOR], ids=lambda device: device.name)
def test_the_same_input_gives_the_same_result_and_leaves_everything_as_it_was(
    network: MSTKDNet, device: Device
) -> None:
    channels = noise(24, 16, 16)
    before = channels.copy()
    flags = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32)
    state = torch.get_rng_state()
    first, second = (predict(network, channels, ALL, device, Job(), tile=(16, 16, 16)) for _ in range(2))
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    np.testing.assert_array_equal(channels, before)
    assert torch.equal(torch.get_rng_state(), state)
    cudnn = torch.backends.cudnn
    assert (cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32) == flags
    assert not any(module._forward_hooks for module in network.modules())
    assert not torch.is_inference_mode_enabled()


def test_mirroring_averages_with_the_mirrored_image(network: MSTKDNet) -> None:
    channels = noise(16, 16, 24)
    mirrored = channels[..., ::-1]
    expected = softmax((logits(network, channels) + logits(network, mirrored)[..., ::-1]) / 2)
    found = predict(network, channels, ALL, CPU, Job(), mirror=True).probabilities
    np.testing.assert_allclose(found, expected, atol=1e-5)
    of_mirrored = predict(network, mirrored, ALL, CPU, Job(), mirror=True).probabilities
    np.testing.assert_allclose(of_mirrored[..., ::-1], found, atol=1e-5)


def test_a_temperature_divides_the_logits(network: MSTKDNet) -> None:
    channels = noise(16, 16, 16)
    found = predict(network, channels, ALL, CPU, Job(), temperature=2.5).probabilities
    np.testing.assert_allclose(found, softmax(logits(network, channels) / 2.5), atol=1e-5)


def test_a_result_that_is_not_finite_is_never_returned(network: MSTKDNet) -> None:
    broken = build(TINY).eval()
    with torch.no_grad():
        broken.head.bias.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="not finite on cpu"):
        predict(broken, noise(16, 16, 16), ALL, CPU, Job())


def test_contradicting_arguments_are_refused(network: MSTKDNet) -> None:
    channels = noise(16, 16, 16)
    with pytest.raises(ValueError, match=r"shape \(3, 16, 16, 16\) .* expected \(4, z, y, x\)"):
        predict(network, channels[:3], ALL, CPU, Job())
    with pytest.raises(ValueError, match="3 values in `present`"):
        predict(network, channels, (True, True, True), CPU, Job())
    with pytest.raises(ValueError, match="channel 2 is marked absent and is not zero"):
        predict(network, channels, (True, True, False, True), CPU, Job())
    channels[0, 3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        predict(network, channels, ALL, CPU, Job())
    with pytest.raises(ValueError, match="training mode"):
        predict(build(TINY), noise(16, 16, 16), ALL, CPU, Job())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("present", [ALL, (True, False, False, True)])
def test_a_gpu_says_what_the_cpu_says(present: tuple[bool, ...]) -> None:
    shipped = package.load(package.default_folder()).network()
    channels = noise(40, 48, 40) * np.array(present, dtype=np.float32)[:, None, None, None]
    there, here, again = (
        predict(shipped, channels, present, Device(name, "asked for"), Job()) for name in ("cuda", "cpu", "cuda")
    )
    assert there.device.name == "cuda"
    assert not there.findings
    assert there.probabilities == pytest.approx(here.probabilities, abs=1e-3)
    assert np.array_equal(there.logits, again.logits)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_the_cpu_takes_over_from_a_gpu_that_has_too_little_memory(network: MSTKDNet) -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2**20 / total)
    try:
        result = predict(network, noise(64, 64, 64), ALL, Device("cuda", "asked for"), Job())
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert result.device.name == "cpu"
    assert "the CPU took over" in result.findings[-1]
