"""Transformer branches that sit at the 1/8 bottleneck of the network (see network.py).

Both turn a bottleneck feature (B, C, z, y, x) into tokens, run self-attention over them and give back a feature of
the input's shape. Both expose what distillation needs: a list of features (multi-scale transformer distillation) and
a list of attention maps (extreme-value distillation).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class TransformerConfig:
    """Arguments of a branch; `decoder` is "unetr" (the paper's pyramid of deconvolutions) or "token" (one step)."""

    decoder: str
    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    grid: tuple[
        int, int, int
    ]  # token grid (z, y, x) that the position embedding is defined on; other grids interpolate
    dropout: float = 0.1


@dataclass
class TransformerTaps:
    """What a branch shows to distillation losses: features and attention maps (B, heads, tokens, tokens)."""

    features: list[Tensor] = field(default_factory=list)
    attention: list[Tensor] = field(default_factory=list)


class SelfAttention(nn.Module):
    """Multi-head self-attention. The maps are only materialised when somebody asks for them."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def _split(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        return tokens.view(batch, count, self.heads, width // self.heads).transpose(1, 2)

    def forward(self, tokens: Tensor, maps: list[Tensor] | None) -> Tensor:
        query, key, value = (
            self._split(self.query(tokens)),
            self._split(self.key(tokens)),
            self._split(self.value(tokens)),
        )
        rate = self.dropout if self.training else 0.0
        if maps is None:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=rate)
        else:
            scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
            attention = scores.softmax(dim=-1)
            maps.append(attention)
            mixed = F.dropout(attention, rate) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


class TransformerLayer(nn.Module):
    """Pre-norm transformer layer with a ReLU MLP, as in the paper's code."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.attention = SelfAttention(config.width, config.heads, config.dropout)
        self.mlp_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(config.width, config.mlp), nn.ReLU(), nn.Dropout(config.dropout),
            nn.Linear(config.mlp, config.width), nn.Dropout(config.dropout),
        )  # fmt: skip

    def forward(self, tokens: Tensor, maps: list[Tensor] | None) -> Tensor:
        tokens = tokens + self.attention(self.attention_norm(tokens), maps)
        return tokens + self.mlp(self.mlp_norm(tokens))


class TokenEncoder(nn.Module):
    """Patch embedding, position embedding and layers; gives the tokens after four equally spaced layers as volumes."""

    def __init__(self, channels: int, config: TransformerConfig) -> None:
        super().__init__()
        self.embed = nn.Conv3d(channels, config.width, config.patch, stride=config.patch)
        self.position = nn.Parameter(torch.zeros(1, config.width, *config.grid))
        self.layers = nn.ModuleList(TransformerLayer(config) for _ in range(config.depth))
        self.tapped = [config.depth * k // 4 for k in (1, 2, 3, 4)]

    def forward(self, x: Tensor, taps: TransformerTaps | None) -> list[Tensor]:
        volume = self.embed(x)
        grid = volume.shape[2:]
        position = self.position
        if position.shape[2:] != grid:
            position = F.interpolate(position, size=grid, mode="trilinear", align_corners=False)
        tokens = (volume + position).flatten(2).transpose(1, 2)
        depths = []
        for number, layer in enumerate(self.layers, start=1):
            wanted = number in self.tapped
            tokens = layer(tokens, taps.attention if taps is not None and wanted else None)
            if wanted:
                depths.append(tokens.transpose(1, 2).unflatten(2, grid))
        return depths


class TokenBranch(nn.Module):
    """Compact branch: the last layer's tokens, normalised and projected back to the bottleneck in one step."""

    def __init__(self, channels: int, config: TransformerConfig) -> None:
        super().__init__()
        self.encoder = TokenEncoder(channels, config)
        self.norm = nn.GroupNorm(1, config.width)
        self.project = nn.ConvTranspose3d(config.width, channels, config.patch, stride=config.patch)

    def forward(self, x: Tensor, taps: TransformerTaps | None = None) -> Tensor:
        depths = self.encoder(x, taps)
        if taps is not None:
            taps.features.extend(depths)
        return self.project(self.norm(depths[-1]))


def _conv(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    # GroupNorm where the official code has BatchNorm: same parameters, but right with a batch of one (method defect 8).
    return nn.Sequential(
        nn.Conv3d(inside, outside, 3, stride=stride, padding=1), nn.GroupNorm(8, outside), nn.ReLU(inplace=True)
    )


def _up(inside: int, outside: int) -> nn.ConvTranspose3d:
    return nn.ConvTranspose3d(inside, outside, 2, stride=2)


def _up_conv(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(_up(inside, outside), *_conv(outside, outside))


class UnetrBranch(nn.Module):
    """The paper's UNETR: four decoder depths z3, z6, z9, z12, joined from the deepest to the input's resolution.

    For a bottleneck of side n and patch 4: z12 n/2, z9 n, z6 2n, z3 n (up to 2n and down again, as published).
    """

    def __init__(self, channels: int, config: TransformerConfig) -> None:
        super().__init__()
        if config.patch != 4:
            raise ValueError(f"the unetr decoder climbs from patches of 4, not {config.patch}; use decoder='token'")
        width = config.width
        self.encoder = TokenEncoder(channels, config)
        # Defined and never applied by the official network; kept so that the two have the same parameters.
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6).requires_grad_(False)
        self.decoder12 = _up(width, 512)
        self.decoder9 = _up_conv(width, 512)
        self.join9 = nn.Sequential(_conv(1024, 512), _conv(512, 512), _conv(512, 512), _up(512, 256))
        self.decoder6 = nn.Sequential(_up_conv(width, 512), _up_conv(512, 256))
        self.join6 = nn.Sequential(_conv(512, 256), _conv(256, 256), _up(256, 128))
        self.decoder3 = nn.Sequential(_up_conv(width, 512), _up_conv(512, 256), _up_conv(256, 128))
        self.join3 = nn.Sequential(_conv(256, 128, stride=2), _conv(128, 128, stride=2), _up(128, 64))
        self.decoder0 = nn.Sequential(_conv(channels, 32), _conv(32, 64))
        self.head = nn.Sequential(_conv(128, 64), _conv(64, 64), nn.Conv3d(64, channels, 1))

    def forward(self, x: Tensor, taps: TransformerTaps | None = None) -> Tensor:
        depth3, depth6, depth9, depth12 = self.encoder(x, taps)
        z12 = self.decoder12(depth12)
        z9 = self.join9(torch.cat([self.decoder9(depth9), z12], dim=1))
        z6 = self.join6(torch.cat([self.decoder6(depth6), z9], dim=1))
        z3 = self.join3(torch.cat([self.decoder3(depth3), z6], dim=1))
        if taps is not None:
            taps.features.extend([z3, z6, z9, z12])
        return self.head(torch.cat([self.decoder0(x), z3], dim=1))


BRANCHES = {"unetr": UnetrBranch, "token": TokenBranch}
