"""Training samples: real studies with transplanted lesions of further patients, or synthetic ones; then augmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandAdjustContrast,
    RandAffined,
    RandBiasField,
    RandFlipd,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandScaleIntensity,
    RandShiftIntensity,
)
from MSTKDSegmenterLib.engine.geometry import bounding_box
from MSTKDSegmenterLib.engine.sequences import SUBSETS, presence
from scipy.ndimage import distance_transform_edt
from torch.utils.data import Dataset

from .cache import Sample
from .class_map import BACKGROUND
from .config import Config
from .donors import varied
from .healing import healed

_REACH = 1.3
"""Sides of the box that a crop is taken from, in sides of the crop. Corners of a strongly turned one may lie outside of
it; there it is empty, as it is outside of the image."""

HEALED_KEPT = 64
"""Most studies whose healed version a process keeps: making one takes as long as all the rest of a sample."""


@dataclass
class Composite:
    image: np.ndarray  # float32 (4, z, y, x)
    labels: np.ndarray  # uint8 (z, y, x)


def transplant(base: Composite, origin: np.ndarray, donor: Sample, spacing: float, feather: float) -> None:
    """Blend the donor's brain voxels, with their labels, into the base at the same physical place; in place.

    BraTS studies share one atlas frame, so a lesion patch lands in the anatomy it came from. The seam is feathered over
    `feather` voxels; labels change owner where the donor's weight passes one half.

    Args:
        origin: physical point of the base's first voxel (x, y, z; mm).
        spacing: of both, mm.
    """
    offset = np.rint((donor.origin - origin) / spacing).astype(int)[::-1]  # z, y, x
    shape = np.array(base.labels.shape)
    low = np.maximum(offset, 0)
    high = np.minimum(offset + donor.labels.shape, shape)
    if np.any(high <= low):
        return
    there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    here = tuple(slice(a, b) for a, b in zip(low - offset, high - offset, strict=True))
    # depth below the patch's own surface, so that the weight falls to zero at its border and at its brain's edge
    depth = distance_transform_edt(np.pad(donor.brain, 1))[1:-1, 1:-1, 1:-1][here]
    weight = np.clip((depth - 0.5) / feather, 0, 1).astype(np.float32)
    image = base.image[(slice(None), *there)]
    image += weight * (donor.image[(slice(None), *here)].astype(np.float32) - image)
    labels = base.labels[there]
    np.copyto(labels, donor.labels[here], where=weight > 0.5)


def random_box(study: Sample, shape: tuple[int, ...], rng: np.random.Generator, spacing: float) -> Sample:
    """A box cut from a random place of a study: a transplant whose seam says nothing about tumour."""
    low = np.array([rng.integers(0, max(n - m, 0) + 1) for n, m in zip(study.labels.shape, shape, strict=True)])
    box = tuple(slice(a, a + m) for a, m in zip(low, shape, strict=True))
    origin = study.origin + low[::-1] * spacing
    return Sample(study.patient, study.image[(slice(None), *box)], study.brain[box], study.labels[box], origin)


class TrainingSet(Dataset):
    """Item k is a function of (seed, k) alone, so a resumed run sees exactly what an uninterrupted one would.

    An item holds "image" float32 (4, z, y, x), all sequences; "present" float32 (4,), 1 for those that the student
    sees; "labels" uint8 (z, y, x).

    Args:
        patches: lesions to transplant; may be empty.
        samples_per_step: of all processes together; the weights of subsets go by the step.
        synthetic: seed -> study, for the share `data.synthetic` of the items; None: all of them are real.
    """

    def __init__(
        self,
        studies: Sequence[Sample],
        patches: Sequence[Sample],
        config: Config,
        samples_per_step: int,
        synthetic: Callable[[int], Sample] | None = None,
    ) -> None:
        self.studies, self.patches, self.config, self.synthetic = studies, patches, config, synthetic
        self.samples_per_step = samples_per_step
        self._healed: dict[int, Sample] = {}  # by the number of the study
        augment = config.augment
        keys = ("image", "labels")
        self.geometry = Compose(
            [
                RandAffined(
                    keys, prob=augment.affine, rotate_range=[augment.rotation] * 3, scale_range=[augment.scaling] * 3,
                    translate_range=augment.shift, spatial_size=augment.crop, mode=("bilinear", "nearest"),
                    padding_mode=("zeros", "zeros"),
                ),
                *(RandFlipd(keys, prob=0.5, spatial_axis="zyx".index(axis)) for axis in augment.flips),
            ]
        )  # fmt: skip
        # Each sequence on its own: scanners do not agree between sequences either.
        self.intensity = Compose(
            [
                RandScaleIntensity(0.25, prob=0.8),
                RandShiftIntensity(0.3, prob=0.8),
                RandAdjustContrast(prob=0.25, gamma=(0.7, 1.5)),
                RandBiasField(degree=2, coeff_range=(0.0, 0.15), prob=0.2),
                RandGaussianSmooth((0.0, 1.2), (0.0, 0.8), (0.0, 0.8), prob=0.2),
                RandGaussianNoise(prob=0.3, std=0.15),
            ]
        )

    def __len__(self) -> int:
        return self.config.optim.steps * self.samples_per_step

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng([self.config.seed, index])
        composite = self._compose(rng)
        if self.config.augment.focus:
            composite = self._around(composite, rng)
        self.geometry.set_random_state(int(rng.integers(2**31)))
        self.intensity.set_random_state(int(rng.integers(2**31)))
        # labels are shifted by one so that what comes from outside the volume (0) becomes background
        moved = self.geometry({"image": composite.image, "labels": (composite.labels[None] + 1).astype(np.float32)})
        labels = moved["labels"][0].as_tensor() - 1
        labels[labels < 0] = BACKGROUND
        image = moved["image"].as_tensor()
        brain = image.ne(0).any(dim=0, keepdim=True)
        chances = self.config.subsets.probabilities(step=index // self.samples_per_step)
        present = presence(SUBSETS[rng.choice(len(SUBSETS), p=chances)])
        if self.config.augment.intensity:
            image = torch.cat([torch.as_tensor(self.intensity(channel[None])) * brain for channel in image])
        image = image.float().as_subclass(torch.Tensor)  # a MetaTensor would take its bookkeeping through the network
        return {"image": image, "present": torch.tensor(present).float(), "labels": labels.to(torch.uint8)}

    def _compose(self, rng: np.random.Generator) -> Composite:
        # nothing is drawn where nothing is asked for: other recipes keep the samples that they had
        augment, spacing = self.config.augment, self.config.data.spacing
        study = self._head(rng)
        composite = Composite(study.image.astype(np.float32), study.labels.copy())
        if self.patches and rng.random() < augment.transplant:
            for _ in range(rng.integers(augment.transplants) + 1):
                donor = self.patches[rng.integers(len(self.patches))]
                if rng.random() < augment.healthy_share:
                    donor = random_box(self._study(rng), donor.labels.shape, rng, spacing)
                elif augment.varied and rng.random() < augment.varied:
                    donor = varied(donor, study, rng, spacing)
                transplant(composite, study.origin, donor, spacing, augment.feather)
        return composite

    def _head(self, rng: np.random.Generator) -> Sample:
        """A study, or with the share `augment.healed` one without its tumour."""
        augment, (number, study) = self.config.augment, self._drawn(rng)
        if not augment.healed or rng.random() >= augment.healed:
            return study
        if number in self._healed:
            return self._healed[number]
        made = healed(study, augment.feather)
        if number is not None and len(self._healed) < HEALED_KEPT:
            self._healed[number] = made
        return made

    def _study(self, rng: np.random.Generator) -> Sample:
        return self._drawn(rng)[1]

    def _drawn(self, rng: np.random.Generator) -> tuple[int | None, Sample]:
        """A study and its number; a synthetic one has none here."""
        if self.synthetic is not None and rng.random() < self.config.data.synthetic:
            return None, self.synthetic(int(rng.integers(2**31)))
        number = int(rng.integers(len(self.studies)))
        return number, self.studies[number]

    def _around(self, composite: Composite, rng: np.random.Generator) -> Composite:
        """The part that a turned and scaled crop with a chosen voxel may need.

        That voxel is in the middle, unless the crop would reach out of the brain's box there: air teaches nothing.
        """
        augment, shape = self.config.augment, composite.labels.shape
        tumour = np.flatnonzero(composite.labels != BACKGROUND)
        brain = composite.image.any(axis=0)
        chosen = tumour if len(tumour) and rng.random() < augment.focus else np.flatnonzero(brain)
        voxel = np.unravel_index(chosen[rng.integers(len(chosen))], shape)
        middle = []
        for place, side, inside in zip(voxel, augment.crop, bounding_box(brain), strict=True):
            first, last = inside.start + side // 2, inside.stop - (side - side // 2)
            middle.append(int(np.clip(place, first, last)) if first <= last else (inside.start + inside.stop) // 2)
        sides = [int(side * _REACH + 2 * shift) for side, shift in zip(augment.crop, augment.shift, strict=True)]
        low = [centre - side // 2 for centre, side in zip(middle, sides, strict=True)]
        high = [start + side for start, side in zip(low, sides, strict=True)]
        box = tuple(slice(max(a, 0), max(b, 0)) for a, b in zip(low, high, strict=True))
        pads = [(max(-a, 0), max(b - n, 0)) for a, b, n in zip(low, high, shape, strict=True)]
        return Composite(
            np.pad(composite.image[(slice(None), *box)], [(0, 0), *pads]),
            np.pad(composite.labels[box], pads, constant_values=BACKGROUND),
        )
