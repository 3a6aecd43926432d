"""Tell whether tests that need the compiled kernels can run."""

import os
import shutil

import pytest

import kernels
from kernels.place import why_not

kernels.load()

# If there is a compiler, the kernels must be there: skipped tests prove nothing.
could_be = why_not() is None and shutil.which('g++') is not None and os.environ.get(kernels.SWITCH) != '0'
needs_kernels = pytest.mark.skipif(not kernels.loaded() and not could_be, reason='no compiled kernels on this machine')
