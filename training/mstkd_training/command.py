"""What the entry points share: the command line, the configuration it gives, and errors that users can mend."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from .config import Config, load

UNUSABLE = 2
"""Exit code where what was asked for cannot be done; a defect ends with 1 and its traceback, as Python does."""
STOPPED = 75
"""Exit code of a training that was asked to stop before its end; EX_TEMPFAIL of sysexits.h, for it can go on."""


def parser(description: str | None, fold: bool = False) -> argparse.ArgumentParser:
    """Of an entry point that takes a configuration, and the number of a fold where that can be meant."""
    result = argparse.ArgumentParser(description=description)
    result.add_argument("--config", type=Path, required=True, help="YAML file, see training/configs")
    if fold:
        result.add_argument("--fold", type=int, metavar="K", help="the run of this fold of data.folds, counted from 0")
    result.add_argument("overrides", nargs="*", help="dotted overrides such as optim.steps=100")
    return result


def configuration(arguments: argparse.Namespace) -> Config:
    """The configuration that the command line asks for."""
    config = load(arguments.config, arguments.overrides)
    fold = getattr(arguments, "fold", None)
    return config if fold is None else config.of_fold(fold)


def show(config: Config) -> None:
    """Print it in full, once however many processes there are."""
    if int(os.environ.get("RANK", "0")) == 0:
        print(config.model_dump_json(indent=2))


def run(main: Callable[[argparse.Namespace], None], options: argparse.ArgumentParser) -> None:
    """Parse the command line, options and overrides in any order, and call `main`.

    What users can mend (ValueError, FileNotFoundError, MemoryError, FloatingPointError) is a line on stderr and the
    exit code UNUSABLE. Under torchrun the line says which process it is of, and torchrun repeats the error of the one
    that failed first.
    """
    options.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
    arguments = options.parse_intermixed_args()
    who = options.prog
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from torch.distributed.elastic.multiprocessing.errors import record

        who = f"{who}, process {os.environ['RANK']}"
        main = record(main)
    try:
        main(arguments)
    except (ValueError, FileNotFoundError, MemoryError, FloatingPointError) as error:
        if arguments.debug:
            raise
        options.exit(UNUSABLE, f"{who}: {_told(error)}\n")


def _told(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # pydantic takes a line for each key and adds an address
    return "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
