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

def segment(study, package, device, progress, cancelled):
    job = Job(progress, cancelled)
    job.report("first", 0.25, "ein schöner Anfang")
{body}
    grid = Grid.of(study.images[study.subset[0]].image)
    labels = np.zeros(grid.shape, np.uint8)
    labels[1:7, 1:8, 1:9] = 2
    labels[2:6, 2:6, 2:6] = 1
    labels[3:5, 3:5, 3:5] = 3
    report = {{
        "package": str(package),
        "device": device,
        "subset": "+".join(study.subset),
        "names": [image.source for image in study.images.values()],
        "harmonising": {{"reference": study.subset[0]}},
        "model": {{"name": "student", "version": "1.2"}},
        "volumes_ml": {{"WT": 1.0, "TC": 0.5, "ET": 0.25}},
        "findings": ["Look here."],
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
