"""Grids in physical space, and the one way images are brought from one grid to another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import permutations, product

import numpy as np
import SimpleITK as sitk

ANTIALIAS_SIGMA = 0.42
"""Standard deviation of the Gaussian before downsampling, in target voxels: 0.42 = 1 / (2 sqrt(2 ln 2)) makes its
full width at half maximum one target voxel, as if the scanner had measured voxels of that size."""

HALF = 0.499
"""Where an interpolated mask ends: just below a half, so that a sample exactly between a voxel of the mask and another
one is always in, whatever the rounding."""


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an image lie in physical space (LPS, mm).

    ``size``, ``spacing`` and ``origin`` are in x, y, z order, ``direction`` is the row-major 3x3 matrix whose columns
    are the physical directions of the voxel axes, all exactly as SimpleITK has them.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def of(cls, image: sitk.Image) -> Grid:
        """The grid of a 3-D image."""
        return cls(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (z, y, x) of an array on this grid."""
        return self.size[2], self.size[1], self.size[0]

    @property
    def axes(self) -> np.ndarray:
        """(3, 3) matrix; its columns are the physical unit vectors of the voxel axes."""
        return np.array(self.direction, dtype=float).reshape(3, 3)

    def physical(self, index: np.ndarray) -> np.ndarray:
        """Physical points (..., 3) in mm of continuous voxel indices (..., 3) in x, y, z order."""
        return np.asarray(self.origin) + (np.asarray(index, dtype=float) * self.spacing) @ self.axes.T

    def corners(self) -> np.ndarray:
        """(8, 3) physical points: the outer corners of the corner voxels."""
        ends = [(-0.5, n - 0.5) for n in self.size]
        return self.physical(np.array(list(product(*ends))))

    def matches(self, other: Grid) -> bool:
        """Whether both grids have the same voxels: no voxel is displaced by more than a hundredth of its side."""
        if self.size != other.size:
            return False
        return bool(np.abs(self.corners() - other.corners()).max() <= 0.01 * min(self.spacing))

    def empty_image(self, pixel_type: int) -> sitk.Image:
        """An image of zeros on this grid."""
        return self._place(sitk.Image(self.size, pixel_type))

    def image(self, array: np.ndarray) -> sitk.Image:
        """The (z, y, x) array as an image on this grid; bool becomes uint8."""
        if array.shape != self.shape:
            raise ValueError(f"The array has shape {array.shape}, the grid {self.shape} (z, y, x); they must be equal.")
        return self._place(sitk.GetImageFromArray(array.astype(np.uint8) if array.dtype == bool else array))

    def to_dict(self) -> dict[str, list]:
        """For report.json: plain lists, x, y, z order, mm, LPS."""
        return {key: list(value) for key, value in asdict(self).items()}

    def _place(self, image: sitk.Image) -> sitk.Image:
        image.SetSpacing(self.spacing)
        image.SetOrigin(self.origin)
        image.SetDirection(self.direction)
        return image


def shear(axes: np.ndarray) -> float:
    """The largest cosine between two columns of a (3, 3) matrix of unit vectors: 0 where all are perpendicular."""
    return float(np.abs(axes.T @ axes - np.eye(3)).max())


def nearest_rotation(axes: np.ndarray) -> np.ndarray:
    """The (3, 3) matrix with perpendicular unit columns that is nearest to ``axes``: its orthogonal polar factor."""
    left, _, right = np.linalg.svd(axes)
    return left @ right


def canonical(image: sitk.Image) -> sitk.Image:
    """The same image with its axes reordered and flipped to be nearest to L, P, S. No voxel moves in space.

    Of the 24 relabellings that give a right-handed grid, the one nearest to LPS is taken; obliqueness is kept.
    """
    order, signs = _nearest_relabelling(Grid.of(image).axes)
    # flipping reverses the axis in the header as well, so that the anatomy stays where it is
    return sitk.Flip(sitk.PermuteAxes(image, order), [sign < 0 for sign in signs])


def _nearest_relabelling(axes: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Order and signs that turn the columns of ``axes`` into the proper rotation with the smallest angle."""

    def rank(candidate: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[float, ...]:
        order, signs = candidate
        matrix = np.round(axes[:, order] * signs, 6)
        # the trace is 1 + 2 cos(angle); at a tie (45 degrees) the matrix itself decides, not how it was labelled
        return (-float(np.trace(matrix)), *matrix.ravel())

    candidates = product(permutations(range(3)), product((1, -1), repeat=3))
    return min((c for c in candidates if np.linalg.det(axes[:, c[0]] * c[1]) > 0), key=rank)


def working_grid(brain: sitk.Image, spacing: float, margin: float, multiple: int) -> Grid:
    """The grid the network works on: an isotropic box around the brain along the reference's own axes.

    The axes are those of ``brain``'s grid, relabelled to be nearest to L, P, S (see ``canonical``), so a flipped,
    permuted or rotated header gives the same voxel array. Along axes that are at least as fine as ``spacing`` the
    samples coincide with voxel centres of the reference where the spacings allow it.

    Args:
        brain: mask on the reference's grid, nonzero in the brain, not empty.
        spacing: side of the cubic voxels, mm.
        margin: at least this much around the brain, mm (half a reference voxel less where the grid is aligned).
        multiple: every side of the grid is a multiple of this many voxels.

    Raises:
        ValueError: the mask is empty.
    """
    brain = canonical(sitk.Cast(brain != 0, sitk.sitkUInt8))
    grid = Grid.of(brain)
    statistics = sitk.LabelShapeStatisticsImageFilter()
    statistics.Execute(brain)
    if not statistics.HasLabel(1):
        raise ValueError("The brain mask is empty; a working grid needs at least one brain voxel.")
    box = statistics.GetBoundingBox(1)
    size, first = [], []
    for axis in range(3):
        step = grid.spacing[axis]
        start, extent = (box[axis] - 0.5) * step - margin, box[axis + 3] * step + 2 * margin
        count = multiple * int(np.ceil(extent / (spacing * multiple) - 1e-6))
        # mm along the axis from the reference's first voxel centre to the first working voxel centre
        offset = start + (extent - (count - 1) * spacing) / 2
        if step <= spacing:
            offset = np.ceil(offset / step - 0.5 - 1e-6) * step  # to the nearest centre; a tie goes down, always
        size.append(count)
        first.append(offset / step)
    origin = tuple(float(value) for value in grid.physical(np.array(first)))
    return Grid(tuple(size), (float(spacing),) * 3, origin, grid.direction)


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...]:
    """The smallest box around all True voxels, and ``margin`` more on each side where the array has them.

    One voxel if there are none.
    """
    box = []
    for axis, side in enumerate(mask.shape):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        hit = np.flatnonzero(mask.any(axis=others))
        inside = slice(max(0, int(hit[0]) - margin), min(side, int(hit[-1]) + 1 + margin)) if hit.size else slice(0, 1)
        box.append(inside)
    return tuple(box)


def resample(
    image: sitk.Image,
    grid: Grid,
    interpolator: int = sitk.sitkLinear,
    transform: sitk.Transform | None = None,
    default: float = 0.0,
    antialias: bool = False,
) -> sitk.Image:
    """The image on another grid, interpolated once.

    Args:
        image: any 3-D image.
        grid: where the result lies.
        interpolator: e.g. ``sitk.sitkLinear``.
        transform: from physical points of ``grid`` to physical points of ``image`` (LPS, mm); identity if None.
        default: value where ``image`` has no voxels.
        antialias: smooth before, along those voxel axes of ``image`` that are finer than ``grid`` is along them
            (Gaussian, sigma 0.42 target voxels less the width a source voxel already has). For intensities that are
            downsampled, not for labels.

    Returns:
        An image on ``grid`` with the pixel type of ``image``, float32 if ``antialias`` had to smooth an integer image.
    """
    transform = sitk.Transform(3, sitk.sitkIdentity) if transform is None else transform
    if antialias:
        image = _smoothed(image, grid, transform)
    return sitk.Resample(image, grid.size, transform, interpolator, grid.origin, grid.spacing, grid.direction, default)


def _smoothed(image: sitk.Image, grid: Grid, transform: sitk.Transform) -> sitk.Image:
    """What the grid needs of ``image``, blurred along its axes that are finer than the grid's voxels, float32."""
    source = Grid.of(image)
    # the width of a target voxel along each source axis; a rigid transform turns it a little for anisotropic targets
    # only, which is neglected
    target = np.sqrt((((grid.axes.T @ source.axes).T * grid.spacing) ** 2).sum(axis=1))
    sigmas = ANTIALIAS_SIGMA * np.sqrt(np.maximum(target**2 - np.square(source.spacing), 0.0))
    if not sigmas.any():
        return image
    needed = _cropped(image, grid, transform, reach=4 * sigmas)
    # the discrete Gaussian has the right variance even for a sigma below one voxel; the recursive one is 6 % off
    return sitk.DiscreteGaussian(sitk.Cast(needed, sitk.sitkFloat32), (sigmas**2).tolist(), 32, 0.001, True)


def _cropped(image: sitk.Image, grid: Grid, transform: sitk.Transform, reach: np.ndarray) -> sitk.Image:
    """The part of ``image`` that lies under the grid, and ``reach`` mm around it along each axis. For speed only."""
    source = Grid.of(image)
    corners = np.array([transform.TransformPoint(corner.tolist()) for corner in grid.corners()])
    indices = (corners - source.origin) @ source.axes / source.spacing
    border = reach / source.spacing + 2
    first = np.maximum(np.floor(indices.min(axis=0) - border), 0).astype(int)
    end = np.minimum(np.ceil(indices.max(axis=0) + border) + 1, source.size).astype(int)
    if np.any(end - first < 2):  # they hardly overlap
        return image
    return sitk.RegionOfInterest(image, (end - first).tolist(), first.tolist())
