"""Whose images volume nodes are and when they were taken, as far as DICOM or the subject hierarchy tells."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Optional

import slicer

TagValue = Callable[[str, str], Optional[str]]
"""Value of a tag ("0008,103e") of a DICOM instance (UID); in Slicer ``slicer.dicomDatabase.instanceValue``."""

MOST_DAYS = 30
"""Images of a growing tumour that were taken further apart than this show two different tumours."""


@dataclass(frozen=True)
class Provenance:
    """Patient and study of one volume; "" or None is not known."""

    patient_id: str = ""
    patient_name: str = ""
    birth_date: str = ""
    study: str = ""
    day: date | None = None


def instances_of(node: Any) -> list[str]:
    """The UIDs of the DICOM instances that a volume was loaded from; none if it was not."""
    return (node.GetAttribute("DICOM.instanceUIDs") or "").split()


def provenance(node: Any, tag_value: TagValue | None = None) -> Provenance:
    """Patient and study of a volume node: from its DICOM header, and where that is silent, the subject hierarchy."""
    instances = instances_of(node)
    item = _Item(node)

    def value(tag: str, attribute: str, level: str) -> str:
        read = (tag_value(instances[0], tag) or "").strip(" \0") if instances and tag_value is not None else ""
        return read or item.attribute(attribute, level)

    names = slicer.vtkMRMLSubjectHierarchyConstants
    patient, study = names.GetDICOMLevelPatient(), names.GetDICOMLevelStudy()
    return Provenance(
        patient_id=value("0010,0020", names.GetDICOMPatientIDAttributeName(), patient),
        patient_name=_plain(value("0010,0010", names.GetDICOMPatientNameAttributeName(), patient)),
        birth_date=re.sub(r"\D", "", value("0010,0030", names.GetDICOMPatientBirthDateAttributeName(), patient)),
        study=value("0020,000d", names.GetDICOMStudyInstanceUIDAttributeName(), study),
        day=_day(value("0008,0020", names.GetDICOMStudyDateAttributeName(), study)),
    )


def tag_value() -> TagValue | None:
    """The function that reads a tag of an instance from Slicer's DICOM database; None if there is no database."""
    database = getattr(slicer, "dicomDatabase", None)
    return database.instanceValue if database is not None and database.isOpen else None


def apart(first: Provenance, second: Provenance) -> str | None:
    """What keeps two images from being one study, as the end of a sentence; None if nothing that is known does."""
    return other_patient(first, second) or _long_between(first, second)


def known_together(first: Provenance, second: Provenance) -> bool:
    """Whether two images are known to be of one study, or of one patient."""
    return any(
        getattr(first, attribute) and getattr(first, attribute) == getattr(second, attribute)
        for attribute in ("study", "patient_id", "patient_name")
    )


def other_patient(first: Provenance, second: Provenance) -> str | None:
    """What tells two patients apart, as the end of a sentence; None if nothing that is known does.

    Their names and numbers stay out of it: it is read on screens that others see.
    """
    for attribute, what in (("patient_id", "patient IDs"), ("patient_name", "names"), ("birth_date", "birth dates")):
        one, other = getattr(first, attribute), getattr(second, attribute)
        if one and other and one != other:
            return f"are of patients with different {what}"
    return None


def _long_between(first: Provenance, second: Provenance) -> str | None:
    if first.day is not None and second.day is not None:
        days = abs((first.day - second.day).days)
        if days > MOST_DAYS:
            return f"were taken {days} days apart ({first.day} and {second.day})"
    return None


class _Item:
    """A node in the subject hierarchy of its scene, if both are there."""

    def __init__(self, node: Any) -> None:
        scene = node.GetScene()
        self.hierarchy = None
        # GetSubjectHierarchyNode makes one where there is none
        if scene is not None and scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode"):
            self.hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
            self.item = self.hierarchy.GetItemByDataNode(node)

    def attribute(self, name: str, level: str) -> str:
        """Of the patient or study above the node; "" if there is none."""
        if self.hierarchy is None or not self.item:
            return ""
        ancestor = self.hierarchy.GetItemAncestorAtLevel(self.item, level)
        return self.hierarchy.GetItemAttribute(ancestor, name).strip() if ancestor else ""


def _plain(name: str) -> str:
    """A patient's name without what differs between programs: Doe^Jane and DOE, JANE are one."""
    return " ".join(re.findall(r"\w+", name.lower()))


def _day(text: str) -> date | None:
    digits = re.sub(r"\D", "", text)[:8]
    try:
        return date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
