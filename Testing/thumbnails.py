"""Draws the pictures of the studies in Sample Data: a made-up head, no patient. Writes MSTKDSegmenter/Resources/Icons.

Run: python Testing/thumbnails.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

ICONS = Path(__file__).resolve().parents[1] / "MSTKDSegmenter" / "Resources" / "Icons"
SIZE = (260, 280)
HEIGHT = 240
# Brightness (0 to 255) of white matter, grey matter, fluid, oedema, enhancing rim, necrotic core.
CONTRAST = {
    "FLAIR": (95, 130, 25, 235, 190, 150),
    "T1": (190, 140, 55, 125, 120, 90),
    "T1ce": (170, 125, 50, 110, 250, 60),
    "T2": (75, 115, 240, 190, 160, 215),
}


def slice_of_a_head(sequence: str) -> Image.Image:
    """An axial slice, HEIGHT pixels high: ellipses, folded like a cortex, with a ring-shaped tumour."""
    y, x = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : round(0.86 * HEIGHT) * 1j]
    angle, radius = np.arctan2(y, x), np.hypot(x, y)
    rng = np.random.default_rng(3)
    rough = ndimage.gaussian_filter(rng.normal(size=x.shape), 6)
    folds = 0.05 * np.sin(26 * angle + 40 * rough) + 2.0 * rough
    white, grey, fluid, oedema, rim, core = CONTRAST[sequence]
    image = np.zeros(x.shape)
    image[radius < 0.93] = fluid
    image[radius < 0.90 + 0.3 * folds] = grey
    image[radius < 0.74 + folds] = white
    image[(np.abs(x) < 0.012) & (radius < 0.86)] = fluid
    for side in (-1, 1):
        image[((x - side * 0.13) / 0.09) ** 2 + ((y + 0.02) / 0.30) ** 2 + 3 * rough < 1] = fluid
    tumour = np.hypot((x - 0.42) / 0.8, y - 0.22) * (1 + 0.15 * np.sin(5 * angle)) + 0.5 * rough
    for limit, value in ((0.36, oedema), (0.20, rim), (0.14, core)):
        image[(tumour < limit) & (radius < 0.88)] = value
    image = ndimage.gaussian_filter(image, 1.2) + rng.normal(0, 5, x.shape) * (radius < 0.93)
    return Image.fromarray(image.clip(0, 255).astype(np.uint8))


def thumbnail(sequences: tuple[str, ...]) -> Image.Image:
    """One slice in the middle, or four in a square, each with its name."""
    picture = Image.new("RGB", SIZE, "black")
    draw = ImageDraw.Draw(picture)
    columns = 1 if len(sequences) == 1 else 2
    cell = (SIZE[0] // columns, SIZE[1] // columns)
    for index, sequence in enumerate(sequences):
        corner = (index % columns * cell[0], index // columns * cell[1])
        head = slice_of_a_head(sequence)
        head.thumbnail((cell[0], round(0.88 * cell[1])))
        picture.paste(head, (corner[0] + (cell[0] - head.width) // 2, corner[1] + (cell[1] - head.height) // 2))
        draw.text((corner[0] + 5, corner[1] + 3), sequence, fill=(255, 220, 120), font_size=14)
    return picture


if __name__ == "__main__":
    thumbnail(("FLAIR", "T1", "T1ce", "T2")).save(ICONS / "GliomaFourSequences.png", optimize=True)
    thumbnail(("FLAIR",)).save(ICONS / "GliomaOnlyFLAIR.png", optimize=True)
