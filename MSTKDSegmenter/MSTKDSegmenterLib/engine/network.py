"""The MST-KDNet family: one definition for teacher and student, for training and for use.

A residual U-Net with GroupNorm (16-32-64-128 channels at full, 1/2, 1/4 and 1/8 resolution), a transformer branch at
the 1/8 bottleneck, and a bottleneck that is split into a *style* feature (encoder stages and transformer) and a
*content* feature (deep blocks), joined again before the decoder. Shapes and parameter counts follow arXiv:2507.22626
and its code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .transformer import BRANCHES, TransformerConfig, TransformerTaps


@dataclass(frozen=True)
class NetworkConfig:
    """Everything needed to rebuild a network; stored in model.json as it stands."""

    sequences: int = 4
    classes: int = 4
    width: int = 16
    blocks: tuple[int, int, int, int] = (1, 2, 2, 4)
    transformer: TransformerConfig | None = None
    # Tells the network which sequences are there; without it "absent" looks like "average brain" (method defect 20).
    availability: bool = False
    dropout: float = 0.2
    # Four classes that may overlap, as the released code trains them, instead of four that exclude each other.
    independent: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> NetworkConfig:
        """Inverse of to_dict. Raises TypeError for unknown keys."""
        values = dict(values)
        values["blocks"] = tuple(values["blocks"])
        if values.get("transformer"):
            branch = dict(values["transformer"])
            branch["grid"] = tuple(branch["grid"])
            values["transformer"] = TransformerConfig(**branch)
        return NetworkConfig(**values)


# The official network. Its 160x192x128 crop is x, y, z there; arrays here are z, y, x, so 120 tokens of 4 x 6 x 5.
PAPER = NetworkConfig(
    transformer=TransformerConfig(
        decoder="unetr", patch=4, width=768, depth=12, heads=12, mlp=2048, grid=(4, 6, 5), dropout=0.1
    )
)
# What ships: the same U-Net with four narrow transformer layers on the bottleneck itself.
COMPACT = NetworkConfig(
    transformer=TransformerConfig(
        decoder="token", patch=1, width=128, depth=4, heads=4, mlp=256, grid=(10, 12, 10), dropout=0.1
    ),
    availability=True,
)
SIZES = {"paper": PAPER, "compact": COMPACT}


@dataclass
class Taps:
    """Intermediate features for distillation, filled by `forward(..., taps=Taps())`; all at 1/8 resolution.

    stages are the encoder, transformer and decoder-side features that global style matching compares.
    """

    style: Tensor | None = None
    content: Tensor | None = None
    stages: list[Tensor] = field(default_factory=list)
    transformer: TransformerTaps = field(default_factory=TransformerTaps)


class ResidualBlock(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv3d(channels, channels, 3, padding=1)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x), inplace=True))
        return x + self.conv2(F.relu(self.norm2(y), inplace=True))


class UpBlock(nn.Module):
    """Halve the channels, double the resolution, add the skip, refine."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv3d(2 * channels, channels, 1)
        self.block = ResidualBlock(channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(self.reduce(x), scale_factor=2.0, mode="nearest")
        return self.block(x + skip)


class MSTKDNet(nn.Module):
    """(B, sequences, z, y, x) normalised images, absent sequences all zero -> (B, classes, z, y, x) logits.

    Every side must be a multiple of `multiple`. Class order: see regions.CLASSES.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        c1, c2, c3, c4 = (config.width * k for k in (1, 2, 4, 8))
        n1, n2, n3, n4 = config.blocks
        self.stem = nn.Conv3d(config.sequences, c1, 3, padding=1)
        self.presence = nn.Linear(config.sequences, c1, bias=False) if config.availability else None
        self.encoder1 = nn.Sequential(*(ResidualBlock(c1) for _ in range(n1)))
        self.down1 = nn.Conv3d(c1, c2, 3, stride=2, padding=1)
        self.encoder2 = nn.Sequential(*(ResidualBlock(c2) for _ in range(n2)))
        self.down2 = nn.Conv3d(c2, c3, 3, stride=2, padding=1)
        self.encoder3 = nn.Sequential(*(ResidualBlock(c3) for _ in range(n3)))
        self.down3 = nn.Conv3d(c3, c4, 3, stride=2, padding=1)
        branch = config.transformer
        self.transformer = BRANCHES[branch.decoder](c4, branch) if branch is not None else None
        self.encoder4 = nn.Sequential(*(ResidualBlock(c4) for _ in range(n4)))
        self.style = nn.Conv3d(c3 + 2 * c4, c4, 1)
        self.join = nn.Conv3d(2 * c4, c4, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.up3 = UpBlock(c3)
        self.up2 = UpBlock(c2)
        self.up1 = UpBlock(c1)
        self.head = nn.Conv3d(c1, config.classes, 1)

    @property
    def multiple(self) -> int:
        """Input sides must be multiples of this: three halvings, then the transformer's patches."""
        branch = self.config.transformer
        return 8 * (branch.patch if branch is not None else 1)

    def _check(self, x: Tensor, present: Tensor | None) -> None:
        if x.ndim != 5 or x.shape[1] != self.config.sequences or any(side % self.multiple for side in x.shape[2:]):
            raise ValueError(
                f"input of shape {tuple(x.shape)}: expected (batch, {self.config.sequences}, z, y, x) with sides that "
                f"are multiples of {self.multiple}; pad or choose another working grid"
            )
        if self.presence is not None and present is None:
            raise ValueError(
                "this network needs `present`, a (batch, sequences) tensor of 0 and 1 for absent and given"
            )

    def forward(self, x: Tensor, present: Tensor | None = None, taps: Taps | None = None) -> Tensor:
        self._check(x, present)
        stem = self.stem(x)
        if self.presence is not None:
            stem = stem + self.presence(present.to(x.dtype))[:, :, None, None, None]
        skip1 = self.encoder1(stem)
        skip2 = self.encoder2(self.down1(skip1))
        third = self.down2(skip2)
        skip3 = self.encoder3(third)
        fourth = self.down3(skip3)
        mixed = fourth
        if self.transformer is not None:
            mixed = fourth + self.transformer(fourth, taps.transformer if taps is not None else None)
        content = self.encoder4(mixed)
        style = self.style(torch.cat([F.max_pool3d(third, 2), fourth, mixed], dim=1))
        if taps is not None:
            taps.style, taps.content, taps.stages = style, content, [fourth, style, content]
        y = self.dropout(self.join(torch.cat([style, content], dim=1)))
        y = self.up3(y, skip3)
        y = self.up2(y, skip2)
        return self.head(self.up1(y, skip1))

    def probabilities(self, logits: Tensor) -> Tensor:
        """(B, classes, z, y, x) logits -> probabilities that add up to 1.

        Independent classes are made exclusive by the regions they form, which are nested: a region is as probable as
        its likeliest class, and a class is what a region has beyond the next smaller one.
        """
        if not self.config.independent:
            return logits.softmax(dim=1)
        ncr, ed, et, _ = logits.sigmoid().unbind(dim=1)
        tc = torch.maximum(ncr, et)
        wt = torch.maximum(tc, ed)
        return torch.stack([tc - et, wt - tc, et, 1 - wt], dim=1)


def build(config: NetworkConfig) -> MSTKDNet:
    """A freshly initialised network; weights come from a model package (package.py) or from training."""
    return MSTKDNet(config)


def count_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
