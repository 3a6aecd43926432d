"""What all tests share: the process is prepared for MXNet, in as many threads as share the machine well."""

import ctypes
import os
import sys

# Networks in tests are small: one thread is fastest for them. It also keeps sums, and so results, the same on
# machines with more cores. Whoever wants to try others sets the variable.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import environment  # noqa: F401  (before anything imports MXNet)

# What `environment.memory` keeps for the next array of a program is much in a process that goes through a thousand
# networks of all sizes: more than this many bytes are given back to the system.
KEPT = 1 << 30


def pytest_runtest_logfinish():
    libc = ctypes.CDLL(None)
    if sys.platform.startswith('linux') and hasattr(libc, 'malloc_trim'):
        with open('/proc/self/statm') as file:
            resident = int(file.read().split()[1]) * os.sysconf('SC_PAGE_SIZE')
        if resident > KEPT:
            libc.malloc_trim(0)
