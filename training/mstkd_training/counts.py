"""What a network says about studies it has not learnt from, as counts: how often each probability came with the truth.

Everything that is chosen or shown later (temperatures, thresholds, Dice, reliability, false positives) follows from
them, without running the network again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from MSTKDSegmenterLib.engine.network import MSTKDNet
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS
from tqdm import tqdm

from .cache import Sample
from .files import atomically
from .losses.segmentation import one_hot, regions
from .validation import predict

BINS = 200
TEMPERATURES = (0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)


@dataclass(frozen=True)
class Counts:
    """Voxels of the working grid by study, subset, temperature, region, truth (no, yes) and bin of probability.

    patients: of the studies. voxels: int32 (studies, 15, temperatures, 3, 2, BINS); bin b holds probabilities from
    b / BINS to (b + 1) / BINS, its right end not counted but for 1. millilitres: volume of a voxel.
    """

    patients: tuple[str, ...]
    voxels: np.ndarray
    millilitres: float

    def of(self, patients: Sequence[str]) -> Counts:
        """Those of some patients."""
        chosen = [number for number, patient in enumerate(self.patients) if patient in set(patients)]
        return Counts(tuple(self.patients[k] for k in chosen), self.voxels[chosen], self.millilitres)


def joined(parts: Sequence[Counts]) -> Counts:
    """The studies of all parts, which are on grids of one spacing."""
    patients = tuple(patient for part in parts for patient in part.patients)
    return Counts(patients, np.concatenate([part.voxels for part in parts]), parts[0].millilitres)


@torch.no_grad()
def count(
    network: MSTKDNet, studies: Sequence[Sample], spacing: float, device: torch.device, mirror: bool = False
) -> Counts:
    """Run a network on all subsets of studies on the working grid.

    Args:
        network: in evaluation mode.
        spacing: mm.
        mirror: average with the prediction for the mirrored image, as inference does where a package wants it.
    """
    shape = (len(SUBSETS), len(TEMPERATURES), len(REGIONS), 2, BINS)
    voxels = np.zeros((len(studies), *shape), dtype=np.int32)
    for number, study in enumerate(studies):
        for place, subset in enumerate(tqdm(SUBSETS, desc=study.patient, leave=False)):
            logits, truth = predict(network, study, subset, device)
            mirrored = predict(network, flipped(study), subset, device)[0].flip(-1) if mirror else None
            wanted = regions(one_hot(truth))[0].bool().flatten(1)
            for step, temperature in enumerate(TEMPERATURES):
                classes = network.probabilities(logits.float() / temperature)
                if mirrored is not None:
                    classes = (classes + network.probabilities(mirrored.float() / temperature)) / 2
                found = regions(classes)[0].flatten(1)
                for region in range(len(REGIONS)):
                    voxels[number, place, step, region] = binned(found[region], wanted[region])
    return Counts(tuple(study.patient for study in studies), voxels, spacing**3 / 1000)


def binned(probabilities: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """(n,) probabilities and whether each voxel belongs to the region -> (2, BINS) voxels, no and yes."""
    places = (probabilities * BINS).long().clamp_(0, BINS - 1) + BINS * truth.long()
    return torch.bincount(places.flatten(), minlength=2 * BINS).view(2, BINS).cpu().numpy()


def flipped(study: Sample) -> Sample:
    """Left for right."""
    image, brain, labels = (array[..., ::-1].copy() for array in (study.image, study.brain, study.labels))
    return Sample(study.patient, image, brain, labels, study.origin)


def save(counts: Counts, path: Path, weights: str) -> None:
    """Write with the hash of the weights that they are of."""
    with atomically(path) as partial, open(partial, "wb") as stream:
        np.savez_compressed(
            stream, patients=np.array(counts.patients), voxels=counts.voxels, millilitres=counts.millilitres,
            weights=weights,
        )  # fmt: skip


def load(path: Path, weights: str) -> Counts | None:
    """What is there of these weights; None if nothing is."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        if str(arrays["weights"]) != weights:
            return None
        return Counts(tuple(map(str, arrays["patients"])), arrays["voxels"], float(arrays["millilitres"]))
