"""Tumours for synthetic studies: real shapes in new places or grown ones, and how they displace the brain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, find_objects

from .fields import smooth_field
from .growth import grow
from .shapes import CAVITY, ED, ET, NCR, NONE, Shape, place

REAL_SHARE = 0.6
TREATED_SHARE = 0.15  # of the real shapes
TUMOUR_FREE = 0.1
# What a grown tumour looks like: a ring of enhancement with gaps is the usual glioblastoma.
_VARIANTS = {"ring": 0.46, "solid": 0.12, "not enhancing": 0.14, "tiny ring": 0.1, "no oedema": 0.08, "cavity": 0.1}


@dataclass(frozen=True)
class Site:
    """The brain that a tumour gets, before it is displaced; shares, float32 (z, y, x), on a grid of `spacing` mm.

    seat: share of what gliomas start in, the white matter and the deep grey matter of the cerebrum.
    centre: of the brain, voxels (z, y, x). stretch: the brain's size as a multiple of the usual one.
    """

    white: np.ndarray
    grey: np.ndarray
    seat: np.ndarray
    brain: np.ndarray
    spacing: float
    centre: np.ndarray
    stretch: float


@dataclass(frozen=True)
class Tumour:
    """labels: uint8 (z, y, x), indices into CLASSES or CAVITY, on a grid twice as fine as the site's.

    push: what it displaces, float32 (3, z, y, x) in mm along z, y, x on the site's grid: the tissue that is now at p
    was at p - push(p).
    """

    labels: np.ndarray
    push: np.ndarray
    kind: str


def draw_tumour(
    site: Site, untreated: Sequence[Shape], treated: Sequence[Shape], rng: np.random.Generator, free: float
) -> Tumour:
    """One tumour, or with probability `free` none; its parts outside the brain are still to be removed."""
    if rng.random() < free:
        fine = tuple(2 * side for side in site.brain.shape)
        return Tumour(np.full(fine, NONE, np.uint8), np.zeros((3, *site.brain.shape), np.float32), "none")
    if rng.random() < REAL_SHARE and (untreated or treated):
        after = bool(treated) and (not untreated or rng.random() < TREATED_SHARE)
        return _real(site, treated if after else untreated, rng, "treated" if after else "untreated")
    return _grown(site, rng)


def soft(coarse: torch.Tensor | np.ndarray) -> np.ndarray:
    """(z, y, x) on the site's grid -> (2z, 2y, 2x), linear."""
    volume = torch.as_tensor(coarse)[None, None]
    return F.interpolate(volume, scale_factor=2, mode="trilinear", align_corners=False)[0, 0].numpy()


def moved(volumes: np.ndarray, push: np.ndarray, spacing: float) -> torch.Tensor:
    """(C, z, y, x) on the site's grid after its content was displaced."""
    shape = push.shape[1:]
    grid = F.affine_grid(torch.eye(3, 4)[None], [1, 1, *shape], align_corners=True)
    scale = torch.tensor([2 / (spacing * (side - 1)) for side in shape])
    grid = grid - (torch.from_numpy(push).permute(1, 2, 3, 0) * scale).flip(-1)[None]
    stack = torch.from_numpy(np.ascontiguousarray(volumes))[None]
    return F.grid_sample(stack, grid, mode="bilinear", padding_mode="border", align_corners=True)[0]


def _real(site: Site, shapes: Sequence[Shape], rng: np.random.Generator, kind: str) -> Tumour:
    """A real shape, half of the time at its own place in the brain, otherwise anywhere in the cerebrum."""
    shape = shapes[rng.integers(len(shapes))]
    fine = tuple(2 * side for side in site.brain.shape)
    mirrored = bool(rng.random() < 0.5)
    own = rng.random() < 0.5
    size_mm = float(np.cbrt(np.count_nonzero(shape.labels != NONE) * np.prod(shape.spacing)))
    for attempt in range(4):
        if own and attempt == 0:
            offset = shape.offset * (1, 1, -1 if mirrored else 1)
            at = site.centre * site.spacing + offset * site.stretch
        else:
            at = _anywhere(site, rng, depth=0.2 * size_mm) * site.spacing
        # the site's first voxel lies half a fine voxel inside of the fine grid's first one
        labels = place(shape, fine, site.spacing / 2, at + site.spacing / 4, rng, mirrored)
        inside = _coarse(labels != NONE)
        if (inside * (site.brain > 0.5)).sum() > 0.75 * inside.sum() > 0:
            break
    if rng.random() < 0.1:
        labels[labels == ET] = NCR
        kind += ", not enhancing"
    cores = np.isin(labels, (NCR, ET)) if np.isin(labels, (NCR, ET)).any() else labels != NONE
    # a resection leaves room instead of taking it
    strength = rng.uniform(0.0, 0.2 if kind.startswith("treated") else 1.0)
    return Tumour(labels, _push(site, _coarse(cores), strength), kind)


def _grown(site: Site, rng: np.random.Generator) -> Tumour:
    variant = str(rng.choice(list(_VARIANTS), p=list(_VARIANTS.values())))
    foci = 1 + (rng.random() < 0.2) * int(rng.integers(1, 3))
    volume = float(np.exp(rng.uniform(np.log(5.0), np.log(180.0))))
    radius = np.cbrt(volume * 1000 * 3 / (4 * np.pi))
    width = radius * (rng.uniform(0.06, 0.1) if variant == "no oedema" else rng.uniform(0.1, 0.3))
    first = _anywhere(site, rng, depth=4.0)
    seeds = [first, *(_near(site, first, rng) for _ in range(foci - 1))]
    density = grow(site.white, site.grey, np.array(seeds), site.spacing, width, volume, rng)
    # The core's border is where a share of what is tumour is denser.
    share = rng.uniform(0.8, 1.0) if variant == "no oedema" else rng.uniform(0.1, 0.6)
    tumour = density[density > 0.1]
    edge = float(np.quantile(tumour, 1 - share)) if tumour.size else 1.0
    push = _push(site, (density > edge).astype(np.float32), rng.uniform(0.0, 1.0) if foci == 1 else 0.0)
    density = soft(moved(density[None], push, site.spacing)[0])
    rough = 0.12 * smooth_field(density.shape, 24, rng) + 0.06 * smooth_field(density.shape, 48, rng)
    whole = density * (1 + rough) > rng.uniform(0.05, 0.12)
    core = (density * (1 + rough) > edge) & whole
    labels = np.where(core, NCR, np.where(whole & (variant != "no oedema"), ED, NONE)).astype(np.uint8)
    if variant != "not enhancing":
        _enhance(labels, variant, site.spacing / 2, rng)
    elif rng.random() < 0.5:  # a low-grade glioma, which is often labelled as core alone
        labels[labels == ED] = NCR
    return Tumour(labels, push, f"grown, {variant}, {foci} foci")


def _enhance(labels: np.ndarray, variant: str, spacing: float, rng: np.random.Generator) -> None:
    """Enhancement along the border of the core, in place: of varying thickness, with gaps and nodules."""
    found = find_objects((labels == NCR).astype(np.uint8))
    if not found:
        return
    box = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in found[0])
    inner = labels[box]
    core = inner == NCR
    depth = distance_transform_edt(core) * spacing - spacing / 2
    cells = max(3, max(core.shape) // 4)
    uneven = smooth_field(core.shape, cells, rng)
    if variant == "solid":
        enhancing = core & (uneven > -1.5)
    else:
        thickness = rng.uniform(1.0, 2.0) if variant == "tiny ring" else rng.uniform(2.0, 7.0)
        gaps = smooth_field(core.shape, max(2, cells // 2), rng) < rng.uniform(
            -2.5, 0.0 if variant == "tiny ring" else -0.7
        )
        nodules = (smooth_field(core.shape, cells, rng) > 1.7) & (depth < 9)
        enhancing = core & ~gaps & ((depth < thickness * np.exp(0.4 * uneven)) | nodules)
    inner[enhancing] = ET
    if variant == "cavity":
        inner[core & ~enhancing] = CAVITY


def _anywhere(site: Site, rng: np.random.Generator, depth: float) -> np.ndarray:
    """A voxel in which a glioma may start, `depth` mm below the surface of the brain."""
    deep = distance_transform_edt(site.brain > 0.5) * site.spacing >= depth
    places = np.argwhere(deep & (site.seat > 0.5))
    places = places if len(places) else np.argwhere(site.brain > 0.5)
    return places[rng.integers(len(places))]


def _near(site: Site, first: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another such voxel, 15 to 50 mm away."""
    places = np.argwhere(site.seat > 0.4)
    distance = np.linalg.norm(places - first, axis=1) * site.spacing
    near = places[(distance > 15) & (distance < 50)]
    return near[rng.integers(len(near))] if len(near) else first


def _push(site: Site, core: np.ndarray, strength: float) -> np.ndarray:
    """Displacement away from the middle of the core, as far as its radius reaches and fading over twice of that.

    The skull does not yield: within 12 mm of the brain's surface the displacement fades as well.
    """
    push = np.zeros((3, *core.shape), np.float32)
    volume = float(core.sum()) * site.spacing**3
    if strength == 0 or volume == 0:
        return push
    radius = float(np.cbrt(3 * volume / (4 * np.pi)))
    index = np.indices(core.shape, dtype=np.float32)
    centre = [float((axis * core).sum() / core.sum()) for axis in index]
    offset = (index - np.reshape(centre, (3, 1, 1, 1)).astype(np.float32)) * site.spacing
    distance = np.sqrt((offset**2).sum(axis=0)) + 1e-3
    far = (1 - np.exp(-((distance / (0.7 * radius)) ** 2))) * np.exp(-((distance / (2.4 * radius)) ** 2))
    room = np.clip(distance_transform_edt(site.brain > 0.5) * site.spacing / 12, 0, 1)
    return (offset * (0.4 * radius * strength * far * room / distance)).astype(np.float32)


def _coarse(mask: np.ndarray) -> np.ndarray:
    """Share of a mask on the fine grid in each voxel of the site's grid."""
    z, y, x = (side // 2 for side in mask.shape)
    return mask.reshape(z, 2, y, 2, x, 2).mean(axis=(1, 3, 5), dtype=np.float32)
