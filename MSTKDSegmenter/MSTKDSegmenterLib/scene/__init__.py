"""MRML: volumes to images, masks to segments. Needs slicer and vtk (Slicer, or the package slicer-core), never qt.

The scene is always passed in; no singleton of the application is used, so that the code runs without it.
"""
