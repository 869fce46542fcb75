"""Which sequence a volume node is: by its DICOM header, its name, its file's name, or else its intensities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine.appearance import recognise_intensities
from ..engine.dicom_tags import DICOM_TAGS
from ..engine.errors import UnusableInput
from ..engine.sequences import Recognition, recognise_dicom, recognise_name
from ..engine.words import describe, tells
from .attributes import OUTPUT_ATTRIBUTE
from .provenance import TagValue, instances_of
from .volumes import image_from_volume, state

EVIDENCE = ("DICOM header", "name", "intensities")
"""What a recognition rests on, the strongest first."""

_FEWEST_SLICES = 5
_NAMED_BY_THE_HEADER = (DICOM_TAGS["SeriesDescription"], DICOM_TAGS["ProtocolName"])


@dataclass(frozen=True)
class Seen(Recognition):
    """A recognition and what it rests on, one of ``EVIDENCE``."""

    evidence: str = EVIDENCE[-1]


def recognise_volume(node: Any, tag_value: TagValue | None = None) -> Seen:
    """Which sequence a volume node is.

    The DICOM header decides, or else the node's name, or else the name of its file. Only where none of them says
    anything about the kind of image are the intensities looked at: they do not settle a contradiction.

    Args:
        node: a volume node; nodes loaded from DICOM carry the attribute ``DICOM.instanceUIDs``.
        tag_value: gives the value of a tag ("0008,103e") of an instance (UID); in Slicer
            ``slicer.dicomDatabase.instanceValue``. Without it the name decides.
    """
    unfit = _unfit(node)
    if unfit is not None:
        return Seen(None, unfit, excluded=True)
    instances, tags = instances_of(node), {}
    if instances and tag_value is not None:
        tags = {tag: tag_value(instances[0], tag) or "" for tag in DICOM_TAGS.values()}
    seen = [(EVIDENCE[0], "", recognise_dicom(tags))] if any(tags.values()) else []
    seen += [(EVIDENCE[1], f"{where} '{name}': ", recognise_name(name)) for where, name in _names(node)]
    for evidence, where, found in seen:
        if found.sequence is not None or found.excluded:
            return Seen(found.sequence, where + found.reason, found.excluded, evidence)
    where, said = next(((where, found) for _, where, found in seen), ("", Recognition(None, "it has no name")))
    if _says_something(node, tags):
        return Seen(None, where + said.reason, evidence=EVIDENCE[1])
    try:
        looks = _looks(node)
    except UnusableInput as error:
        return Seen(None, str(error), excluded=True)
    return Seen(looks.sequence, f"{where}{said.reason}; {looks.reason}", evidence=EVIDENCE[2])


_LOOKED_AT: dict[tuple[Any, ...], Recognition] = {}
"""By state of a volume: reading all of its voxels takes a while."""


def _looks(node: Any) -> Recognition:
    key = state(node)
    if key not in _LOOKED_AT:
        _LOOKED_AT[key] = recognise_intensities(image_from_volume(node))
    return _LOOKED_AT[key]


def _unfit(node: Any) -> str | None:
    """Why a node is no image of a patient at all; None if it may be one."""
    if node.GetAttribute(OUTPUT_ATTRIBUTE):
        return "a result of MSTKD Segmenter"
    if node.GetClassName() != "vtkMRMLScalarVolumeNode":  # label maps, vectors and tensors are kinds of scalar volumes
        return f"no scalar volume but a {node.GetNodeTagName()}"
    if node.GetHideFromEditors():
        return "hidden by the module that made it"
    voxels = node.GetImageData()
    if voxels is not None and min(voxels.GetDimensions()) < _FEWEST_SLICES:
        return f"{' x '.join(map(str, voxels.GetDimensions()))} voxels are no volume"
    return None


def _names(node: Any) -> list[tuple[str, str]]:
    """What the node is called and, if it differs, what its file is called."""
    names = [("name", node.GetName() or "")]
    storage = node.GetStorageNode()
    if storage is not None and storage.GetFileName():
        names.append(("file", Path(storage.GetFileName()).name))
    return [(where, name) for where, name in names if name]


def _says_something(node: Any, tags: Mapping[str, str]) -> bool:
    texts = [tags.get(tag, "") for tag in _NAMED_BY_THE_HEADER] + [name for _, name in _names(node)]
    return any(tells(word) for text in texts for word in describe(text))
