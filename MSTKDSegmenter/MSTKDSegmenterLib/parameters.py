"""What the panel remembers in the scene."""

# No `from __future__ import annotations` here: parameterNodeWrapper reads the annotations of its class as objects.
from typing import Annotated

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode
from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper


@parameterNodeWrapper
class MSTKDSegmenterParameterNode:
    """What the panel remembers in the scene, and saves with it.

    A sequence whose volume is None is missing. Where ``byHand`` is True, the person has chosen that volume (or that
    there is none), and no proposal replaces it. ``modelFolder`` is a text, because an empty path is ".": empty means
    the model that came with the extension.
    """

    volumeFLAIR: vtkMRMLScalarVolumeNode
    volumeT1: vtkMRMLScalarVolumeNode
    volumeT1ce: vtkMRMLScalarVolumeNode
    volumeT2: vtkMRMLScalarVolumeNode
    byHandFLAIR: bool = False
    byHandT1: bool = False
    byHandT1ce: bool = False
    byHandT2: bool = False
    device: Annotated[str, Choice(["auto", "cuda", "mps", "cpu"])] = "auto"
    modelFolder: str = ""
    samePatient: bool = False
    exclusive: bool = False
    probabilities: bool = False
    result: vtkMRMLSegmentationNode
