"""The MST-KDNet family: the published counts and shapes, and the arithmetic of its pieces against NumPy."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from MSTKDSegmenterLib.engine.network import (
    COMPACT,
    PAPER,
    MSTKDNet,
    NetworkConfig,
    ResidualBlock,
    Taps,
    build,
    count_parameters,
)
from MSTKDSegmenterLib.engine.transformer import SelfAttention, TokenEncoder, TransformerConfig

BRANCH = TransformerConfig(decoder="token", patch=1, width=16, depth=4, heads=2, mlp=16, grid=(2, 3, 2))
TINY = NetworkConfig(width=8, blocks=(1, 1, 1, 1), transformer=BRANCH, availability=True)


def on_meta(config: NetworkConfig) -> MSTKDNet:
    """A network of shapes without numbers: the paper's would take 0.6 GB."""
    with torch.device("meta"):
        return build(config).eval()


@pytest.fixture(scope="module")
def tiny() -> MSTKDNet:
    torch.manual_seed(0)
    return build(TINY).eval()


def test_the_paper_size_has_exactly_the_published_number_of_parameters() -> None:
    network = on_meta(PAPER)
    assert count_parameters(network) == 154_335_684
    assert count_parameters(network) - count_parameters(network.transformer) == 4_778_212


def test_the_compact_size_has_at_most_six_million_parameters() -> None:
    assert count_parameters(on_meta(COMPACT)) <= 6_000_000


@pytest.mark.parametrize("shape", [(128, 192, 160), (64, 96, 32)])
def test_the_paper_size_takes_any_sides_that_are_multiples_of_32(shape: tuple[int, int, int]) -> None:
    network = on_meta(PAPER)
    assert network.multiple == 32
    logits = network(torch.zeros(1, 4, *shape, device="meta"))
    assert logits.shape == (1, 4, *shape)


def test_the_paper_size_shows_distillation_the_features_of_the_official_network() -> None:
    taps = Taps()
    on_meta(PAPER)(torch.zeros(1, 4, 128, 192, 160, device="meta"), taps=taps)
    assert taps.style.shape == taps.content.shape == (1, 128, 16, 24, 20)
    assert [stage.shape for stage in taps.stages] == [(1, 128, 16, 24, 20)] * 3
    assert [feature.shape[1:] for feature in taps.transformer.features] == [
        (64, 16, 24, 20),
        (128, 32, 48, 40),
        (256, 16, 24, 20),
        (512, 8, 12, 10),
    ]
    assert [attention.shape for attention in taps.transformer.attention] == [(1, 12, 120, 120)] * 4


def test_the_compact_size_shows_tokens_and_attention_of_every_layer(tiny: MSTKDNet) -> None:
    taps = Taps()
    with torch.no_grad():
        tiny(torch.randn(2, 4, 16, 24, 16), torch.ones(2, 4), taps)
    assert [feature.shape for feature in taps.transformer.features] == [(2, 16, 2, 3, 2)] * 4
    assert [attention.shape for attention in taps.transformer.attention] == [(2, 2, 12, 12)] * 4
    for attention in taps.transformer.attention:
        np.testing.assert_allclose(attention.sum(-1).numpy(), 1, atol=1e-5)


def test_looking_at_the_features_does_not_change_the_result(tiny: MSTKDNet) -> None:
    x, present = torch.randn(1, 4, 16, 24, 16), torch.ones(1, 4)
    with torch.no_grad():
        np.testing.assert_allclose(tiny(x, present, Taps()), tiny(x, present), atol=1e-5)


def test_evaluation_is_deterministic_and_training_drops_out(tiny: MSTKDNet) -> None:
    x, present = torch.randn(1, 4, 16, 16, 16), torch.ones(1, 4)
    with torch.no_grad():
        assert torch.equal(tiny(x, present), tiny(x, present))
        tiny.train()
        assert not torch.equal(tiny(x, present), tiny(x, present))
    tiny.eval()


def test_an_absent_sequence_is_told_apart_from_one_that_is_zero(tiny: MSTKDNet) -> None:
    x = torch.zeros(1, 4, 16, 16, 16)
    with torch.no_grad():
        assert not torch.allclose(tiny(x, torch.ones(1, 4)), tiny(x, torch.tensor([[1.0, 0, 1, 1]])))
    with pytest.raises(ValueError, match="needs `present`"):
        tiny(x)


@pytest.mark.parametrize("shape", [(1, 4, 16, 16, 20), (1, 3, 16, 16, 16), (4, 16, 16, 16)])
def test_wrong_shapes_are_refused_with_the_right_one(tiny: MSTKDNet, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected \(batch, 4, z, y, x\) .* multiples of 8; pad"):
        tiny(torch.zeros(shape), torch.ones(1, 4))


def test_a_unetr_with_other_patches_is_refused() -> None:
    with pytest.raises(ValueError, match="patches of 4, not 2"):
        on_meta(replace(PAPER, transformer=replace(PAPER.transformer, patch=2)))


@pytest.mark.parametrize("config", [PAPER, COMPACT, TINY, NetworkConfig(sequences=1, classes=1)])
def test_a_configuration_survives_json(config: NetworkConfig) -> None:
    assert NetworkConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_an_unknown_argument_in_a_configuration_is_refused() -> None:
    with pytest.raises(TypeError, match="layers"):
        NetworkConfig.from_dict({**TINY.to_dict(), "layers": 3})


def test_the_position_embedding_stretches_to_the_token_grid() -> None:
    """With everything else silenced the tokens are the embedding: a ramp, which np.interp stretches as well."""
    encoder = TokenEncoder(4, replace(BRANCH, grid=(2, 4, 2))).eval()
    with torch.no_grad():
        for layer in encoder.layers:
            for linear in (layer.attention.out, layer.mlp[3]):
                linear.weight.zero_()
                linear.bias.zero_()
        encoder.embed.weight.zero_()
        encoder.embed.bias.zero_()
        ramp = np.array([0.0, 1.0, 4.0, 9.0])
        encoder.position.copy_(torch.from_numpy(ramp).view(1, 1, 4, 1).expand_as(encoder.position))
        tokens = encoder(torch.zeros(1, 4, 3, 10, 5), None)[-1]
    centres = (np.arange(10) + 0.5) * 4 / 10 - 0.5  # of the ten tokens, counted in tokens of the stored grid
    expected = np.interp(centres, np.arange(4), ramp)
    assert tokens.shape == (1, 16, 3, 10, 5)
    np.testing.assert_allclose(tokens.numpy(), np.broadcast_to(expected[:, None], tokens.shape), atol=1e-5)


def test_attention_agrees_with_its_formula() -> None:
    torch.manual_seed(1)
    attention = SelfAttention(width=6, heads=2, dropout=0.5).eval()
    tokens = torch.randn(1, 5, 6)
    x = tokens.numpy()[0]

    def project(linear: torch.nn.Linear, values: np.ndarray) -> np.ndarray:
        return values @ linear.weight.detach().numpy().T + linear.bias.detach().numpy()

    query, key, value = (project(linear, x) for linear in (attention.query, attention.key, attention.value))
    heads = []
    for head in (slice(0, 3), slice(3, 6)):
        scores = np.exp(query[:, head] @ key[:, head].T / np.sqrt(3))
        heads.append(scores / scores.sum(axis=1, keepdims=True) @ value[:, head])
    expected = project(attention.out, np.concatenate(heads, axis=1))
    with torch.no_grad():
        np.testing.assert_allclose(attention(tokens, None)[0], expected, atol=1e-5)
        np.testing.assert_allclose(attention(tokens, [])[0], expected, atol=1e-5)


def test_exclusive_classes_share_one_and_independent_ones_make_a_region_as_probable_as_its_likeliest_class() -> None:
    logits = torch.tensor([-1.0, 2.0, -3.0, 5.0]).view(1, 4, 1, 1, 1)
    exclusive, independent = (
        build(NetworkConfig(width=8, blocks=(1, 1, 1, 1), independent=independent)).probabilities(logits).flatten()
        for independent in (False, True)
    )
    e = np.exp([-1.0, 2.0, -3.0, 5.0])
    np.testing.assert_allclose(exclusive, e / e.sum(), rtol=1e-5)
    ncr, ed, et = 1 / (1 + np.exp([1.0, -2.0, 3.0]))
    assert independent.sum().item() == pytest.approx(1)
    assert independent[:3].sum().item() == pytest.approx(ed)  # WT
    assert (independent[0] + independent[2]).item() == pytest.approx(ncr)  # TC
    assert independent[2].item() == pytest.approx(et, rel=1e-5)


def test_a_residual_block_agrees_with_its_formula() -> None:
    torch.manual_seed(2)
    block = ResidualBlock(16).eval()
    with torch.no_grad():
        for norm in (block.norm1, block.norm2):
            norm.weight.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    x = np.random.default_rng(0).normal(size=(16, 4, 5, 3))

    def norm_relu(module: torch.nn.GroupNorm, values: np.ndarray) -> np.ndarray:
        groups = values.reshape(8, -1)  # eight groups of two channels
        normed = (groups - groups.mean(1, keepdims=True)) / np.sqrt(groups.var(1, keepdims=True) + 1e-5)
        weight, bias = (p.detach().numpy()[:, None, None, None] for p in (module.weight, module.bias))
        return np.maximum(normed.reshape(values.shape) * weight + bias, 0)

    def convolve(module: torch.nn.Conv3d, values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, [(0, 0), (1, 1), (1, 1), (1, 1)])
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3, 3), axis=(1, 2, 3))
        bias = module.bias.detach().numpy()[:, None, None, None]
        return np.einsum("czyxijk,ocijk->ozyx", windows, module.weight.detach().numpy()) + bias

    expected = x + convolve(block.conv2, norm_relu(block.norm2, convolve(block.conv1, norm_relu(block.norm1, x))))
    with torch.no_grad():
        found = block(torch.from_numpy(x).float()[None])[0]
    np.testing.assert_allclose(found, expected, atol=1e-4)
