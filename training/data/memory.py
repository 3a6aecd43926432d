"""Memory: what there is of it for images."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

from environment import UserError
from environment.threads import local_processes

__all__ = ['free_memory', 'require_memory']

SHARE = 0.9  # of the free memory, for images that are held in it


def _bytes_from(path: str) -> Optional[int]:
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def free_memory() -> int:
    """Bytes that this process may still take, of those shared with other processes of a launcher on this machine."""
    free = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    try:
        lines = Path('/proc/meminfo').read_text().splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith('MemAvailable:'))
    except (OSError, StopIteration):  # no Linux
        pass
    # A container's limit, versions 2 and 1; what is taken includes files that the kernel keeps and would give back.
    for limit, taken in (
        ('memory.max', 'memory.current'),
        ('memory/memory.limit_in_bytes', 'memory/memory.usage_in_bytes'),
    ):
        bound, used = _bytes_from(f'/sys/fs/cgroup/{limit}'), _bytes_from(f'/sys/fs/cgroup/{taken}')
        if bound is not None and used is not None:
            free = min(free, max(0, bound - used))
    return free // local_processes()


def require_memory(name: str, count: int, size: int) -> None:
    """`UserError` if `count` images of `size` x `size` pixels do not fit into the free memory."""
    needed, free = count * size * size * 3, free_memory()
    if needed > SHARE * free:
        raise UserError(
            f'{name} needs {needed / 2**30:.1f} GiB of memory for {count} images of {size} pixels, and '
            f'{free / 2**30:.1f} GiB are free; choose a smaller image size or fewer images'
        )
