"""Freed memory stays with the process, unless the user tunes the allocator."""

import subprocess
import sys

import pytest

from environment import memory

# Page faults of the second round: pages that were given back to the system fault again when they are used anew.
PROGRAM = """
import ctypes, resource
from environment import memory
told = memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def use():
    block = libc.malloc(16 << 20)
    ctypes.memset(block, 1, 16 << 20)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**variables):
    import os

    clean = {name: value for name, value in os.environ.items() if not name.startswith(('MALLOC_', 'GLIBC_'))}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    told, count = done.stdout.split()
    return told == 'True', int(count)


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the allocator of the GNU C library')
def test_freed_pages_are_used_again():
    told, count = faults()
    assert told
    assert count < 100


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='the allocator of the GNU C library')
def test_the_users_tuning_wins():
    told, count = faults(MALLOC_TRIM_THRESHOLD_='131072')
    assert not told
    assert count > 1000


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, 'platform', 'darwin')
    assert not memory.keep_freed_memory()
