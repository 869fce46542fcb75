"""Studies to try the module with, in Slicer's Sample Data."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

CATEGORY = "MSTKDSegmenter"
SOURCE = "https://github.com/lassoan/SlicerMONAIAuto3DSeg/releases/download/TestingData/"
STUDY = "BraTS-GLI-00001-000"
"""A glioma before treatment, from the BraTS challenge 2023."""
DIGESTS = {
    "t2f": "82aed8546af5e6d8d94fd91c56227abdcf6120130390d1556c4342a208980604",
    "t1n": "e860924b936e301ddeba20409fbb59dde322475cb49328f1b46a9235c792e73e",
    "t1c": "4399faadcc45c8a4541313cdf88aced7d835ed59ac3078d950e0eac293d603f5",
    "t2w": "4cd389cc57d12134a30a898c66532228126b9a7d0600ee578e82a32144528b51",
}
"""SHA-256 of the files of that study by the end of their names: FLAIR, T1, T1ce, T2."""
SAMPLES = {"GliomaFourSequences": ("t2f", "t1n", "t1c", "t2w"), "GliomaOnlyFLAIR": ("t2f",)}
"""Name in Sample Data -> the files of the study. Slicer's own MRBrainTumor1 would be one sequence too, but is said to
be a meningioma, which the network has not learnt."""
THUMBNAILS = Path(__file__).parents[2] / "Resources" / "Icons"


def register() -> None:
    """Offer the studies in the module Sample Data; to be called once the application has started."""
    if not hasattr(slicer.modules, "sampledata"):  # Slicer can be started without
        return
    import SampleData

    logic = SampleData.SampleDataLogic
    if hasattr(logic, "registerCustomSampleDataCategory"):  # Slicer 5.12
        logic.registerCustomSampleDataCategory(CATEGORY, title=_("MSTKD Segmenter"))
    for name, files in SAMPLES.items():
        stems = [f"{STUDY}-{one}" for one in files]
        logic.registerCustomSampleDataSource(
            category=CATEGORY,
            sampleName=name,
            thumbnailFileName=str(THUMBNAILS / f"{name}.png"),
            uris=[f"{SOURCE}{stem}.nii.gz" for stem in stems],
            fileNames=[f"{stem}.nii.gz" for stem in stems],
            nodeNames=stems,
            checksums=[f"SHA256:{DIGESTS[one]}" for one in files],
        )
