"""The errors that a caller is expected to handle; anything else that is raised is a defect."""

from __future__ import annotations

SAY_SO = (
    "say so: in Slicer tick 'Same patient, whatever the images look like' under Advanced, in the console give "
    "same_patient=True, in the shell --same-patient."
)
"""For messages about images that seem to be of different patients."""


class UnusableInput(ValueError):
    """What the user gave cannot be used. The message says what, its value, what was expected and what to do next.

    The command ends with exit code 2, the console sees a ``ValueError``.
    """


class PackageError(UnusableInput):
    """A model package is missing, half-copied, altered or of an unknown format."""


class Cancelled(RuntimeError):
    """The user asked to stop. Nothing was written."""
