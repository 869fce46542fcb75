"""The computation: NumPy, PyTorch, SimpleITK and safetensors only. Nothing here imports slicer, vtk or qt."""
