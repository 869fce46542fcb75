"""What the module writes on nodes and segments, for itself and for others to read."""

from __future__ import annotations

from typing import Any

REPORT_ATTRIBUTE = "MSTKDSegmenter.report"
"""Attribute of the segmentation node that holds the report as JSON."""

OUTPUT_ATTRIBUTE = "MSTKDSegmenter.output"
"""Attribute of every node that the module adds, "1": such a node is no input."""

RELIABILITY_TAG = "MSTKDSegmenter.reliability"
"""Tag of a segment: what to expect of its region ("good", "fair", "not reliable"); none if that was not measured."""

TABLE_ROLE = "MSTKDSegmenter.table"
"""Role of the node reference from a segmentation to its table of volumes; both are saved with the scene."""


def no_input(node: Any, sequence: str) -> str | None:
    """Why a volume node cannot be segmented as a sequence, as a sentence for the user; None if it may be an image."""
    if not (node.IsA("vtkMRMLLabelMapVolumeNode") or node.GetAttribute(OUTPUT_ATTRIBUTE)):
        return None
    return (
        f"'{node.GetName()}', given as {sequence}, is a label map or a result of this module: expected an MRI image, "
        "choose another volume."
    )
