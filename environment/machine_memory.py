"""Measure the memory available to this process."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import Optional, Tuple

from environment.threads import local_processes

__all__ = ['all_memory', 'free_memory']

# The files with a container's limit, its usage and the details of its usage, and the detail that is not to be counted;
# for versions 2 and 1 of cgroups.
_CONTAINERS = (
    ('memory.max', 'memory.current', 'memory.stat', 'inactive_file'),
    ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes', 'memory/memory.stat', 'total_inactive_file'),
)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # not Linux, or not in a container
        return ''


def _row(table: str, name: str) -> Optional[int]:
    rows = (line.split() for line in table.splitlines())
    return next((int(row[1]) for row in rows if len(row) > 1 and row[0] == name and row[1].isdigit()), None)


def _container(root: str) -> Optional[Tuple[int, int]]:
    """Return the memory limit of this process's container and the part in use; None if there is no limit."""
    for limit, taken, table, files in _CONTAINERS:
        bound, used = _text(f'{root}/{limit}').strip(), _text(f'{root}/{taken}').strip()
        if bound.isdigit() and used.isdigit():
            # Without cached files, which the kernel drops when memory is needed.
            return int(bound), int(used) - (_row(_text(f'{root}/{table}'), files) or 0)
    return None


def all_memory(root: str = '/sys/fs/cgroup') -> int:
    """Return the memory in bytes of the machine or container, or what `ulimit -v` allows."""
    present = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY:
        present = min(present, allowed)
    container = _container(root)
    return present if container is None else min(present, container[0])


def free_memory(root: str = '/sys/fs/cgroup') -> int:
    """Return the bytes that this process may still allocate.

    The processes that a launcher started on this machine share what is free.
    """
    available = _row(_text('/proc/meminfo'), 'MemAvailable:')
    free = all_memory(root) if available is None else available << 10
    container = _container(root)
    if container is not None:
        bound, used = container
        free = min(free, max(0, bound - used))
    return free // local_processes()
