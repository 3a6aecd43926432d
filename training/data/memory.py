"""Memory: what there is of it for images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional, Tuple

from environment import UserError
from environment.threads import local_processes

__all__ = ['all_memory', 'free_memory', 'require_memory']

SHARE = 0.8  # of all memory, for images that are held in it
# A container's limit, what it takes, and a table of what that is; versions 2 and 1.
_CONTAINERS = (
    ('memory.max', 'memory.current', 'memory.stat', 'inactive_file'),
    ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes', 'memory/memory.stat', 'total_inactive_file'),
)


def _text(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # no Linux, or no container
        return ''


def _row(table: str, name: str) -> Optional[int]:
    rows = (line.split() for line in table.splitlines())
    return next((int(row[1]) for row in rows if len(row) > 1 and row[0] == name and row[1].isdigit()), None)


def _container(root: str) -> Optional[Tuple[int, int]]:
    """The limit of the container that this process is in, and what is taken of it; None where there is none."""
    for limit, taken, table, files in _CONTAINERS:
        bound, used = _text(f'{root}/{limit}').strip(), _text(f'{root}/{taken}').strip()
        if bound.isdigit() and used.isdigit():
            # Files that the kernel keeps as long as nobody wants their room.
            return int(bound), int(used) - (_row(_text(f'{root}/{table}'), files) or 0)
    return None


def all_memory(root: str = '/sys/fs/cgroup') -> int:
    """Bytes that the machine has, or the container."""
    present = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    container = _container(root)
    return present if container is None else min(present, container[0])


def free_memory(root: str = '/sys/fs/cgroup') -> int:
    """Bytes that this process may still take, of those shared with other processes of a launcher on this machine."""
    available = _row(_text('/proc/meminfo'), 'MemAvailable:')
    free = all_memory(root) if available is None else available << 10
    container = _container(root)
    if container is not None:
        bound, used = container
        free = min(free, max(0, bound - used))
    return free // local_processes()


def require_memory(name: str, count: int, size: int) -> None:
    """`UserError` if `count` images of `size` x `size` pixels can never fit into the memory."""
    needed, present = count * size * size * 3, all_memory()
    if needed > SHARE * present:
        raise UserError(
            f'{name} needs {needed / 2**30:.1f} GiB of memory for {count} images of {size} pixels, and there are '
            f'{present / 2**30:.1f} GiB; choose a smaller image size or fewer images'
        )
