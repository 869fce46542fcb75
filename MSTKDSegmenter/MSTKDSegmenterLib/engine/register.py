"""Rigid registration of one sequence to the reference, and the judgement whether it can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk

from .errors import SAY_SO, Cancelled, UnusableInput
from .geometry import HALF, Grid, canonical, nearest_rotation, resample
from .progress import Job
from .similarity import Agreement

COARSE_MM, FINE_MM = 5.0, 2.5
"""Voxel sides of the two levels. The coarse one bridges rotations of 45 degrees and shifts of 50 mm."""

RIM_MM = 5.0
"""The region compared reaches this far beyond the brain: its outline holds much of what fixes the position."""

INSIDE_MM = 10.0
"""How far within its outline a brain is compared where the outline may say nothing, see ``register_inside``."""

STAYS_MM = 1.5
"""A motion that displaces the brain by less (root mean square) is within the method's own error and is not applied."""

LARGEST_ROTATION_DEG, LARGEST_TRANSLATION_MM = 45.0, 100.0
"""Heads do not turn further in a scanner between two sequences."""

SMALLEST_COVERAGE = 0.3

DIFFERENT, DOUBTFUL = 2.2, 2.5
"""Sharpness (see similarity.py) below which two images are taken for two patients, and below which it is said.

Measured after registration: 19 pairs of one patient had 2.6 to 6.3 (BraTS, also with 6 mm slices across each other;
TCGA with 5.5 mm slices; BRAINIX), 24 pairs of different patients 1.4 to 2.19, with and without skull. The two overlap
where slices are thicker still: pairs of one patient with 7 mm slices across each other had 2.0 and 2.1. That is why the
user can insist.
"""

_ROTATION_SCALE = 40.0**2  # mm^2: a radian moves brain tissue by about 40 mm, so steps weigh rotation and shift alike
_RETRY_ANGLE = np.radians(25.0)


@dataclass(frozen=True)
class Registration:
    """How a sequence lies against the reference.

    transform: from physical points of the reference to physical points of the sequence (LPS, mm).
    rotation_deg, translation_mm: of the motion found; the translation is that of the brain's centre.
    similarity_before, similarity_after: normalised mutual information as given, and with ``transform``.
    sharpness: see ``Agreement.sharpness``. coverage: share of the brain in the sequence's field of view.
    mirrored: they agree better with one of them turned left for right, and the user insists.
    """

    transform: sitk.Transform
    registered: bool
    rotation_deg: float
    translation_mm: float
    similarity_before: float
    similarity_after: float
    sharpness: float
    coverage: float
    judgement: str
    mirrored: bool

    @property
    def doubtful(self) -> bool:
        """Whether the agreement is weaker than that of two sequences of one patient usually is."""
        return self.sharpness < DOUBTFUL

    def to_dict(self) -> dict[str, object]:
        """For report.json, numbers rounded to what is meaningful."""
        return {
            "registered": self.registered,
            "rotation_deg": round(self.rotation_deg, 2),
            "translation_mm": round(self.translation_mm, 2),
            "similarity_before": round(self.similarity_before, 4),
            "similarity_after": round(self.similarity_after, 4),
            "sharpness": round(self.sharpness, 2),
            "coverage": round(self.coverage, 3),
            "judgement": self.judgement,
            "mirrored": self.mirrored,
        }


def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    brain: sitk.Image,
    same_extent: bool = True,
    job: Job | None = None,
    same_patient: bool = False,
) -> Registration:
    """Find the rigid motion between two images of one head, starting from their positions in the scanner.

    Mattes mutual information over every voxel of two resolution levels, one thread, no random sampling: the same
    input gives the same transform on every machine. Everything is computed in the coordinates of the fixed image's
    axes, so that turning or shifting the headers of both images changes nothing.

    Args:
        fixed, moving: 3-D float32, with or without skull.
        brain: mask on the grid of ``fixed``, not empty.
        same_extent: both show the skull or neither does; then the coarse level may use the outline of the head.
        job: asked for cancellation in every iteration.
        same_patient: the user says so; anatomy that disagrees is then no reason to refuse.

    Raises:
        UnusableInput: the images are not of one head, or the moving one shows too little of it. The text starts in
            lower case with what was found; the caller puts the names of the sequences in front.
        Cancelled: on request.
    """
    return _registered(_Pair(fixed, moving, brain, same_extent, job or Job()), same_patient)


def register_inside(fixed: sitk.Image, moving: sitk.Image, brain: sitk.Image, job: Job | None = None) -> Registration:
    """The same of two skull-stripped images without looking at their outlines, which one mask for both makes coincide
    wherever they lie. Nothing is refused for its sharpness or a mirrored image: a few pairs of one patient agree as
    little inside as those of two.

    Raises:
        UnusableInput: no plausible motion was found.
        Cancelled: on request.
    """
    return _registered(_Pair(fixed, moving, brain, False, job or Job(), inside=True), same_patient=True)


def _registered(pair: _Pair, same_patient: bool) -> Registration:
    still = pair.motion(np.zeros(6))
    found = pair.refined(pair.coarse(np.zeros(6)))
    if not _plausible(found, pair) or pair.agreement.sharpness(found) < DIFFERENT:
        # perhaps only the start was bad: of several others, the one that is best at the coarse level goes on
        starts = [pair.coarse(start) for start in pair.other_starts()]
        second = pair.refined(min(starts, key=lambda start: start[1]))
        found = max(found, second, key=lambda m: (_plausible(m, pair), pair.agreement.similarity(m)))
    mirrored = _agrees_better(pair.mirrored(), pair.agreement.similarity(found))
    return _judged(pair, still, found, mirrored, same_patient)


class _Pair:
    """Both images on the working levels, in coordinates (mm) along the fixed image's axes, and the brain's outline."""

    def __init__(
        self,
        fixed: sitk.Image,
        moving: sitk.Image,
        brain: sitk.Image,
        same_extent: bool,
        job: Job,
        inside: bool = False,
    ) -> None:
        self.job = job
        fixed, moving, brain = (canonical(image) for image in (fixed, moving, brain))
        self._origin = np.array(fixed.GetOrigin())
        # NIfTI headers hold float32: the nearest exact rotation, so that the result is one
        self._axes = nearest_rotation(Grid.of(fixed).axes)
        self._fixed = _level(self._along_axes(fixed), FINE_MM)
        self._moving = _level(self._along_axes(moving), FINE_MM)
        grid = Grid.of(self._fixed)
        brain = resample(self._along_axes(sitk.Cast(brain != 0, sitk.sitkFloat32)), grid, antialias=True) > HALF
        points = grid.physical(np.argwhere(sitk.GetArrayViewFromImage(brain))[:, ::-1])
        self.points = points[:: max(1, len(points) // 1000)]
        self.centre = points.mean(axis=0)
        if inside:
            self._region = sitk.BinaryErode(brain, (round(INSIDE_MM / FINE_MM),) * 3)
        else:
            self._region = sitk.BinaryDilate(brain, (round(RIM_MM / FINE_MM),) * 3)
        self._coarse_region = None if same_extent else self._region
        self._coarse = _level(self._fixed, COARSE_MM), _level(self._moving, COARSE_MM)
        self.agreement = Agreement(self._fixed, self._region, self._moving)

    def motion(self, parameters: Sequence[float]) -> sitk.Euler3DTransform:
        """Three angles (radians) about the brain's centre and three shifts (mm)."""
        transform = sitk.Euler3DTransform()
        transform.SetCenter(self.centre.tolist())
        transform.SetParameters([float(value) for value in parameters])
        return transform

    def coarse(self, start: Sequence[float]) -> tuple[sitk.Euler3DTransform, float]:
        """The optimum near ``start`` at the coarse level, and its metric (the lower, the better)."""
        motion = self.motion(start)
        value = _optimise(*self._coarse, self._coarse_region, motion, step=2.0, smallest_step=0.05, job=self.job)
        return motion, value

    def refined(self, start: tuple[sitk.Euler3DTransform, float]) -> sitk.Euler3DTransform:
        """The optimum at the fine level near the one of the coarse level."""
        motion = sitk.Euler3DTransform(start[0])
        _optimise(self._fixed, self._moving, self._region, motion, step=1.0, smallest_step=0.01, job=self.job)
        return motion

    def other_starts(self) -> list[np.ndarray]:
        """The fields of view centred on each other, and a nod either way: how heads move most."""
        moving = Grid.of(self._moving)
        centring = moving.corners().mean(axis=0) - Grid.of(self._fixed).corners().mean(axis=0)
        nod = np.array([_RETRY_ANGLE, 0, 0, 0, 0, 0])
        return [np.array([0, 0, 0, *centring]), nod, -nod]

    def mirrored(self) -> _Pair:
        """The same, the fixed image turned left for right in its field of view."""
        other = copy(self)
        other._fixed, other._region = _turned(self._fixed), _turned(self._region)
        other._coarse = _turned(self._coarse[0]), self._coarse[1]
        other._coarse_region = None if self._coarse_region is None else other._region
        other.agreement = Agreement(other._fixed, other._region, self._moving)
        return other

    def physical(self, motion: sitk.Euler3DTransform) -> sitk.Euler3DTransform:
        """The same motion in LPS."""
        transform = sitk.Euler3DTransform()
        transform.SetCenter((self._axes @ self.centre + self._origin).tolist())
        matrix = self._axes @ np.reshape(motion.GetMatrix(), (3, 3)) @ self._axes.T
        transform.SetMatrix(matrix.ravel().tolist(), 1e-6)
        transform.SetTranslation((self._axes @ motion.GetTranslation()).tolist())
        return transform

    def _along_axes(self, image: sitk.Image) -> sitk.Image:
        grid = Grid.of(image)
        image = sitk.Image(image)
        image.SetOrigin((self._axes.T @ (np.array(grid.origin) - self._origin)).tolist())
        image.SetDirection((self._axes.T @ grid.axes).ravel().tolist())
        return image


def _agrees_better(pair: _Pair, similarity: float) -> bool:
    """Whether these two are surely of one head and agree better than that.

    T1ce and another sequence, one of them turned left for right, had a sharpness of 1.9 to 2.8, and of 3.0 to 4.4 when
    it was turned back (14 BraTS studies, TCGA-FG-6692).
    """
    found = pair.refined(pair.coarse(np.zeros(6)))
    return pair.agreement.sharpness(found) >= DOUBTFUL and pair.agreement.similarity(found) > similarity


def _turned(image: sitk.Image) -> sitk.Image:
    """From right to left, its axes being those of the head."""
    turned = sitk.Flip(image, (True, False, False))
    turned.CopyInformation(image)
    return turned


def _level(image: sitk.Image, spacing: float) -> sitk.Image:
    """The image on cubic voxels over the same field of view; thick slices are interpolated."""
    grid = Grid.of(image)
    extent = np.array(grid.size) * grid.spacing
    size = np.maximum(np.ceil(extent / spacing - 1e-6), 4).astype(int)
    first = (extent - (size - 1) * spacing) / 2 / grid.spacing - 0.5
    origin = tuple(grid.physical(first).tolist())
    return resample(image, Grid(tuple(size.tolist()), (spacing,) * 3, origin, grid.direction), antialias=True)


def _optimise(
    fixed: sitk.Image,
    moving: sitk.Image,
    region: sitk.Image | None,
    motion: sitk.Euler3DTransform,
    step: float,
    smallest_step: float,
    job: Job,
) -> float:
    """Change ``motion`` to the nearest optimum of mutual information; steps in mm. Returns the metric."""
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfWorkUnits(1)  # sums are added in one order, however many cores there are
    method.SetMetricAsMattesMutualInformation(32)
    if region is not None:
        method.SetMetricFixedMask(region)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step, smallest_step, 100, gradientMagnitudeTolerance=1e-8)
    method.SetOptimizerScales([_ROTATION_SCALE] * 3 + [1.0] * 3)
    method.SetShrinkFactorsPerLevel([1])
    method.SetSmoothingSigmasPerLevel([0])
    method.SetInitialTransform(motion, inPlace=True)

    def stop_if_cancelled() -> None:
        try:
            job.check()
        except Cancelled:  # must not leave a callback from C++
            method.StopRegistration()

    method.AddCommand(sitk.sitkIterationEvent, stop_if_cancelled)
    try:
        method.Execute(fixed, moving)
    except RuntimeError:
        # ITK gives up when hardly any sample lies in the moving image; where it was is judged like any other result
        return float("inf")
    finally:
        job.check()
    return float(method.GetMetricValue())


def _judged(
    pair: _Pair, still: sitk.Euler3DTransform, found: sitk.Euler3DTransform, mirrored: bool, same_patient: bool
) -> Registration:
    if mirrored and not same_patient:
        raise UnusableInput(
            "they agree better with one of them turned left for right, expected to agree as they are. The orientation "
            "of one is wrong: make it again from the scanner's files, or leave it out. If both are right all the same, "
            f"{SAY_SO}"
        )
    rotation, translation = _size(found, pair)
    before, after = pair.agreement.similarity(still), pair.agreement.similarity(found)
    displaced = np.array([found.TransformPoint(point.tolist()) for point in pair.points]) - pair.points
    displacement = float(np.sqrt((displaced**2).sum(axis=1).mean()))
    if displacement < STAYS_MM:
        used, judgement = still, f"already aligned: the best fit is {displacement:.1f} mm away, left as it is"
    elif after <= before:
        used, judgement = still, "already aligned: no rigid motion improves the agreement, left as it is"
    else:
        used, judgement = found, f"moved by {displacement:.1f} mm (root mean square over the brain)"
    if used is found and not _plausible(found, pair):
        raise UnusableInput(
            f"only a rotation of {rotation:.0f} degrees and a shift of {translation:.0f} mm would bring them together, "
            f"expected at most {LARGEST_ROTATION_DEG:.0f} degrees and {LARGEST_TRANSLATION_MM:.0f} mm. They seem to be "
            "of different bodies or patients, or one has a wrong orientation; check them, or leave one out."
        )
    coverage, sharpness = pair.agreement.coverage(used), pair.agreement.sharpness(used)
    if coverage < SMALLEST_COVERAGE:
        raise UnusableInput(
            f"they share {coverage:.0%} of the brain, expected at least {SMALLEST_COVERAGE:.0%}. They show different "
            "parts of the body; leave one of them out."
        )
    if sharpness < DIFFERENT and not same_patient:
        raise UnusableInput(
            f"they seem to be of different bodies or patients: after registration their agreement is only "
            f"{sharpness:.1f} times that of images laid 10 mm apart, expected about 3 and at least {DIFFERENT}. "
            "Check that both files are of the same patient, or leave one of them out. If they are of one patient all "
            f"the same, as very thick slices across each other can be, {SAY_SO}"
        )
    return Registration(
        pair.physical(used) if used is found else sitk.Transform(3, sitk.sitkIdentity),
        used is found,
        rotation,
        translation,
        before,
        pair.agreement.similarity(used),
        sharpness,
        coverage,
        judgement,
        mirrored,
    )


def _size(motion: sitk.Euler3DTransform, pair: _Pair) -> tuple[float, float]:
    """Rotation angle in degrees, shift of the brain's centre in mm."""
    cosine = (np.trace(np.reshape(motion.GetMatrix(), (3, 3))) - 1) / 2
    shift = np.array(motion.TransformPoint(pair.centre.tolist())) - pair.centre
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))), float(np.linalg.norm(shift))


def _plausible(motion: sitk.Euler3DTransform, pair: _Pair) -> bool:
    rotation, translation = _size(motion, pair)
    covered = pair.agreement.coverage(motion) >= SMALLEST_COVERAGE
    return covered and rotation <= LARGEST_ROTATION_DEG and translation <= LARGEST_TRANSLATION_MM
