"""A worker process whose computation is replaced; everything around it is the real one. For tests of what is around."""

from __future__ import annotations

import textwrap
from pathlib import Path

MODULE_FOLDER = Path(__file__).resolve().parents[1] / "MSTKDSegmenter"

WORKER = """
import json, os, sys, time, types
sys.path.insert(0, {library!r})
import numpy as np
from MSTKDSegmenterLib.engine import device, package
from MSTKDSegmenterLib.engine.errors import UnusableInput
from MSTKDSegmenterLib.engine.geometry import Grid
from MSTKDSegmenterLib.engine.progress import Job

device.tune_cpu = lambda: types.SimpleNamespace(reason="one thread")
package.load = lambda folder: folder
package.default_folder = lambda: "the one that ships"

def segment(study, package, device, progress, cancelled, keep=None):
    job = Job(progress, cancelled)
    job.report("first", 0.25, "ein schöner Anfang")
{body}
    grid = Grid.of(study.images[study.subset[0]].image)
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:7, 1:8, 1:9] = 2
    labels[2:6, 2:6, 2:6] = 1
    labels[3:5, 3:5, 3:5] = 3
    for region, values in {{"WT": (1, 2, 3), "TC": (1, 3), "ET": (3,)}}.items():
        if keep is not None:
            keep(region, grid.image(np.where(np.isin(labels, values), np.float32(0.75), np.float32(0))))
    report = {{
        "format": 1,
        "created": "2026-01-02T03:04:05+00:00",
        "subset": "+".join(study.subset),
        "inputs": {{
            name: {{"source": image.source, "recognised_by": image.recognised_by, "grid": grid.to_dict()}}
            for name, image in study.images.items()
        }},
        "harmonising": {{
            "reference": study.subset[0],
            "reference_reason": "It stands first.",
            "skull_stripped": dict.fromkeys(study.subset, True),
            "registration": {{
                name: {{"registered": False, "judgement": "aligned already"}} for name in study.subset[1:]
            }},
            "share_of_brain_covered": dict.fromkeys(study.subset, 1.0),
            "working_grid": grid.to_dict(),
            "brain_ml": 1400.0,
        }},
        "model": {{
            "name": "student", "version": "1.2", "folder": str(package), "sha256": "ab" * 32, "licence": "none",
            "citation": ["A. Author, A title, 2026"], "measured_on": 3,
        }},
        "device": {{"name": device, "reason": "asked for"}},
        "box": [8, 8, 8],
        "tile": [8, 8, 8],
        "expected": {{
            "WT": {{"dice": 0.88, "grade": "good"}},
            "TC": {{"dice": 0.6, "grade": "fair"}},
            "ET": {{"dice": 0.3, "grade": "not reliable"}},
        }},
        "unsupported": ["ET"],
        "volumes_ml": {{"WT": 1.0, "TC": 0.5, "ET": 0.25}},
        "findings": [*study.notes, "Look here."],
        "seconds": {{"total": 1.0}},
        "software": {{"MSTKDSegmenter": "0", "python": "3", "torch": "2", "SimpleITK": "2", "numpy": "2"}},
        "intended_use": "Tests.",
    }}
    return types.SimpleNamespace(labels=labels, reference_grid=grid, report=report)

sys.modules["MSTKDSegmenterLib.engine.segment"] = types.SimpleNamespace(segment=segment)
sys.modules["MSTKDSegmenterLib.engine.report"] = types.SimpleNamespace(
    write_report=lambda report, path: path.write_text(json.dumps(report))
)
from MSTKDSegmenterLib.worker import main
sys.exit(main())
"""

HEEDS = "while True:\n    job.check(); time.sleep(0.01)"
"""A body that never ends, but asks all the time whether it should."""
IN_ONE_CALL = "time.sleep(60)"
"""A body that asks nothing for a minute."""


def write_worker(path: Path, body: str = "") -> Path:
    """Write the worker; ``body`` is Python that runs instead of the computation, with ``job`` to report to."""
    indented = textwrap.indent(textwrap.dedent(body), "    ")
    path.write_text(WORKER.format(library=str(MODULE_FOLDER), body=indented), encoding="utf-8")
    return path
