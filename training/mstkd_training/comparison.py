"""Two runs on the same test studies: what is different, and how sure that is."""

from __future__ import annotations

import json
from dataclasses import asdict

from MSTKDSegmenterLib.engine import package as packages

from .config import Config
from .evaluate import is_of, read
from .illustrate import illustrate
from .tables import comparison


def compare_runs(config: Config, other: str) -> str:
    """Write comparison.md, comparison.json and comparison.png into the run's folder: this run minus the other.

    Raises:
        FileNotFoundError: one of the runs has not been evaluated.
        ValueError: they were evaluated on different studies, or a run's weights or calibration have changed since.
    """
    folders = {other: config.folder_of(other), config.name: config.folder}
    if len(folders) == 1:
        raise ValueError(f"--compare {other}: that is the run itself, name another one")
    records = {name: read(folder) for name, folder in folders.items()}
    text, values = comparison(other, config.name, *(record["rows"] for record in records.values()))
    loaded = {name: packages.load(folder / "package") for name, folder in folders.items()}
    for name, package in loaded.items():
        if not is_of(records[name], package):
            raise ValueError(f"run {name!r} has been exported again since its evaluation: evaluate it again")
    plain = {
        kind: {row: {region: one and asdict(one) for region, one in regions.items()} for row, regions in table.items()}
        for kind, table in values.items()
    }
    record = {"first": other, "second": config.name, **plain}
    (config.folder / "comparison.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    (config.folder / "comparison.md").write_text(text, encoding="utf-8")
    illustrate(config, loaded, records[config.name]["rows"], config.folder / "comparison.png")
    return text
