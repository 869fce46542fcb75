"""Heads as volume nodes of the scene, as if loaded from files, from DICOM, or below a patient of the hierarchy."""

from __future__ import annotations

from typing import Any

import slicer
from head_phantom import head
from MSTKDSegmenterLib.scene.volumes import add_volume

HEADERS: dict[str, dict[str, str]] = {}
"""UID of an instance -> value by tag: the DICOM database of the tests."""

TAGS = {
    "SeriesDescription": "0008,103e",
    "PatientID": "0010,0020",
    "PatientName": "0010,0010",
    "StudyInstanceUID": "0020,000d",
    "StudyDate": "0008,0020",
}


def volume(name: str, sequence: str = "FLAIR", patient: int = 0, **header: str) -> Any:
    """A head in the scene; ``header`` are DICOM attributes such as PatientID."""
    node = add_volume(slicer.mrmlScene, head(sequence, patient), name)
    if header:
        uid = f"1.2.{len(HEADERS)}"
        HEADERS[uid] = {TAGS[key]: value for key, value in header.items()}
        node.SetAttribute("DICOM.instanceUIDs", uid)
    return node


def tag_value(uid: str, tag: str) -> str:
    return HEADERS[uid].get(tag, "")


def put_below(node: Any, patient_id: str, study_date: str) -> None:
    """Place a node in a study of a patient in the subject hierarchy, where loading from DICOM leaves these facts."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    hierarchy.SetItemAttribute(patient, "DICOM.PatientID", patient_id)
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.SetItemAttribute(study, "DICOM.StudyDate", study_date)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, study)
    else:
        hierarchy.CreateItem(study, node)
