"""Decoded images kept in memory, for the epochs after the first."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import List, Optional

import cv2
import numpy as np

from environment import UserError
from environment.threads import LOCAL_SIZES
from inference.images import ImageError
from training.data.imagenet.pixels import decode_bgr, jpeg_size
from training.data.imagenet.source import ImageSource

__all__ = ['CACHES', 'PREPARED', 'ImageCache', 'free_memory', 'make_cache', 'shrink']

# 'off': decode in every epoch; 'auto': keep what was decoded if all of it fits; '256': bring images to a short side of
# 256 pixels first, whether they fit or not.
CACHES = ('off', 'auto', '256')
PREPARED = 256
SHARE = 0.5  # of the free memory
SAMPLE = 64  # images that are looked at to estimate


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
    local = next((int(os.environ[name]) for name in LOCAL_SIZES if os.environ.get(name, '').isdigit()), 1)
    return free // max(1, local)


def shrink(image: np.ndarray, short: int) -> np.ndarray:
    """The image with a short side of at most `short` pixels."""
    height, width = image.shape[:2]
    if min(height, width) <= short:
        return image
    scale = short / min(height, width)
    size = max(short, round(width * scale)), max(short, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


class ImageCache:
    """Arrays by their number, as long as they take no more than `limit` bytes together; `expected` is the estimate."""

    def __init__(self, count: int, limit: int, expected: int = 0) -> None:
        self.limit, self.expected, self.taken = limit, expected, 0
        self._arrays: List[Optional[np.ndarray]] = [None] * count
        self._lock = threading.Lock()

    def get(self, i: int) -> Optional[np.ndarray]:
        """The i-th array, or None if it is not there."""
        return self._arrays[i]

    def put(self, i: int, array: np.ndarray) -> None:
        """Keep an array, unless there is no room left."""
        with self._lock:
            if self._arrays[i] is None and self.taken + array.nbytes <= self.limit:
                self._arrays[i] = array
                self.taken += array.nbytes


def estimate(source: ImageSource, short: Optional[int] = None) -> int:
    """Bytes of all images of `source` decoded, from some of them; with `short` after `shrink`."""
    sizes = []
    for i in np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(np.int64)):
        try:
            data = source.read(i)
            if isinstance(data, np.ndarray):
                return 0  # decoded already
            height, width = jpeg_size(data) or decode_bgr(data, source.title(i)).shape[:2]
        except ImageError:  # it will be told when its turn comes
            continue
        scale = 1.0 if short is None else min(1.0, short / max(1, min(height, width)))
        sizes.append(height * width * 3 * scale**2)
    return int(len(source) * np.mean(sizes)) if sizes else 0


def make_cache(
    kind: str, source: ImageSource, image_bytes: Optional[int] = None, others: Optional[ImageCache] = None
) -> Optional[ImageCache]:
    """A cache of the `kind` for `source`, or None if that is 'off' or too large.

    Args:
        image_bytes: the size of an image if all have the same.
        others: a cache that is not filled yet, and will take its share.
    """
    if kind not in CACHES:
        raise UserError(f'--cache {kind} must be one of {", ".join(CACHES)}')
    if kind == 'off':
        return None
    limit = int(SHARE * free_memory()) - (0 if others is None else others.expected)
    if image_bytes is not None:
        needed = image_bytes * len(source)
    else:
        needed = estimate(source, PREPARED if kind == '256' else None)
    return ImageCache(len(source), limit, needed) if 0 < needed <= limit else None
