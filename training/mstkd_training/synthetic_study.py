"""Synthetic glioma studies: a real head, a tumour in it, four sequences; skull-stripped and aligned like BraTS.

Anatomy, tumour and contrast are drawn independently, so one generator gives more combinations than any archive; the
truth is exact. What it says about patients is little: such studies train, they do not measure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F
from MSTKDSegmenterLib.engine.geometry import bounding_box
from MSTKDSegmenterLib.engine.normalise import normalise
from MSTKDSegmenterLib.engine.sequences import SEQUENCES
from scipy.ndimage import gaussian_filter, label

from .cache import Sample
from .contrasts import TISSUES, TUMOUR, draw_contrast
from .fields import blur, smooth_field
from .heads import CHANNELS, SPACING, Head
from .look_alikes import look_alikes
from .scanner import scan
from .shapes import BRAIN, CAVITY, ED, ET, NCR, NONE, Shape
from .tumours import TUMOUR_FREE, Site, Tumour, draw_tumour, moved, soft

RANDOM_CONTRAST = 0.2
_FIELD = (96, 112, 96)  # voxels, z, y, x: holds any head; what is around the brain is cut off
_MARGIN = 2  # coarse voxels of 4 mm around the brain
_HEALTHY = len(CHANNELS) - 1  # all but the brain
_VALUES = {"NCR": NCR, "ED": ED, "ET": ET, "cavity": CAVITY}


def synthetic_study(
    heads: Sequence[Head],
    untreated: Sequence[Shape],
    treated: Sequence[Shape],
    seed: int | Sequence[int],
    free: float = TUMOUR_FREE,
    random: float = RANDOM_CONTRAST,
) -> Sample:
    """One study on the working grid, normalised by the engine. Equal arguments give equal arrays.

    Args:
        heads, untreated, treated: what anatomy and real tumour shapes are drawn from.
        seed: of everything that is random.
        free: probability that there is no tumour.
        random: probability that the healthy tissues have no particular contrast.
    """
    rng = np.random.default_rng(seed)
    head = heads[rng.integers(len(heads))]
    shares = torch.from_numpy(head.shares)[None].float() / 255
    coordinates, centre, stretch, origin = _lay(head, shares, rng)
    site = _site(shares, coordinates, centre, stretch)
    tumour = draw_tumour(site, untreated, treated, rng, free)
    coordinates = moved(coordinates, tumour.push, site.spacing)
    midline = soft(coordinates[0] * shares.shape[-1] / 2 * SPACING)  # mm from the middle of the head's box
    tissue = _tissue(shares, coordinates)
    brain = _brain(tissue[-1], rng)
    labels = _labels(tumour, tissue, brain)
    mixture = _mixture(tissue[:_HEALTHY], labels, brain, midline, rng)
    images = _images(mixture, rng, random)
    channels = np.stack([normalise(image, brain) for image in images])
    labels[labels == CAVITY] = NONE
    return Sample(f"synthetic, {tumour.kind}", channels.astype(np.float16), brain, labels, origin)


def _lay(
    head: Head, shares: torch.Tensor, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """Where the voxels of a grid of 4 mm lie in the head, which is turned, scaled, mirrored and bent.

    Returns coordinates for grid_sample, (3, z, y, x), x first, of a grid whose sides are multiples of 4 voxels around
    the brain; the brain's centre on that grid (z, y, x); the scale; and the place (x, y, z; mm) of the first voxel
    of the grid of 2 mm.
    """
    size = [side // 2 for side in _FIELD]
    axes = [torch.arange(side) * 2 * SPACING - (side - 1) * SPACING for side in size]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).float()
    stretch = float(rng.uniform(0.96, 1.12))
    # studies are aligned with an atlas, so heads are hardly turned; training turns them further
    angles = np.deg2rad(rng.uniform(-6, 6, 3))
    matrix = np.reshape(sitk.Euler3DTransform((0.0, 0.0, 0.0), *angles).GetMatrix(), (3, 3))
    matrix = matrix @ np.diag(1 / (stretch * rng.uniform(0.96, 1.04, 3)))
    if rng.random() < 0.5:
        matrix[2] *= -1
    bend = torch.from_numpy(rng.standard_normal((1, 3, *(int(rng.integers(4, 8)) for _ in range(3))), dtype=np.float32))
    bend = F.interpolate(bend, size=size, mode="trilinear", align_corners=True)[0].permute(1, 2, 3, 0)
    points = points @ torch.from_numpy(matrix.T.astype(np.float32)) + bend * float(rng.uniform(0.0, 3.5))
    sides = torch.tensor(shares.shape[2:])
    voxels = points / SPACING + torch.from_numpy(head.centre).float()
    coordinates = ((2 * voxels + 1) / sides - 1).flip(-1)
    brain = F.grid_sample(shares[:, -1:], coordinates[None], mode="bilinear", align_corners=False)[0, 0].numpy() > 0.2
    low, high = [], []
    for side, used in zip(size, bounding_box(brain)):
        wanted = used.stop - used.start + 2 * _MARGIN
        count = min(side, -(-wanted // 4) * 4)
        low.append(int(np.clip(used.start - _MARGIN - (count - wanted) // 2, 0, side - count)))
        high.append(low[-1] + count)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    centre = (np.array(size) - 1) / 2 - low
    origin = np.array(BRAIN) - (centre[::-1] * 2 + 0.5) * SPACING
    return coordinates[box].permute(3, 0, 1, 2).contiguous().numpy(), centre, stretch, origin


def _site(shares: torch.Tensor, coordinates: np.ndarray, centre: np.ndarray, stretch: float) -> Site:
    found = dict(zip(CHANNELS, _sampled(shares, torch.from_numpy(coordinates))))
    white = found["white_matter"] + found["white_matter_lesion"]
    seat = white + found["deep_grey"]
    grey = found["cortex"] + found["deep_grey"] + found["cerebellum"]
    return Site(white + found["stem"], grey, seat, found["brain"], 2 * SPACING, centre, stretch)


def _tissue(shares: torch.Tensor, coordinates: torch.Tensor) -> np.ndarray:
    """Shares on the grid of 2 mm, (C, z, y, x) in the order of CHANNELS, sharpened for what interpolation blurred."""
    fine = F.interpolate(coordinates[None], scale_factor=2, mode="trilinear", align_corners=False)[0]
    tissue = _sampled(shares, fine)
    healthy = tissue[:_HEALTHY]
    healthy[CHANNELS.index("outside")] += np.clip(1 - healthy.sum(axis=0), 0, 1)  # beyond the head's box
    healthy *= healthy + np.float32(0.4)
    healthy /= healthy.sum(axis=0)
    return tissue


def _sampled(shares: torch.Tensor, coordinates: torch.Tensor) -> np.ndarray:
    grid = coordinates.permute(1, 2, 3, 0)[None]
    return F.grid_sample(shares, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0].numpy()


def _brain(share: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mask, half of the time as imperfect as skull stripping is: too tight here, too wide there."""
    if rng.random() < 0.5:
        return share > 0.5
    share = gaussian_filter(share, 0.7) + rng.uniform(0.0, 0.15) * smooth_field(share.shape, 12, rng)
    parts, count = label(share > rng.uniform(0.4, 0.6))
    return parts == 1 + np.argmax(np.bincount(parts.ravel(), minlength=count + 1)[1:])


def _labels(tumour: Tumour, tissue: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Within the brain; no oedema in fluid."""
    fluid = tissue[CHANNELS.index("ventricle")] + tissue[CHANNELS.index("csf")]
    lost = ~brain | ((tumour.labels == ED) & (fluid > 0.6))
    return np.where(lost, np.uint8(NONE), tumour.labels)


def _mixture(
    healthy: np.ndarray, labels: np.ndarray, brain: np.ndarray, midline: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Share of each of TISSUES per voxel, (C, z, y, x) float32: healthy ones, look-alikes, tumour with soft borders."""
    mixture = np.empty((len(TISSUES), *labels.shape), np.float32)
    mixture[:_HEALTHY] = healthy
    extra = look_alikes(dict(zip(CHANNELS, healthy)), brain, midline, rng)
    mixture[:_HEALTHY] *= 1 - np.clip(extra.sum(axis=0), 0, 1)
    mixture[_HEALTHY : -len(TUMOUR)] = extra
    mixture[-len(TUMOUR) :] = 0
    tumour = labels != NONE
    if not tumour.any():
        return mixture
    box = bounding_box(tumour, margin=4)
    inner = mixture[(slice(None), *box)]
    sigma = rng.uniform(0.3, 0.8)
    weights = np.stack([blur((labels[box] == _VALUES[name]).astype(np.float32), sigma) for name in TUMOUR])
    # infiltration: oedema fades outwards, and is weaker in the cortex
    deep = gaussian_filter((labels[box] != NONE).astype(np.float32), 3.0)
    cortex = inner[TISSUES.index("cortex")]
    weights[TUMOUR.index("ED")] *= (1 - rng.uniform(0.0, 0.7) * (1 - deep)) * (1 - rng.uniform(0.2, 0.7) * cortex)
    inner[: -len(TUMOUR)] *= 1 - np.clip(weights.sum(axis=0), 0, 1)
    inner[-len(TUMOUR) :] = weights
    return mixture


def _images(mixture: np.ndarray, rng: np.random.Generator, random: float) -> list[np.ndarray]:
    """The four sequences as a scanner gives them, (z, y, x) float32."""
    contrast = draw_contrast(rng, random)
    flat, shape = mixture.reshape(len(mixture), -1), mixture.shape[1:]
    means, roughness = (table @ flat for table in (contrast.mean, contrast.texture))
    common = _texture(shape, rng)
    images = []
    for number, sequence in enumerate(SEQUENCES):
        texture = 0.6 * common + 0.8 * _texture(shape, rng)
        image = (means[number] + roughness[number] * texture.ravel()).reshape(shape)
        images.append(scan(image, sequence, SPACING, rng))
    return images


def _texture(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise at three scales, of single voxels, about 5 mm and about 15 mm; standard deviation about 1."""
    fine = rng.standard_normal(shape, dtype=np.float32)
    return 0.3 * fine + 0.6 * smooth_field(shape, 36, rng) + 0.7 * smooth_field(shape, 12, rng)
