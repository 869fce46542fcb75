"""What the segments are called, coded and coloured. The same entries stand in Resources/*.term.json."""

from __future__ import annotations

from dataclasses import dataclass, replace

CONTEXT = "Brain tumour regions - MSTKDSegmenter"
"""Name of our terminology (SegmentationCategoryTypeContextName)."""

CATEGORY = ("SCT", "49755003", "Morphologically Altered Structure")
ANATOMY = "Anatomic codes - DICOM master list~SCT^12738006^Brain~^^"

PALENESS = 0.6
"""How far towards white the colour of a region goes that is not reliable."""


@dataclass(frozen=True)
class Appearance:
    """How one segment is coded and drawn.

    Attributes:
        code: type of the finding: coding scheme, value, meaning.
        colour: red, green, blue, 0 to 255.
        fill: opacity of the filled region in slices, times the 0.5 that MRML starts with. Larger regions are fainter,
            so that what they enclose shows.
        surface: opacity of the surface in 3D.
    """

    code: tuple[str, str, str]
    colour: tuple[int, int, int]
    fill: float
    surface: float

    @property
    def rgb(self) -> tuple[float, float, float]:
        """The colour, 0 to 1."""
        red, green, blue = self.colour
        return red / 255, green / 255, blue / 255

    @property
    def paler(self) -> Appearance:
        """For a region that is not reliable: the same, nearer to white and fainter."""
        red, green, blue = (round(value + PALENESS * (255 - value)) for value in self.colour)
        return replace(self, colour=(red, green, blue), fill=self.fill / 2, surface=self.surface / 2)

    @property
    def terminology(self) -> str:
        """The terminology entry as MRML serialises it: context, category, type, modifier, anatomy."""
        return "~".join((CONTEXT, "^".join(CATEGORY), "^".join(self.code), "^^", ANATOMY))


APPEARANCES = {
    "WT": Appearance(("SCT", "108369006", "Neoplasm"), (88, 196, 221), fill=0.4, surface=0.3),
    "TC": Appearance(("SCT", "86049000", "Neoplasm, Primary"), (245, 196, 66), fill=0.6, surface=0.5),
    "NCR": Appearance(("SCT", "6574001", "Necrosis"), (150, 112, 196), fill=0.9, surface=1.0),
    "ED": Appearance(("SCT", "79654002", "Edema"), (122, 199, 118), fill=0.9, surface=0.4),
    "ET": Appearance(("NCIt", "C113842", "Enhancing Lesion"), (224, 64, 56), fill=0.9, surface=1.0),
}
"""By region (WT, TC, ET, from the outermost to the innermost) and exclusive class (NCR, ED, ET), in the order of their
segments.

Neoplasm is the whole tumour with its oedema, Neoplasm, Primary the core without it: SNOMED CT has no closer codes, and
none for an enhancing lesion. Necrosis and Edema are what other tools give these classes of BraTS; NCR also holds core
that is solid and does not enhance."""
