"""What a network says about studies it has not learnt from, as counts: how often each probability came with the truth.

Everything that is chosen or shown later (temperatures, thresholds, Dice, reliability, false positives) follows from
them, without running the network again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from MSTKDSegmenterLib.engine.device import Device
from MSTKDSegmenterLib.engine.inference import predict
from MSTKDSegmenterLib.engine.network import MSTKDNet
from MSTKDSegmenterLib.engine.progress import Job
from MSTKDSegmenterLib.engine.regions import REGIONS
from MSTKDSegmenterLib.engine.sequences import SUBSETS, presence
from MSTKDSegmenterLib.engine.tiles import Tile
from tqdm import tqdm

from . import cache
from .cache import Sample
from .cases import patient_of
from .config import Config
from .distributed import join
from .files import atomically
from .losses.segmentation import one_hot, regions

BINS = 200
SMALLEST = 1e-6
"""Probability below which a mistake costs no more."""
TEMPERATURES = (0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.5, 3.0)


@dataclass(frozen=True)
class Counts:
    """Voxels of the working grid by study, subset, temperature, region, truth (no, yes) and bin of probability.

    studies, patients: names. voxels: int32 (studies, 15, temperatures, 3, 2, BINS); bin b holds probabilities from
    b / BINS to (b + 1) / BINS, its right end not counted but for 1. entropy: float64 (studies, 15, temperatures), the
    cross-entropy of the four classes, mean over the voxels. millilitres: volume of a voxel.
    """

    studies: tuple[str, ...]
    patients: tuple[str, ...]
    voxels: np.ndarray
    entropy: np.ndarray
    millilitres: float


def joined(parts: Sequence[Counts]) -> Counts:
    """The studies of all parts, which are on grids of one spacing."""
    studies, patients = (
        tuple(name for part in parts for name in getattr(part, key)) for key in ("studies", "patients")
    )
    voxels, entropy = (np.concatenate([getattr(part, key) for part in parts]) for key in ("voxels", "entropy"))
    return Counts(studies, patients, voxels, entropy, parts[0].millilitres)


def apart(counts: Counts) -> list[Counts]:
    """Those of each patient."""
    names = np.array(counts.patients)
    return [
        Counts(
            tuple(np.array(counts.studies)[names == patient].tolist()), tuple(names[names == patient].tolist()),
            counts.voxels[names == patient], counts.entropy[names == patient], counts.millilitres,
        )
        for patient in dict.fromkeys(counts.patients)
    ]  # fmt: skip


def of_patients(
    config: Config,
    patients: Sequence[str],
    network: MSTKDNet,
    path: Path,
    mirror: bool = False,
    tile: Tile | None = None,
) -> Counts:
    """The counts on patients of whole studies; kept at `path`, as long as weights, data and settings are the same.

    Raises:
        FileNotFoundError: the data are not prepared.
    """
    data = config.data
    names = [name for name in cache.cases_of(data.cache) if patient_of(name) in patients]
    fingerprint = json.loads((data.cache / "fingerprint.json").read_text(encoding="utf-8"))
    settings = ["brain's box", mirror, tile, BINS, TEMPERATURES]
    belongs_to = json.dumps([digest(network), names, fingerprint.get("files_sha256"), settings])
    found = load(path, belongs_to)
    if found is None:
        torch.set_num_threads(config.optim.threads)
        device = join(config.device).device
        studies = cache.samples(data.cache, patients, in_memory=0)
        found = count(network, zip(names, studies, strict=True), data.spacing, device, mirror, tile)
        save(found, path, belongs_to)
    return found


@torch.no_grad()
def count(
    network: MSTKDNet,
    studies: Iterable[tuple[str, Sample]],
    spacing: float,
    device: torch.device,
    mirror: bool = False,
    tile: Tile | None = None,
) -> Counts:
    """Run a network on all subsets of studies on the working grid, as the engine runs it.

    Args:
        network: in evaluation mode.
        studies: names and studies, taken one at a time.
        spacing: mm.
        mirror, tile: as the engine's predict.

    Raises:
        MemoryError: there was too little memory to run the network as asked.
    """
    there = Device(device.type, "asked for")
    shape = (len(SUBSETS), len(TEMPERATURES), len(REGIONS), 2, BINS)
    parts = []
    for name, study in studies:
        voxels, entropy = np.zeros((1, *shape), dtype=np.int32), np.zeros((1, *shape[:2]))
        truth = torch.from_numpy(study.labels.astype(np.int64))[None].to(device)
        wanted = regions(one_hot(truth))[0].bool().flatten(1)
        for place, subset in enumerate(tqdm(SUBSETS, desc=name, leave=False)):
            present = presence(subset)
            image = study.image.astype(np.float32) * np.reshape(present, (-1, 1, 1, 1))
            found = predict(network, image, present, there, Job(), tile, mirror)
            check_ran_as_asked(name, found.findings)
            logits = torch.from_numpy(found.logits)[None].to(device)
            for step, temperature in enumerate(TEMPERATURES):
                classes = network.probabilities(logits / temperature)
                told = classes.gather(1, truth[:, None]).clamp_min(SMALLEST)
                entropy[0, place, step] = -told.log().mean().item()
                for region, said in enumerate(regions(classes)[0].flatten(1)):
                    voxels[0, place, step, region] = binned(said, wanted[region])
        parts.append(Counts((name,), (study.patient,), voxels, entropy, spacing**3 / 1000))
    return joined(parts)


def check_ran_as_asked(study: str, gave_way: Sequence[str]) -> None:
    """Return if the network ran on a study as asked; what is measured otherwise is not what users get.

    Args:
        gave_way: the findings of a prediction.

    Raises:
        MemoryError: something had to give way.
    """
    if gave_way:
        raise MemoryError(f"{study}: {' '.join(gave_way)} It would give other numbers: free some memory")


def binned(probabilities: torch.Tensor, truth: torch.Tensor) -> np.ndarray:
    """(n,) probabilities and whether each voxel belongs to the region -> (2, BINS) voxels, no and yes."""
    places = (probabilities * BINS).long().clamp_(0, BINS - 1) + BINS * truth.long()
    return torch.bincount(places.flatten(), minlength=2 * BINS).view(2, BINS).cpu().numpy()


def save(counts: Counts, path: Path, belongs_to: str) -> None:
    """Write with what they are of: weights, data, settings."""
    with atomically(path) as partial, open(partial, "wb") as stream:
        np.savez_compressed(
            stream, studies=np.array(counts.studies), patients=np.array(counts.patients), voxels=counts.voxels,
            entropy=counts.entropy, millilitres=counts.millilitres, belongs_to=belongs_to,
        )  # fmt: skip


def load(path: Path, belongs_to: str) -> Counts | None:
    """What is there of the same; None if nothing is."""
    if not path.exists():
        return None
    with np.load(path) as arrays:
        if str(arrays["belongs_to"]) != belongs_to:
            return None
        names = (tuple(map(str, arrays[key])) for key in ("studies", "patients"))
        return Counts(*names, arrays["voxels"], arrays["entropy"], float(arrays["millilitres"]))


def digest(network: MSTKDNet) -> str:
    """SHA-256 of the weights and their names."""
    found = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()
