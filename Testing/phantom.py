"""A simulated glioma study whose truth is known: for the demonstration and for tests, never for training.

Healthy anatomy comes from the MNI152 tissue maps that nilearn carries. An individual is drawn from the population maps
(turned, scaled, bent; its own folds), a tumour displaces it and grows oedema along the white matter, the four
sequences get their contrasts and a scanner's imperfections. Values are rounded from real glioma studies. A simulation
stays one: a Dice measured here says that the path works, not how good the model is on patients.

Arrays are (z, y, x) on a grid whose axes are L, P, S; lengths are mm.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage, special

FIELD_OF_VIEW = (240, 240, 155)
"""x, y, z in mm, as in BraTS."""
BOX = (152, 184, 156)
"""The part of it that is simulated, large enough for a brain."""
LABELS = {"NCR": 1, "ED": 2, "ET": 3}

# Brightness of white matter, grey matter, CSF, vessels and dura, oedema, necrotic core, enhancing rim.
TISSUES = ("WM", "GM", "CSF", "vessel", "ED", "NCR", "ET")
CONTRAST: dict[str, tuple[float, ...]] = {
    "FLAIR": (0.37, 0.52, 0.11, 0.20, 0.86, 0.70, 0.74),
    "T1": (0.82, 0.60, 0.28, 0.40, 0.60, 0.48, 0.58),
    "T1ce": (0.45, 0.36, 0.15, 0.90, 0.35, 0.24, 0.76),
    "T2": (0.30, 0.43, 1.00, 0.22, 0.64, 0.74, 0.56),
}
# Resolution (full width at half maximum, x, y, z), noise and intensity scale of each acquisition.
SCANNER: dict[str, tuple[tuple[float, float, float], float, float]] = {
    "FLAIR": ((1.2, 1.2, 3.0), 0.020, 420.0),
    "T1": ((0.9, 0.9, 1.4), 0.018, 900.0),
    "T1ce": ((0.9, 0.9, 1.2), 0.012, 1300.0),
    "T2": ((0.9, 0.9, 2.4), 0.018, 700.0),
}


@dataclass(frozen=True)
class PhantomStudy:
    """images: sequence -> float32 image, 0 outside the brain. truth: uint8 image, NCR 1, ED 2, ET 3, same grid."""

    images: dict[str, sitk.Image]
    truth: sitk.Image

    def write(self, folder: Path) -> dict[str, Path]:
        """NIfTI files named like a BraTS study, with the truth as `seg`; sequence -> path, without the truth."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = {sequence: folder / f"phantom_{sequence.lower()}.nii.gz" for sequence in self.images}
        for sequence, path in paths.items():
            sitk.WriteImage(sitk.Cast(self.images[sequence], sitk.sitkInt16), str(path))
        sitk.WriteImage(self.truth, str(folder / "phantom_seg.nii.gz"))
        return paths


def make_study(seed: int = 0, spacing: float = 1.0) -> PhantomStudy:
    """A patient with one glioma, skull-stripped and aligned like a BraTS study. Equal arguments, equal voxels.

    Args:
        seed: of everything that is random.
        spacing: side of the cubic voxels in mm; 1 takes about 20 s, 4 (for tests) half a second.
    """
    space = _Space(spacing, np.random.default_rng(seed))
    centre, radius = _site(space)
    white, grey, csf, brain = _anatomy(space, centre, radius)
    shares, labels = _tumour(space, centre, radius, white, grey, csf, brain)
    vessels = _vessels(space, brain, csf * (labels == 0))
    tissue = np.stack([white, grey, csf]) * (1 - shares.sum(axis=0))
    tissue = np.concatenate([tissue * (1 - vessels), (tissue.sum(axis=0) * vessels)[None], shares])
    texture = [space.field(sigma) for sigma in (1.0, 2.5, 8.0)]
    images = {sequence: space.image(_acquire(space, sequence, tissue, texture, brain)) for sequence in CONTRAST}
    return PhantomStudy(images, space.image(labels))


class _Space:
    """The simulated box: coordinates, random fields, and the way to an image with the whole field of view."""

    def __init__(self, spacing: float, rng: np.random.Generator) -> None:
        self.spacing, self.rng = spacing, rng
        self.shape = tuple(round(side / spacing) for side in reversed(BOX))

    def points(self) -> np.ndarray:
        """(3, z, y, x): x, y, z in mm from the middle of the box (L, P, S)."""
        axes = [(np.arange(n, dtype=np.float32) - (n - 1) / 2) * self.spacing for n in self.shape]
        return np.stack(np.meshgrid(*axes, indexing="ij")[::-1])

    def field(self, sigma: float) -> np.ndarray:
        """Smooth random field, mean 0, standard deviation 1, correlated over `sigma` mm."""
        step = max(1.0, sigma / self.spacing / 2)
        coarse = [int(np.ceil(n / step)) + 1 for n in self.shape]
        noise = self.rng.standard_normal(coarse).astype(np.float32)
        noise = ndimage.gaussian_filter(noise, sigma / self.spacing / step, mode="wrap")
        noise /= noise.std()
        if step == 1.0:
            return noise[tuple(slice(n) for n in self.shape)]
        index = [np.arange(n, dtype=np.float32) / step for n in self.shape]
        return ndimage.map_coordinates(noise, np.meshgrid(*index, indexing="ij"), order=1)

    def blur(self, array: np.ndarray, fwhm: tuple[float, float, float] | float) -> np.ndarray:
        """Gaussian of that full width at half maximum (x, y, z, mm)."""
        widths = np.broadcast_to(fwhm, 3)[::-1]
        return ndimage.gaussian_filter(array, widths / 2.355 / self.spacing)

    def image(self, array: np.ndarray) -> sitk.Image:
        """The box padded with zeros to the field of view, with a BraTS-like header."""
        whole = [round(side / self.spacing) for side in reversed(FIELD_OF_VIEW)]
        before = [(n - m) // 2 for n, m in zip(whole, array.shape)]
        # the box is a little higher than the field of view: there is only air at its ends
        array = array[tuple(slice(max(0, -b), max(0, -b) + n) for b, n in zip(before, whole))]
        before = [max(0, b) for b in before]
        image = sitk.GetImageFromArray(np.pad(array, [(b, n - m - b) for b, n, m in zip(before, whole, array.shape)]))
        image.SetSpacing((self.spacing,) * 3)
        image.SetOrigin((0.0, -float(FIELD_OF_VIEW[1]) + self.spacing, 0.0))
        return image


def _site(space: _Space) -> tuple[np.ndarray, float]:
    """Centre (x, y, z from the middle of the brain) and radius of the core: in the white matter of one hemisphere."""
    side = space.rng.choice((-1.0, 1.0))
    centre = np.array([side * space.rng.uniform(26, 32), space.rng.uniform(-14, 34), space.rng.uniform(8, 24)])
    return centre.astype(np.float32), float(space.rng.uniform(16, 19))


def _anatomy(space: _Space, centre: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """White matter, grey matter and CSF shares (sum 1 in the brain) and the brain mask of one displaced individual."""
    rng, points = space.rng, space.points()
    # mass effect: tissue at r was at r - push before the tumour grew
    offset = points - centre[:, None, None, None]
    distance = np.sqrt((offset**2).sum(axis=0)) + 1e-3
    push = (
        0.38 * radius * (1 - np.exp(-((distance / (0.7 * radius)) ** 2))) * np.exp(-((distance / (2.4 * radius)) ** 2))
    )
    points -= offset * (push / distance)
    points += 3.0 * np.stack([space.field(22.0) for _ in range(3)])
    turn = _rotation(np.deg2rad(rng.uniform(-5, 5, 3))) * (rng.uniform(1.06, 1.12) * rng.uniform(0.98, 1.02, 3))
    points = np.tensordot(turn.astype(np.float32), points, axes=1)
    maps = _population_maps()
    white, grey, mask = (
        ndimage.map_coordinates(maps[name], _to_index(points), order=1, prefilter=False) for name in ("wm", "gm", "t1")
    )
    brain = space.blur(ndimage.binary_fill_holes(mask > 0.3).astype(np.float32), 3.0) > 0.5
    fluid = np.clip(1.04 * (1.0 - white - grey) - 0.04, 0.0, 1.0) * brain
    white, grey = white * brain, grey * brain
    # The maps are averages of 152 people. This one's folds are the sheets where a random field is zero: along them
    # lies CSF, then grey matter, then white matter, each as wide as the maps say it is likely there.
    ripples = space.field(2.4)
    ripples -= space.blur(ripples, 9.0)
    height = special.erf(np.abs(ripples) / ripples.std() / np.sqrt(2))  # evenly distributed over 0..1
    folded_fluid = 1 / (1 + np.exp(np.clip((height - fluid) / 0.04, -30, 30)))
    folded_white = 1 / (1 + np.exp(np.clip((1 - white - height) / 0.04, -30, 30)))
    near_surface = np.clip((30.0 - ndimage.distance_transform_edt(brain, sampling=space.spacing)) / 6.0, 0.0, 1.0)
    fluid += near_surface * (folded_fluid * brain - fluid)
    white += near_surface * (np.minimum(folded_white, 1 - folded_fluid) * brain - white)
    return white, np.clip(brain - white - fluid, 0.0, 1.0), fluid, brain


def _rotation(angles: np.ndarray) -> np.ndarray:
    turn = sitk.Euler3DTransform((0.0, 0.0, 0.0), *(float(a) for a in angles))
    return np.array(turn.GetMatrix()).reshape(3, 3)


def _population_maps() -> dict[str, np.ndarray]:
    """MNI152 2009a white matter and grey matter shares and T1 brain, 0..1, (z, y, x) with x to the left, y back."""
    package = find_spec("nilearn")
    if package is None or not package.submodule_search_locations:
        raise RuntimeError("The phantom needs the MNI152 maps of the package nilearn: pip install nilearn")
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    maps = {}
    for name in ("wm", "gm", "t1"):
        image = sitk.ReadImage(str(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz"), sitk.sitkFloat32)
        maps[name] = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS")) / 255.0
    return maps


def _to_index(points: np.ndarray) -> list[np.ndarray]:
    """Points from the middle of the brain -> voxel indices (z, y, x) in the MNI152 maps."""
    middle = (98.0, 114.0, 79.0)
    return [points[axis] + middle[axis] for axis in (2, 1, 0)]


def _tumour(
    space: _Space,
    centre: np.ndarray,
    radius: float,
    white: np.ndarray,
    grey: np.ndarray,
    csf: np.ndarray,
    brain: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Shares of ED, NCR and ET (3, z, y, x), soft at their borders, and the label map they are the truth of."""
    points = space.points()
    tissue = brain & (csf < 0.5)
    depth = np.full(space.shape, -np.inf, dtype=np.float32)  # mm below the surface of the core, negative outside
    for scale, shift in ((1.0, 0.0), (0.62, 0.75), (0.5, 0.85)):  # a main body and two lobes
        direction = space.rng.standard_normal(3)
        lobe = centre + shift * radius * direction / np.linalg.norm(direction)
        stretch = space.rng.uniform(0.85, 1.15, 3)
        away = np.sqrt((((points - lobe[:, None, None, None]) / stretch[:, None, None, None]) ** 2).sum(axis=0))
        depth = np.maximum(depth, scale * radius - away)
    depth += 2.2 * space.field(5.0) + 0.7 * space.field(2.0)
    core = tissue & (depth > 0)
    core = _largest(core)
    # enhancement: a rim of varying thickness with gaps, and nodules that grow inwards
    thickness = np.clip(2.2 + 1.7 * space.field(7.0) + 0.8 * space.field(2.5), 0.0, None)
    below = ndimage.distance_transform_edt(core, sampling=space.spacing) - 0.5 * space.spacing
    nodules = (space.field(3.0) > 1.5) & (below < 8)
    enhancing = core & ((below < thickness) | nodules)
    # oedema spreads from the core, fast in white matter, hardly in cortex, never in CSF
    speed = np.clip(white + 0.12 * grey, 0.01, None) * np.exp(0.7 * space.field(5.0)) * np.where(brain, 1.0, 0.01)
    arrival = _arrival(space, core, speed)
    reach = space.rng.uniform(9, 12) * np.exp(0.3 * space.field(12.0))
    swelling = 1 / (1 + np.exp(-np.clip((reach - arrival) / 1.2, -20, 20))) * tissue
    oedema = _largest((swelling > 0.5) | core) & ~core
    labels = np.select([enhancing, core, oedema], [LABELS["ET"], LABELS["NCR"], LABELS["ED"]], 0).astype(np.uint8)
    rim, inside = (space.blur((labels == LABELS[name]).astype(np.float32), 1.2) for name in ("ET", "NCR"))
    # water collects in white matter and fades outwards; the affected cortex is brightened less
    wet = np.where(labels == LABELS["ED"], swelling, 0.0) * np.clip(1.0 - 0.012 * arrival, 0.6, 1.0)
    wet = space.blur(wet * np.clip(0.35 + 0.75 * white / (white + grey + 1e-6), 0, 1), 1.2)
    return np.stack([wet * (1 - rim - inside), inside, rim]) * brain, labels


def _largest(mask: np.ndarray) -> np.ndarray:
    parts, count = ndimage.label(mask)
    return parts == 1 + np.argmax(ndimage.sum_labels(mask, parts, range(1, count + 1)))


def _arrival(space: _Space, start: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """When a front that leaves `start` at time 0 arrives everywhere (fast marching); at speed 1 in mm."""
    surface = start & ~ndimage.binary_erosion(start)
    image = sitk.GetImageFromArray(speed.astype(np.float32))
    image.SetSpacing((space.spacing,) * 3)
    march = sitk.FastMarchingImageFilter()
    march.SetTrialPoints([tuple(int(i) for i in reversed(index)) for index in np.argwhere(surface)])
    march.SetStoppingValue(60.0)
    arrival = np.minimum(sitk.GetArrayFromImage(march.Execute(image)), 60.0)
    return np.where(start, 0.0, arrival).astype(np.float32)


def _vessels(space: _Space, brain: np.ndarray, csf: np.ndarray) -> np.ndarray:
    """Share of blood vessels, sinus, choroid plexus and dura per voxel: what is bright after contrast agent."""
    outside = ndimage.distance_transform_edt(brain, sampling=space.spacing)
    first, second = space.field(4.0), space.field(4.0)
    tubes = np.exp(-(first**2 + second**2) / 0.06)  # where two random surfaces cross
    superficial = tubes * np.clip(csf * 2, 0, 1)
    dura = np.exp(-((outside - space.spacing) ** 2) / 1.5) * np.clip(space.field(9.0) - 0.5, 0, 1)
    x, y, z = space.points()
    sinus = np.exp(-((x / 2.5) ** 2)) * np.clip(1.5 - outside / 4, 0, 1) * ((z > 25) | (y > 55))
    return np.clip(np.maximum.reduce([superficial, dura, sinus]), 0, 1) * brain


def _acquire(
    space: _Space, sequence: str, tissue: np.ndarray, texture: list[np.ndarray], brain: np.ndarray
) -> np.ndarray:
    """Tissue shares (7, z, y, x) -> what a scanner measures in this sequence, 0 outside the brain."""
    fwhm, noise, scale = SCANNER[sequence]
    rng = space.rng
    contrast = np.array(CONTRAST[sequence]) * rng.uniform(0.97, 1.03, len(TISSUES))
    roughness = np.array([0.02, 0.025, 0.03, 0.10, 0.06, 0.10, 0.16])
    signal = np.tensordot(contrast, tissue, axes=1)
    own = space.field(2.0)
    grain = 0.35 * texture[0] + 0.45 * texture[1] + 0.45 * texture[2] + 0.4 * own
    signal *= 1 + np.tensordot(roughness, tissue, axes=1) * grain
    signal *= np.exp(0.10 * space.field(45.0))
    signal = space.blur(np.clip(signal, 0, None), fwhm)
    real, imaginary = (noise * rng.standard_normal(space.shape) for _ in range(2))
    # the studies were resampled once, which smooths the noise as well
    signal = np.hypot(signal + space.blur(real, 1.2), space.blur(imaginary, 1.2))
    return np.where(brain, np.clip(np.rint(scale * signal), 1, None), 0).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a simulated glioma study as NIfTI files.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--spacing", type=float, default=1.0, help="mm")
    options = parser.parse_args()
    for sequence, path in make_study(options.seed, options.spacing).write(options.folder).items():
        print(f"{sequence:5} {path}")


if __name__ == "__main__":
    main()
