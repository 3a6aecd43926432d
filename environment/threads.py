"""Set one OpenMP thread per physical core available to this process.

MXNet takes half of the logical processors, assuming two per core. Without hyper-threading, or in a container, half of
the cores would stay idle.
"""

import os
import sys
from pathlib import Path
from typing import Optional

__all__ = ['VARIABLES', 'WAITING', 'physical_cores', 'set_threads', 'thread_setting']

# In order of precedence for MXNet.
VARIABLES = ('MXNET_OMP_MAX_THREADS', 'OMP_NUM_THREADS')
# Threads that wait for each other spin for a moment before they sleep. GNU's OpenMP hardly spins in a process with more
# threads than cores, which every process with MXNet is; waking the threads then costs a small network more than its
# arithmetic. The number of turns is the one that it uses by default if there are enough cores.
WAITING = {'OMP_WAIT_POLICY': 'active', 'GOMP_SPINCOUNT': '300000'}
# The number of processes that a launcher started on this machine: Horovod with Gloo, Open MPI, Intel MPI.
LOCAL_SIZES = ('HOROVOD_LOCAL_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE', 'MPI_LOCALNRANKS')


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:  # absent on this kernel, or hidden in this container
        return ''


def _linux_cores(topology: Path) -> int:
    """Count the distinct cores among the logical processors of this process's affinity mask."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        cores.add(_text(topology / f'cpu{cpu}' / 'topology' / 'thread_siblings_list') or str(cpu))
    return len(cores)


def _mac_cores() -> int:
    import ctypes

    count, size = ctypes.c_int32(0), ctypes.c_size_t(4)
    libc = ctypes.CDLL(None)
    value, length = ctypes.byref(count), ctypes.byref(size)
    failed = libc.sysctlbyname(b'hw.physicalcpu', value, length, None, ctypes.c_size_t(0))
    return os.cpu_count() or 1 if failed else count.value


def _cgroup_limit(root: Path, membership: Path) -> Optional[float]:
    """Return the smallest CPU quota, in processors, from this process's cgroup up to the root."""
    limits = []
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(':', 2)
        if controllers == '':  # version 2: "QUOTA PERIOD" in one file, QUOTA may be "max"
            base, read = root, lambda folder: _text(folder / 'cpu.max').split()
        elif 'cpu' in controllers.split(','):  # version 1: a QUOTA of -1 means none
            base = root / 'cpu'
            read = lambda folder: [_text(folder / f'cpu.cfs_{name}_us') for name in ('quota', 'period')]  # noqa: E731
        else:
            continue
        here = base / path.lstrip('/')
        # Inside a container the path is the host's and leads nowhere here; the root is then our own group.
        for folder in (here, *here.parents):
            if base not in (folder, *folder.parents):
                break
            numbers = read(folder)
            if len(numbers) == 2 and numbers[0].isdigit() and numbers[1].isdigit():
                limits.append(int(numbers[0]) / int(numbers[1]))
    return min(limits, default=None)


def physical_cores() -> int:
    """Count the physical cores available to this process, within its affinity mask and cgroup quota."""
    if sys.platform == 'darwin':
        return _mac_cores()
    cores = _linux_cores(Path('/sys/devices/system/cpu'))
    limit = _cgroup_limit(Path('/sys/fs/cgroup'), Path('/proc/self/cgroup'))
    return cores if limit is None else max(1, min(cores, int(limit)))


def thread_setting() -> Optional[str]:
    """Return the environment variable that sets the number of threads, or None."""
    return next((name for name in VARIABLES if os.environ.get(name)), None)


def local_processes() -> int:
    """Return how many processes a launcher started on this machine, including this one."""
    local = next((int(os.environ[name]) for name in LOCAL_SIZES if os.environ.get(name, '').isdigit()), 1)
    return max(1, local)


def set_threads() -> None:
    """Set OMP_NUM_THREADS and how threads wait, unless the user did. MXNet reads both when it is imported.

    The processes that a launcher starts on one machine share its cores.
    """
    if not any(os.environ.get(name) for name in WAITING):
        os.environ.update(WAITING)
    if thread_setting() is None:
        os.environ['OMP_NUM_THREADS'] = str(max(1, physical_cores() // local_processes()))
