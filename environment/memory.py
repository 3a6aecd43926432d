"""Keep freed memory in the process for the next array, within bounds.

By default the C library returns every large block to the system and gets it anew, zeroed page by page, for the next
operator; imperative training of a CIFAR ResNet-20 then takes a quarter longer.

By default MXNet also keeps, for ever, what oneDNN compiles for each input shape of each layer, some 40 KB each; a
detector trained on images of a thousand sizes would fill gigabytes.
"""

import ctypes
import os
import sys
from typing import Tuple

__all__ = [
    'ADDRESSES',
    'PRIMITIVES',
    'bound_primitives',
    'keep_freed_memory',
    'return_freed_memory',
    'scarce_addresses',
]

# The variable that tells MXNet how many compiled forms of an operator each of its threads may keep, and our limit. Even
# our largest network has fewer layers of one kind, so networks of fixed input size never compile anything twice.
PRIMITIVES = 'MXNET_MKLDNN_CACHE_NUM'
_MOST = 512
ADDRESSES = 2 << 30  # bytes that MXNet and its libraries take before anything is computed, with a margin

# malloc.h of the GNU C library
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
# Any of these means that the user tunes the allocator.
_VARIABLES = (
    'MALLOC_TRIM_THRESHOLD_',
    'MALLOC_TOP_PAD_',
    'MALLOC_MMAP_MAX_',
    'MALLOC_MMAP_THRESHOLD_',
    'GLIBC_TUNABLES',
)


def scarce_addresses() -> int:
    """Return the limit of this process's address space in bytes (`ulimit -v`) if it is too small for MXNet; else 0.

    Below the minimum, MXNet's libraries end the process with a signal and no message.
    """
    import resource

    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return 0 if limit == resource.RLIM_INFINITY or limit >= ADDRESSES else limit


def keep_freed_memory() -> bool:
    """Tell the C library's allocator to keep freed blocks, and return whether that succeeded.

    Nothing is changed for other allocators (macOS, musl), or if the user tunes the allocator by environment variables.
    """
    # Large arrays get no blocks of their own; the heap grows in large steps and never shrinks.
    return _told((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))


def return_freed_memory() -> bool:
    """Tell the C library's allocator to return large blocks to the system, and return whether that succeeded.

    The opposite of `keep_freed_memory`, under the same conditions, for processes whose memory is scarcer than time.
    """
    return _told((_MMAP_MAX, 65536), (_MMAP_THRESHOLD, 1 << 20), (_TRIM_THRESHOLD, 16 << 20), (_TOP_PAD, 1 << 20))


def _told(*settings: Tuple[int, int]) -> bool:
    if not sys.platform.startswith('linux') or any(name in os.environ for name in _VARIABLES):
        return False
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt is None:
        return False
    told = [mallopt(parameter, value) for parameter, value in settings]
    return all(status == 1 for status in told)


def bound_primitives() -> None:
    """Limit how many compiled forms of an operator MXNet keeps, unless the user has set a limit.

    MXNet reads the limit once, so it has to be set before.
    """
    os.environ.setdefault(PRIMITIVES, str(_MOST))
