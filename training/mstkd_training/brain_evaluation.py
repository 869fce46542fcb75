"""What the brain network is worth, on synthetic heads it has not seen and on real images, and its model package."""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from MSTKDSegmenterLib.engine import package as packages
from MSTKDSegmenterLib.engine.background import background_value, shown
from MSTKDSegmenterLib.engine.brain import network_mask
from MSTKDSegmenterLib.engine.geometry import Grid, resample
from MSTKDSegmenterLib.engine.network import MSTKDNet

from .anatomy import Anatomy
from .brain_training import SPACING, VALIDATION, held_out_scores
from .metrics import dice

UNMEASURED = {"measured_on": [], "command": "not measured", "table": {}}
COMMAND = "python training/brain_mask.py --evaluate"
_CARD = {
    "kind": "brain",
    "name": "brain-mask",
    "version": "0.1.0",
    "spacing_mm": SPACING,
    "thresholds": {"brain": 0.35},  # a rim of fluid too much does less harm than a tumour at the surface cut off
    "licence": "Apache-2.0. No BraTS data and no image of a person went into these weights.",
    "data": "Synthetic images of random contrast, made from 17 of the 20 whole-head label maps that SynthSeg "
    f"publishes under Apache-2.0. Kept out for validation: {', '.join(VALIDATION)}.",
    "intended_use": "Finding the brain on adult head MRI (T1, T1ce, T2, FLAIR), thick slices and tumours included. "
    "Research only. Not a medical device, not for diagnosis or treatment.",
    "citation": [
        "A. Hoopes et al., SynthStrip: skull-stripping for any brain image, NeuroImage 260, 2022",
        "B. Billot et al., SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without "
        "retraining, Medical Image Analysis 86, 2023",
    ],
}


def export(
    network: MSTKDNet, folder: Path, training: Mapping[str, Any], quality: Mapping[str, Any] = UNMEASURED
) -> packages.ModelPackage:
    """Write the package. `training` is noted in its card as it stands: the number of steps and what else matters."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return packages.write(folder, network, {**_CARD, "training": training, "quality": quality})


def measure(package: packages.ModelPackage, anatomies: Sequence[Anatomy], data: Path) -> dict[str, Any]:
    """The card's `quality`: mean Dice by kind of image.

    Stripped real images go through the network as they are; truth is what they show. For the scans with skull there is
    no truth: the rows say how well the masks of two sequences of the same head, which did not move, agree.
    """
    scores = held_out_scores(package.network(), anatomies, 100, package.thresholds()["brain"])
    rows = {"synthetic images of unseen heads": scores}
    for sequence, image in _stripped_studies(data / "brats_cases.tar.xz"):
        rows.setdefault(f"BraTS, already stripped, {sequence}", []).append(_against_shown(image, package))
    template, template_brain = _template()
    rows["MNI152 template (T1, already stripped)"] = [_overlap(network_mask(template, package), template_brain)]
    for title, first, second in _pairs(data / "native"):
        rows[title] = [_agreement(first, second, package)]
    for name, values in rows.items():
        print(f"{name}: mean {np.mean(values):.4f}, lowest {min(values):.4f}, {len(values)} images")
    return {
        "measured_on": list(rows),
        "command": COMMAND,
        "table": {name: {"brain": round(float(np.mean(values)), 4)} for name, values in rows.items()},
    }


def _against_shown(image: sitk.Image, package: packages.ModelPackage) -> float:
    return _overlap(network_mask(image, package), sitk.BinaryFillhole(shown(image, background_value(image))))


def _agreement(first: sitk.Image, second: sitk.Image, package: packages.ModelPackage) -> float:
    one, other = network_mask(first, package), network_mask(second, package)
    return _overlap(one, resample(other, Grid.of(one), sitk.sitkNearestNeighbor))


def _overlap(first: sitk.Image, second: sitk.Image) -> float:
    return dice(sitk.GetArrayFromImage(first) > 0, sitk.GetArrayFromImage(second) > 0)


def _stripped_studies(archive: Path) -> Iterator[tuple[str, sitk.Image]]:
    with tarfile.open(archive) as tar, tempfile.TemporaryDirectory() as folder:
        for member in tar:
            sequence = Path(member.name).stem.rsplit("_", 1)[-1]
            if sequence not in ("flair", "t1", "t1ce", "t2"):
                continue
            path = Path(folder) / "image.nii"
            path.write_bytes(tar.extractfile(member).read())
            yield sequence, sitk.ReadImage(str(path))


def _template() -> tuple[sitk.Image, sitk.Image]:
    """The MNI152 T1 template, which has no skull, and nilearn's mask of its brain."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    images = []
    for volume in (load_mni152_template(resolution=2), load_mni152_brain_mask(resolution=2)):
        image = sitk.GetImageFromArray(np.asarray(volume.dataobj, dtype=np.float32).transpose(2, 1, 0))
        image.SetSpacing((2.0, 2.0, 2.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))  # nilearn's arrays have RAS axes
        images.append(image)
    return images[0], images[1]


def _pairs(native: Path) -> Iterator[tuple[str, sitk.Image, sitk.Image]]:
    def nifti(sequence: str) -> sitk.Image:
        return sitk.ReadImage(str(native / "TCGA-FG-6692" / f"TCGA-FG-6692_{sequence}.nii.gz"), sitk.sitkFloat32)

    yield "TCGA-FG-6692 with skull, agreement of T1 and T1ce", nifti("t1"), nifti("t1ce")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(native / "BRAINIX_dicom.tar.xz") as tar:
            tar.extractall(folder)

        def dicom(sequence: str) -> sitk.Image:
            series = next(Path(folder).rglob(sequence))
            files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series))
            return sitk.ReadImage(files, sitk.sitkFloat32)

        first = dicom("T2")
        for sequence in ("T1", "FLAIR"):
            yield f"BRAINIX with skull, agreement of T2 and {sequence}", first, dicom(sequence)
