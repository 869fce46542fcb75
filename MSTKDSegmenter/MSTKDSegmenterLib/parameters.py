"""What the panel remembers in the scene."""

# No `from __future__ import annotations` here: parameterNodeWrapper reads the annotations of its class as objects.
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper


@parameterNodeWrapper
class MSTKDSegmenterParameterNode:
    """What the panel remembers in the scene. None is a sequence that is missing."""

    volumeFLAIR: vtkMRMLScalarVolumeNode
    volumeT1: vtkMRMLScalarVolumeNode
    volumeT1ce: vtkMRMLScalarVolumeNode
    volumeT2: vtkMRMLScalarVolumeNode
    device: Annotated[str, Choice(["auto", "cuda", "mps", "cpu"])] = "auto"
