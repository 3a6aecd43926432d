"""Images of a source as pixels: decoded in threads, kept in a cache, without the damaged ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Optional, Tuple

import numpy as np

from data.bad import BadImages, Tolerance
from data.classification.cache import PREPARED, ImageCache, make_cache
from data.classification.sources import ImageSource
from data.images import ImageError, read_image
from data.pixels import one_thread_each, shrink
from environment import UserError

__all__ = ['Decoder', 'Decoding']


@dataclass(frozen=True)
class Decoding:
    """How images are decoded.

    Attributes:
        threads: number of threads.
        ahead: batches prepared in advance.
        tolerance: how many damaged images are tolerated; one more raises `UserError`.
        cache: 'off', 'auto' or '256', see `data.classification.cache`. '256' scales images for training to a short
            side of 256 pixels first; the others give the same batches, bit for bit.
        other_cache: of a loader that shares the memory.
    """

    threads: int = 4
    ahead: int = 2
    tolerance: Tolerance = Tolerance()
    cache: str = 'off'
    other_cache: Optional[ImageCache] = None

    def __post_init__(self) -> None:
        if self.threads < 1 or self.ahead < 1:
            raise ValueError(f'threads and ahead must be 1 or more, not {self.threads} and {self.ahead}')


class Decoder:
    """Images of a source: whole ones for training, or fitted to the network's input.

    Attributes:
        bad: the damaged images so far.
        cache: None if there is none.
    """

    def __init__(self, source: ImageSource, decoding: Decoding, whole: bool) -> None:
        one_thread_each()
        self.source, self.bad = source, BadImages(decoding.tolerance, len(source), source.name)
        self._short = PREPARED if whole and decoding.cache == '256' else None
        self._read: Callable[[int], np.ndarray] = self._whole if whole else self._fitted
        image_bytes = None if whole else 3 * source.preprocessing.size**2
        self.cache = make_cache(decoding.cache, source, image_bytes, decoding.other_cache)

    def get(self, index: int) -> Optional[np.ndarray]:
        """Return an image, (H, W, 3) uint8, from the cache if it is there.

        None for a damaged one, which is recorded.
        """
        if index in self.bad:
            return None
        image = None if self.cache is None else self.cache.get(index)
        if image is None:
            try:
                image = self._read(index)
            except ImageError as error:
                self.bad.add(index, str(error))
                return None
            if self.cache is not None:
                self.cache.put(index, image)
        return image

    def next_to(self, index: int) -> Tuple[int, np.ndarray]:
        """Return the next undamaged image after a damaged one, with its number."""
        for step in range(1, len(self.source)):
            other = (index + step) % len(self.source)
            image = self.get(other)
            if image is not None:
                return other, image
        raise UserError(
            f'no image of {self.source.name} can be read (the first: {self.bad.sentences[0]}); fetch it again'
        )

    def _whole(self, index: int) -> np.ndarray:
        image = self._pixels(index)
        return image if self._short is None else shrink(image, self._short)

    def _fitted(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(self.source.preprocessing.fit(self._pixels(index)))

    def _pixels(self, index: int) -> np.ndarray:
        data = self.source.read(index)
        return data if isinstance(data, np.ndarray) else read_image(data, self.source.title(index))
