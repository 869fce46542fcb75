"""What the four entry points share: reading the configuration from the command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from .config import Config, load


def parser(description: str | None) -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--config", type=Path, required=True, help="YAML file, see training/configs")
    result.add_argument("overrides", nargs="*", help="dotted overrides such as optim.steps=100")
    return result


def configuration(description: str | None) -> Config:
    """Parse the command line and print the full configuration that results."""
    arguments = parser(description).parse_args()
    config = load(arguments.config, arguments.overrides)
    print(config.model_dump_json(indent=2))
    return config
