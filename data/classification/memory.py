"""Memory for images."""

from __future__ import annotations

from environment import UserError
from environment.machine_memory import all_memory

__all__ = ['require_memory']

SHARE = 0.8  # of all memory, for images that are held in it


def require_memory(name: str, count: int, size: int) -> None:
    """Raise `UserError` if `count` images of `size` x `size` pixels can never fit into the memory."""
    needed, present = count * size * size * 3, all_memory()
    if needed > SHARE * present:
        raise UserError(
            f'{name} needs {needed / 2**30:.1f} GiB of memory for {count} images of {size} pixels, and there are '
            f'{present / 2**30:.1f} GiB; choose a smaller image size or fewer images'
        )
