"""Decoded images kept in memory, for the epochs after the first."""

from __future__ import annotations

import threading
from typing import List, Optional

import numpy as np

from data.classification.sources import ImageSource
from data.images import ImageError, image_size
from environment import UserError
from environment.machine_memory import free_memory

__all__ = ['CACHES', 'PREPARED', 'ImageCache', 'make_cache']

# 'off': decode in every epoch; 'auto': keep what was decoded if all of it fits; '256': bring images to a short side of
# 256 pixels first, whether they fit or not.
CACHES = ('off', 'auto', '256')
PREPARED = 256
SHARE = 0.5  # of the free memory
SAMPLE = 64  # images that are sampled for the estimate


class ImageCache:
    """Arrays by their number, as long as they take no more than `limit` bytes together; `expected` is the estimate."""

    def __init__(self, count: int, limit: int, expected: int = 0) -> None:
        self.limit, self.expected, self.taken = limit, expected, 0
        self._arrays: List[Optional[np.ndarray]] = [None] * count
        self._lock = threading.Lock()

    def get(self, i: int) -> Optional[np.ndarray]:
        """Return the i-th array, or None if it is not there."""
        return self._arrays[i]

    def put(self, i: int, array: np.ndarray) -> None:
        """Keep an array, unless there is no room left."""
        with self._lock:
            if self._arrays[i] is None and self.taken + array.nbytes <= self.limit:
                self._arrays[i] = array
                self.taken += array.nbytes


def estimate(source: ImageSource, short: Optional[int] = None) -> int:
    """Return an estimate of the bytes of all images of `source` decoded, from a sample; with `short` after `shrink`."""
    sizes = []
    for i in np.unique(np.linspace(0, len(source) - 1, SAMPLE).astype(np.int64)):
        try:
            data = source.read(i)
            if isinstance(data, np.ndarray):
                return 0  # decoded already
            height, width = image_size(data, source.title(i))
        except ImageError:  # it will be reported when its turn comes
            continue
        scale = 1.0 if short is None else min(1.0, short / max(1, min(height, width)))
        sizes.append(height * width * 3 * scale**2)
    return int(len(source) * np.mean(sizes)) if sizes else 0


def make_cache(
    kind: str, source: ImageSource, image_bytes: Optional[int] = None, others: Optional[ImageCache] = None
) -> Optional[ImageCache]:
    """Return a cache, or None if `kind` is 'off' or the cache would be too large.

    Args:
        kind: one of the kinds that `--cache` allows.
        source: the images to cache.
        image_bytes: the size of an image, if all have the same.
        others: a cache that is not filled yet, and will take its share of the memory.
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
