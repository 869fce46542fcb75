"""Names that objects of Python and of the libraries that come with Slicer answer to, for slicer_walk."""

from __future__ import annotations

import datetime
import importlib.machinery
import importlib.metadata
import logging
import re
import subprocess
import threading
import unittest
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

_TYPES = (
    *(str, bytes, int, float, list, dict, set, tuple, slice, property, type, OSError, ImportError),
    *(Path, re.Match, re.Pattern, logging.Logger, logging.LogRecord, threading.Thread, subprocess.Popen),
    *(datetime.date, datetime.timedelta, importlib.metadata.Distribution, importlib.machinery.ModuleSpec),
    *(np.ndarray, np.random.Generator, sitk.Image, sitk.Transform, Requirement, SpecifierSet, Version),
)
_SET_ON_INSTANCES = {"specifier", "free", "_path", "submodule_search_locations", "returncode", "stdin"}
"""Of Requirement, of the usage of a disk, of Distribution, of ModuleSpec, of Popen."""
_INSTANCES = (unittest.TestResult(),)
PYTHON_NAMES = frozenset(name for one in (*_TYPES, *_INSTANCES) for name in dir(one)) | _SET_ON_INSTANCES
