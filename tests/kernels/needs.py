"""Which tests need the compiled kernels."""

import os
import shutil

import pytest

import kernels
from kernels.place import why_not

kernels.load()

# Where a compiler is at hand they have to be there: tests that leave themselves out show nothing.
could_be = why_not() is None and shutil.which('g++') is not None and os.environ.get(kernels.SWITCH) != '0'
needs_kernels = pytest.mark.skipif(not kernels.loaded() and not could_be, reason='no compiled kernels on this machine')
