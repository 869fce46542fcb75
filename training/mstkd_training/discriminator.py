"""Tells the style features of a network that saw all sequences from those of one that did not."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

FINAL = (2, 3, 2)
"""What three halvings leave of the paper's bottleneck, 16 x 24 x 20 (z, y, x)."""


class StyleDiscriminator(nn.Module):
    """(B, C, z, y, x) style -> (B, 1, 1, 1, 1) logit. Sides of at least 8; with 128 channels 3,149,249 parameters.

    The released one takes a single size. Here the last feature is pooled to what that size leaves, if it is another.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside in ((channels, 64), (64, 128), (128, 256)):
            layers += [nn.Conv3d(inside, outside, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.features = nn.Sequential(*layers)
        self.verdict = nn.Conv3d(256, 1, FINAL)

    def forward(self, style: Tensor) -> Tensor:
        if min(style.shape[2:]) < 8:
            raise ValueError(
                f"style features of {tuple(style.shape[2:])} voxels: the discriminator needs 8 along each side, so "
                "crops of at least 64; enlarge augment.crop or set terms.adversarial.weight to 0"
            )
        return self.verdict(F.adaptive_avg_pool3d(self.features(style), FINAL))
