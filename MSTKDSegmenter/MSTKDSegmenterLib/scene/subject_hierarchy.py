"""Where the nodes of the module stand in the subject hierarchy, the tree of patients and studies in module Data."""

from __future__ import annotations

from typing import Any

import slicer


def place_beside(scene: Any, node: Any, neighbour: Any) -> None:
    """Put a node under the parent of another, e.g. the same study of the same patient.

    A scene without a subject hierarchy is left without, and a neighbour that is not in it changes nothing.
    """
    if scene.GetNumberOfNodesByClass("vtkMRMLSubjectHierarchyNode") == 0:
        return  # GetSubjectHierarchyNode would make one
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    beside = hierarchy.GetItemByDataNode(neighbour)
    if not beside:
        return
    parent = hierarchy.GetItemParent(beside)
    item = hierarchy.GetItemByDataNode(node)
    if item:
        hierarchy.SetItemParent(item, parent)
    else:
        hierarchy.CreateItem(parent, node)
