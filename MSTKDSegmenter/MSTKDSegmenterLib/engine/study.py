"""A study: the images of one patient by sequence, read, recognised and checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .appearance import recognise_intensities
from .background import background_value
from .checking import check_image
from .errors import SAY_SO, UnusableInput
from .reading import PathLike, Reading, check_path, read, read_image
from .sequences import SEQUENCES, in_channel_order, recognise_dicom, recognise_name
from .study_folder import Found, search
from .words import describe, unprocessed

__all__ = [
    "SequenceImage",
    "Study",
    "check_study",
    "read_image",
    "study_from_files",
    "study_from_folder",
    "study_from_images",
]

LEAST_OVERLAP = 0.5
"""Share of the smaller field of view that must lie in the other: images of one head share most of it."""
_MOST_ALIKE = 0.99
"""Correlation of intensities from which on two images are one: 84 pairs of sequences of 14 BraTS studies reach 0.77,
copies of one image 0.9999 when rescaled to 8 bits, 0.997 with 1% noise, 0.996 when clipped at 0.1% of the voxels."""
_SAMPLES = 100_000
_PATIENT_ID, _STUDY_DATE, _STUDY_UID = "0010,0020", "0008,0020", "0020,000d"


@dataclass
class SequenceImage:
    """One sequence of a study.

    Attributes:
        sequence: one of ``SEQUENCES``.
        image: 3-D, float32, LPS (mm), finite values.
        source: the path it came from (of a DICOM series: its folder), or the name of the volume.
        recognised_by: why it is taken for this sequence.
    """

    sequence: str
    image: sitk.Image
    source: str
    recognised_by: str


@dataclass
class Study:
    """Images by sequence in channel order, and what the reader of the report should know about the input.

    same_patient: the user says that they are of one patient even where their anatomy or their headers disagree.
    """

    images: dict[str, SequenceImage]
    notes: list[str] = field(default_factory=list)
    same_patient: bool = False

    @property
    def subset(self) -> tuple[str, ...]:
        """The sequences that are there, in channel order."""
        return in_channel_order(self.images)


def study_from_files(files: Mapping[str, PathLike], same_patient: bool = False) -> Study:
    """The study of the given files or DICOM series folders, by sequence.

    Args:
        same_patient: see ``Study``.

    Raises:
        UnusableInput: a file that cannot be used, or images that are not one study (see ``check_study``).
        KeyError: a key that is not one of ``SEQUENCES``.
    """
    for path in files.values():
        check_path(path)
    _refuse_same_path({sequence: Path(files[sequence]) for sequence in in_channel_order(files)})
    readings = {sequence: read(files[sequence]) for sequence in in_channel_order(files)}
    images = {
        sequence: SequenceImage(sequence, reading.image, str(files[sequence]), f"given as {sequence}")
        for sequence, reading in readings.items()
    }
    notes = [note for reading in readings.values() for note in reading.notes]
    for sequence, reading in readings.items():
        notes += _doubts(sequence, Path(files[sequence]), reading)
    return _finished(Study(images, notes, same_patient), readings)


def study_from_folder(folder: PathLike, same_patient: bool = False) -> Study:
    """The study in ``folder``: image files, DICOM series, or both, up to three folder levels down, sorted by itself.

    What was found but not used is said in ``Study.notes``.

    Args:
        same_patient: see ``Study``.

    Raises:
        UnusableInput: no sequence recognised, two images for one sequence, or images that cannot be used.
    """
    found, notes = search(Path(folder))
    readings: dict[str, Reading] = {}
    images: dict[str, SequenceImage] = {}
    for sequence, candidates in found.items():
        chosen, reading = _the_one(sequence, candidates, notes)
        readings[sequence] = reading
        images[sequence] = SequenceImage(sequence, reading.image, str(chosen.path), chosen.recognition.reason)
        notes += reading.notes
    return _finished(Study(images, notes, same_patient), readings)


def study_from_images(
    images: Mapping[str, sitk.Image],
    sources: Mapping[str, str] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Study:
    """The study of images that are in memory already.

    Args:
        images: by sequence; they are copied, not changed.
        sources: what they are called, by sequence, for messages.
        reasons: why they are taken for that sequence, where there is more to say than that they were given as it.

    Raises:
        UnusableInput: an image that cannot be used, or images that are not one study (see ``check_study``).
        KeyError: a key that is not one of ``SEQUENCES``.
    """
    study = Study({})
    for sequence in in_channel_order(images):
        source = (sources or {}).get(sequence, f"the {sequence} image")
        image, notes = check_image(images[sequence], source)
        reason = (reasons or {}).get(sequence, f"given as {sequence}")
        study.images[sequence] = SequenceImage(sequence, image, source, reason)
        study.notes += notes
    check_study(study)
    return study


def check_study(study: Study) -> None:
    """Whether the images, each fine by itself, make one study.

    Raises:
        UnusableInput: no image at all, the same image twice (be it with other intensities), or images that do not
            overlap in space.
    """
    if not study.images:
        msg = f"No sequence is given. At least one of {', '.join(SEQUENCES)} is needed."
        raise UnusableInput(msg)
    for conflict in conflicts(study):
        raise UnusableInput(conflict)


def conflicts(study: Study) -> Iterator[str]:
    """For every pair of images that cannot be of one study, why and what to do: see ``check_study``."""
    for first, second in combinations(study.images.values(), 2):
        alike = likeness(first.image, second.image)
        if alike > _MOST_ALIKE:
            but = "" if alike == 1 else f" but for its intensities, which correlate at {alike:.4f}"
            yield (
                f"{first.source} and {second.source}, taken as {first.sequence} and {second.sequence}, are the same "
                f"image{but}. Give each sequence its own image and leave out what is missing."
            )
            continue
        shared = overlap(first.image, second.image)
        if shared < LEAST_OVERLAP:
            yield (
                f"{_both(first, second)} do not overlap in space: they share {shared:.0%} of the smaller field of "
                f"view, expected at least {LEAST_OVERLAP:.0%}. They are of different bodies, or one has lost its "
                "position; export it again or leave it out."
            )


def same_image(first: sitk.Image, second: sitk.Image) -> bool:
    """Whether two 3-D images hold the same voxels, whatever the order they are stored in (flipped or permuted axes).

    The position is not compared: equal voxels elsewhere are a copy with a changed header, and no second sequence.
    """
    return likeness(first, second) == 1.0


def likeness(first: sitk.Image, second: sitk.Image) -> float:
    """How much two images are one with other intensities, 0 to 1: 1 if ``same_image``, 0 if of different sizes.

    Between, the absolute Pearson correlation over a lattice of voxels where one of the two is not background (the
    value of its outermost voxels, or 0), which would make any two images of one head alike.
    """
    if sorted(first.GetSize()) != sorted(second.GetSize()):
        return 0.0
    whole = _in_lps_order(first), _in_lps_order(second)
    if whole[0].shape != whole[1].shape:
        return 0.0
    step = max(1, round((whole[0].size / _SAMPLES) ** (1 / 3)))
    one, other = (values[::step, ::step, ::step].astype(np.float64) for values in whole)
    if np.array_equal(one, other) and np.array_equal(*whole):
        return 1.0
    foreground = (one != (background_value(first) or 0.0)) | (other != (background_value(second) or 0.0))
    one, other = (values[foreground] - values[foreground].mean() for values in (one, other))
    length = np.linalg.norm(one) * np.linalg.norm(other)
    # equal but for a few voxels between those of the lattice is a little less than the same
    return min(float(np.abs(one @ other) / length), np.nextafter(1.0, 0.0)) if length > 0 else 0.0


def _in_lps_order(image: sitk.Image) -> np.ndarray:
    """The voxels (z, y, x) with their axes reordered and reversed to be close to LPS: a view, nothing is copied."""
    one_voxel = sitk.Image(1, 1, 1, sitk.sitkUInt8)
    one_voxel.SetDirection(image.GetDirection())
    orient = sitk.DICOMOrientImageFilter()
    orient.SetDesiredCoordinateOrientation("LPS")
    orient.Execute(one_voxel)
    order, flips = orient.GetPermuteOrder(), orient.GetFlipAxes()
    view = sitk.GetArrayViewFromImage(image).transpose([2 - axis for axis in reversed(order)])
    return view[tuple(slice(None, None, -1 if flip else 1) for flip in reversed(flips))]


def overlap(first: sitk.Image, second: sitk.Image) -> float:
    """Share of the smaller field of view that lies within the other, measured at a lattice of its voxels."""
    small, large = sorted((first, second), key=_volume)
    steps = [np.linspace(0, length - 1, 16) for length in small.GetSize()]
    indices = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1).reshape(-1, 3)
    points = indices * small.GetSpacing() @ _axes(small).T + small.GetOrigin()
    inside = (points - large.GetOrigin()) @ _axes(large) / large.GetSpacing()
    within = np.all((inside >= -0.5) & (inside <= np.array(large.GetSize()) - 0.5), axis=1)
    return float(within.mean())


def _volume(image: sitk.Image) -> float:
    return float(np.prod(image.GetSize()) * np.prod(image.GetSpacing()))


def _axes(image: sitk.Image) -> np.ndarray:
    return np.array(image.GetDirection()).reshape(3, 3)


def _finished(study: Study, readings: Mapping[str, Reading]) -> Study:
    study.notes += _check_one_patient(study, readings)
    study.notes += _in_names(study)
    check_study(study)
    study.notes += _in_intensities(study)
    return study


def _check_one_patient(study: Study, readings: Mapping[str, Reading]) -> list[str]:
    """Refuse different DICOM patients; the identifiers themselves stay out of messages, the sources say which."""
    notes = []
    tagged = [sequence for sequence in study.images if readings[sequence].tags]
    for first, second in combinations(tagged, 2):
        one, other = readings[first].tags, readings[second].tags
        sources = _both(study.images[first], study.images[second])
        if _differ(one, other, _PATIENT_ID):
            told = f"{sources} have different DICOM patient IDs."
            if not study.same_patient:
                raise UnusableInput(
                    f"{told} Give the sequences of one patient only. If they are of one patient all the same, {SAY_SO}"
                )
            notes.append(told)
        if _differ(one, other, _STUDY_DATE):
            notes.append(f"{sources} are of different dates: {one[_STUDY_DATE]} and {other[_STUDY_DATE]}.")
        elif _differ(one, other, _STUDY_UID):
            notes.append(f"{sources} are of different examinations (DICOM study UIDs).")
    return notes


def _both(first: SequenceImage, second: SequenceImage) -> str:
    return f"{first.source} ({first.sequence}) and {second.source} ({second.sequence})"


def _in_names(study: Study) -> Iterator[str]:
    """A note for each pair of images of different subjects or sessions by the names of BIDS."""
    for first, second in combinations(study.images.values(), 2):
        for entity, what in (("sub", "subjects"), ("ses", "sessions")):
            one, other = (bids_entity(image.source, entity) for image in (first, second))
            if one and other and one != other:
                yield f"{_both(first, second)} are of different {what} by their names: {one} and {other}."


def bids_entity(source: str, entity: str) -> str:
    """What the names of BIDS (https://bids.neuroimaging.io) say, as in sub-01/ses-2/anat/sub-01_ses-2_FLAIR.nii.gz."""
    found = re.findall(rf"(?:^|[/\\_])({entity}-[0-9A-Za-z]+)", source)
    return found[-1] if found else ""


def _in_intensities(study: Study) -> Iterator[str]:
    """A note for each image that looks like another sequence, where its intensities tell that."""
    for sequence, image in study.images.items():
        seen = recognise_intensities(image.image)
        if seen.sequence not in (None, sequence):
            yield f"{image.source} is used as {sequence}, but {seen.reason}. Check whether it is one."


def _differ(one: Mapping[str, str], other: Mapping[str, str], tag: str) -> bool:
    return bool(one.get(tag)) and bool(other.get(tag)) and one[tag] != other[tag]


def _refuse_same_path(paths: Mapping[str, Path]) -> None:
    for first, second in combinations(paths, 2):
        if paths[first].resolve() == paths[second].resolve():
            msg = (
                f"The same file is given as {first} and as {second}: {paths[first]}. "
                "Give each sequence its own file and leave out what is missing."
            )
            raise UnusableInput(msg)


def _doubts(sequence: str, path: Path, reading: Reading) -> list[str]:
    """A note where a file says it is another sequence than the one it was given as."""
    seen = recognise_dicom(reading.tags) if reading.tags else recognise_name(path.name)
    if (seen.sequence is None and not seen.excluded) or seen.sequence == sequence:
        return []
    looks = f"looks like {seen.sequence}" if seen.sequence else "looks like none of the four"
    return [f"{path} is used as {sequence}, as it was given, but {looks}: {seen.reason}."]


def _least_processed(candidates: list[Found], notes: list[str]) -> list[Found]:
    """Without those that by their names are another one with other intensities: UCSF-PDGM has FLAIR and FLAIR_bias."""
    kept = []
    for one in candidates:
        plainer = next((other for other in candidates if _plainer(other.path, one.path)), None)
        if plainer is None:
            kept.append(one)
        else:
            notes.append(f"{one.label}: not used, by its name {plainer.label} with other intensities.")
    return kept


def _plainer(path: Path, than: Path) -> bool:
    one, other = path.name, than.name
    alike = path.parent == than.parent and unprocessed(one) == unprocessed(other)
    return alike and len(describe(one)) < len(describe(other))


def _the_one(sequence: str, candidates: list[Found], notes: list[str]) -> tuple[Found, Reading]:
    """The candidate for a sequence: several are fine only as copies of one image, e.g. DICOM and its conversion."""
    candidates = _least_processed(candidates, notes)
    chosen, reading = candidates[0], candidates[0].read()
    for other in candidates[1:]:
        if other.resolved != chosen.resolved and not same_image(reading.image, other.read().image):
            listed = "; ".join(f"{one.label} ({one.recognition.reason})" for one in (chosen, other))
            more = f" and {len(candidates) - 2} more" if len(candidates) > 2 else ""
            msg = (
                f"{len(candidates)} images look like {sequence}: {listed}{more}. Name the one that is meant, "
                f"with --{sequence.lower()} FILE (and the other sequences likewise), or move the others away."
            )
            raise UnusableInput(msg)
        notes.append(f"{other.label}: not used, the same image as {chosen.label}.")
    return chosen, reading
