"""Model packages: a folder with ``model.json``, which says everything about a model, and its weights.

Reading and verifying a package needs no torch, so ``mstkd info`` and the panel can describe a model without loading it.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .calibration import Curve, group
from .card import AGAIN, CONVENTIONS, DESCRIPTION, FORMAT, TEXTS, UPDATE, WEIGHTS, check, refuse
from .device import require_torch
from .errors import PackageError
from .sequences import subset_name

if TYPE_CHECKING:
    from .network import MSTKDNet


@dataclass(frozen=True)
class Quality:
    """What was measured: mean Dice (0 to 1) by row (for a tumour model the 15 subsets) and region."""

    measured_on: tuple[str, ...]
    command: str
    table: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class ModelPackage:
    """A verified package; ``card`` is all of model.json, ``spacing`` the side of the network's cubic voxels in mm."""

    folder: Path
    kind: str
    name: str
    version: str
    sequences: tuple[str, ...]
    classes: tuple[str, ...]
    regions: Mapping[str, tuple[str, ...]]
    spacing: float
    licence: str
    data: str
    intended_use: str
    citation: tuple[str, ...]
    quality: Quality
    sha256: str
    card: Mapping[str, Any]

    def thresholds(self, subset: Iterable[str] = ()) -> dict[str, float]:
        """Region -> probability above which a voxel belongs to it; the subset's own where the package has them."""
        stored = self.card["thresholds"]
        own = stored.get(subset_name(subset), {})
        return {region: float(own.get(region, stored[region])) for region in self.regions}

    def temperature(self, subset: Iterable[str]) -> float:
        """What the logits of a subset are divided by; 1 where the package says nothing."""
        return float(self.card.get("temperatures", {}).get(subset_name(subset), 1.0))

    def calibration(self, region: str, subset: Iterable[str]) -> Curve | None:
        """From what the network says of a region's voxels to how often that was true; None: it is taken at its word."""
        curves = self.card.get("calibration", {}).get(region)
        return None if curves is None else curves[group(subset)]

    @property
    def mirror(self) -> bool:
        """Whether the image mirrored left to right is looked at too, as when the model was measured."""
        return bool(self.card.get("mirror", False))

    @property
    def box(self) -> bool:
        """Whether the model was measured as it is used now, shown the box around the brain alone (see predict)."""
        return bool(self.card.get("box", False))

    @property
    def tile(self) -> tuple[int, int, int] | None:
        """(z, y, x) voxels of the overlapping tiles that the model looks at, as when it was measured; None: whole."""
        tile = self.card.get("tile")
        return None if tile is None else tuple(tile)

    def network(self) -> MSTKDNet:
        """The network in float32 on the CPU, in evaluation mode. Built by the first call, the same one ever after.

        Raises:
            PackageError: the description and the weights are not of the same network.
            TorchError: PyTorch is not installed or does not work.
        """
        return self._network

    @cached_property
    def _network(self) -> MSTKDNet:
        torch = require_torch()
        from safetensors.torch import load_file

        from .network import NetworkConfig, build

        try:
            with torch.device("meta"):  # neither memory nor random numbers for values that are replaced at once
                network = build(NetworkConfig.from_dict(self.card["network"]))
        except (TypeError, ValueError, KeyError) as error:
            refuse(self.folder / DESCRIPTION, f"network cannot be built: {error!r}. {UPDATE}")
        weights = {name: tensor.float() for name, tensor in load_file(self.folder / WEIGHTS).items()}
        needed = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
        given = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        for name in sorted(needed.keys() | given.keys()):
            if given.get(name) != needed.get(name):
                what = f"tensor {name} has shape {given.get(name)}, the network in {DESCRIPTION} has {needed.get(name)}"
                refuse(self.folder / WEIGHTS, f"{what}. {AGAIN}")
        network.load_state_dict(weights, assign=True)
        return network.eval().requires_grad_(False)


def load(folder: str | os.PathLike[str], kind: str = "tumour") -> ModelPackage:
    """Read and verify a package, down to the sha256 of its weights; without torch.

    Raises:
        PackageError: the folder is no package, is half-copied or altered, or is of another kind.
    """
    folder = Path(folder)
    card = _described(folder, kind)
    expected, file = card["weights"], folder / WEIGHTS
    if not _is_file(file):
        refuse(file, f"is missing. {AGAIN}")
    size = file.stat().st_size
    if size != expected["bytes"]:
        refuse(file, f"has {size:,} bytes, expected {expected['bytes']:,}: half-copied or altered. {AGAIN}")
    found = _sha256(file)
    if found != expected["sha256"]:
        refuse(file, f"has sha256 {found}, expected {expected['sha256']}: altered since it was written. {AGAIN}")
    quality = card["quality"]
    return ModelPackage(
        folder=folder,
        kind=card["kind"],
        sequences=tuple(card["sequences"]),
        classes=tuple(card["classes"]),
        regions={name: tuple(members) for name, members in card["regions"].items()},
        spacing=float(card["spacing_mm"]),
        citation=tuple(card["citation"]),
        quality=Quality(tuple(quality["measured_on"]), quality["command"], quality["table"]),
        sha256=found,
        card=card,
        **{key: card[key] for key in TEXTS},
    )


def quality_table(folder: str | os.PathLike[str]) -> Mapping[str, Mapping[str, float]]:
    """The measured quality (see ``Quality.table``) of a package, from its description alone: at once, without torch.

    The weights are not looked at, so this says nothing about whether they can be used; ``load`` does.

    Raises:
        PackageError: the folder has no description of a tumour model, or one that this version cannot use.
    """
    return _described(Path(folder), "tumour")["quality"]["table"]


def write(folder: str | os.PathLike[str], network: MSTKDNet, card: Mapping[str, Any]) -> ModelPackage:
    """Write a package in float16, all of it or nothing; a package that is already there is replaced.

    Args:
        folder: the package folder; its parent exists.
        network: the trained network.
        card: kind, name, version, spacing_mm, thresholds, licence, data, intended_use, citation and quality, as they
            shall stand in model.json; temperatures, calibration, mirror and tile where wanted. The rest (format,
            network, weights, CONVENTIONS of the kind) is filled in.

    Returns:
        The package, read back and verified.

    Raises:
        PackageError: the card is incomplete, the weights are not finite in float16, or ``folder`` holds other files.
    """
    torch = require_torch()
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and not (folder / DESCRIPTION).is_file() and any(folder.iterdir()):
        refuse(folder, "exists and is not a model package, so it is not replaced. Choose another folder.")
    weights = {name: tensor.detach().cpu().half().contiguous() for name, tensor in network.state_dict().items()}
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            refuse(folder, f"tensor {name} is not finite in float16, expected values up to 65504. Train again.")
    part, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{suffix}") for suffix in ("part", "old"))
    part.mkdir()
    try:
        file = part / WEIGHTS
        save_file(weights, file)
        file.chmod(0o644)  # safetensors lets nobody else read it, but an extension is installed for all users
        filled = {
            "format": FORMAT,
            "kind": card.get("kind"),
            **CONVENTIONS.get(card.get("kind", ""), {}),
            **card,
            "network": network.config.to_dict(),
            "weights": {"file": WEIGHTS, "sha256": _sha256(file), "bytes": file.stat().st_size, "dtype": "float16"},
        }
        text = json.dumps(filled, indent=2, ensure_ascii=False) + "\n"
        check(json.loads(text), folder / DESCRIPTION)
        (part / DESCRIPTION).write_text(text, encoding="utf-8")
        if folder.exists():
            os.replace(folder, old)  # a folder with something in it cannot be replaced in one step
        os.replace(part, folder)
    finally:
        if old.exists() and not folder.exists():
            os.replace(old, folder)
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return load(folder, filled["kind"])


def default_folder(kind: str = "tumour") -> Path:
    """The package of that kind that came with this installation.

    Raises:
        PackageError: there is none, or more than one.
    """
    # an installed wheel carries Resources inside the library, Slicer and the source tree have it beside
    library = Path(__file__).resolve().parents[1]
    places = [library / "Resources" / "Models", library.parent / "Resources" / "Models"]
    folders = sorted(file.parent for place in places for file in place.glob(f"[!.]*/{DESCRIPTION}"))
    found = [folder for folder in folders if _read(folder).get("kind") == kind]
    if len(found) != 1:
        what = " and ".join(map(str, found)) or "none"
        raise PackageError(
            f"Model packages of kind {kind!r} in {places[0]} and {places[1]}: {what}; expected exactly one. "
            "Install MSTKDSegmenter again, or name the model's folder."
        )
    return found[0]


def _described(folder: Path, kind: str) -> dict[str, Any]:
    card = _read(folder)
    check(card, folder / DESCRIPTION)
    if card["kind"] != kind:
        what = f"is of kind {card['kind']!r}, expected {kind!r}"
        refuse(folder / DESCRIPTION, f"{what}. Choose another model.")
    return card


def _read(folder: Path) -> dict[str, Any]:
    file = folder / DESCRIPTION
    if not _is_file(file):
        refuse(file, f"is missing; a model package is a folder with {DESCRIPTION} and {WEIGHTS}. {AGAIN}")
    try:
        card = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        refuse(file, f"cannot be read as JSON ({error}): half-copied or altered. {AGAIN}")
    if not isinstance(card, dict):
        refuse(file, f"holds a {type(card).__name__}, expected an object with the key 'format'. {AGAIN}")
    return card


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError as error:  # up to Python 3.13, of a folder without the right to look into it
        refuse(file, f"cannot be looked at ({error.strerror}). Check your rights to its folder.")


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with open(file, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
