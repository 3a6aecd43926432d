"""Batches of network input from images that are decoded when they are needed.

The contract is that of `data.classification.loader`: order and changes depend on (seed, epoch, image) alone, there
is no state to save, and `batches(epoch, start)` goes on where batch `start - 1` ended. Threads prepare a few batches
ahead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from data.augmentation.crop import AugmentParams, ImagenetAugment, normalise, paint
from data.bad import BadImages
from data.classification.cache import PREPARED, ImageCache, make_cache
from data.classification.loader import Batch, Loader
from data.classification.sources import ImageSource
from data.images import ImageError, read_image
from data.pixels import one_thread_each, shrink
from data.prefetch import prefetch
from environment import UserError

__all__ = ['ImageLoader']

BLOCK = 512  # images whose augment_params are drawn at once, which costs little more than those of a few


class _Work(NamedTuple):
    """A batch under way."""

    number: int
    chosen: List[int]
    augment_params: Optional[AugmentParams]
    first: int  # where in `augment_params` this batch begins
    data: np.ndarray
    labels: np.ndarray
    good: np.ndarray


class ImageLoader(Loader):
    """Batches of an `ImageSource`; arguments that are not named here are those of `data.classification.loader.Loader`.

    A damaged image does not change the shape of a batch. In training the next undamaged image of the dataset takes its
    place, label included; in scoring, where every image counts once, it is left out and `n_valid` is smaller (with
    'keep' the batch is shorter).

    Args:
        augment: True for the source's own augmentation, an `ImagenetAugment` for another, False for evaluation's
            preprocessing.
        threads: that decode.
        ahead: batches prepared before they are asked for.
        cache: 'off', 'auto' or '256', see `data.classification.cache`. '256' brings images for training to a short
            side of 256 pixels first; the others give the same batches, bit for bit.
        max_bad: damaged images to put up with; one more raises `UserError`.
        other_cache: of a loader that shares the memory.
    """

    dataset: ImageSource

    def __init__(
        self,
        dataset: ImageSource,
        batch_size: int,
        augment: Union[bool, ImagenetAugment] = False,
        seed: int = 0,
        shuffle: bool = False,
        last: str = 'keep',
        rank: int = 0,
        size: int = 1,
        limit: Optional[int] = None,
        threads: int = 4,
        ahead: int = 2,
        cache: str = 'off',
        max_bad: int = 0,
        other_cache: Optional[ImageCache] = None,
    ) -> None:
        super().__init__(dataset, batch_size, augment, seed, shuffle, last, rank, size, limit)
        if threads < 1 or ahead < 1:
            raise ValueError(f'threads and ahead must be 1 or more, not {threads} and {ahead}')
        one_thread_each()
        self.threads, self.ahead = threads, ahead
        self.bad = BadImages(max_bad, self.dataset.name)
        self._pixels = self.dataset.preprocessing.size
        self.prepared = PREPARED if cache == '256' and self.augment is not None else None
        self.cache: Optional[ImageCache] = make_cache(
            cache, self.dataset, None if self.augment is not None else 3 * self._pixels**2, other_cache
        )
        # The network's input for every value of every colour: the very bits that evaluation's preprocessing gives.
        values = np.arange(256, dtype=np.uint8)
        self._table = list(self.dataset.preprocessing.normalise(np.tile(values, (1, 3, 1, 1))).reshape(3, 256))
        self._black = np.array([values[0] for values in self._table]).reshape(1, 3, 1, 1)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (batch index, data (N, 3, H, W) float32, labels (N,) int64, n_valid) from batch `start` on.

        The arrays are new ones for every batch. Rows from `n_valid` on are padding. Closing the iterator, or leaving
        it, ends its threads.
        """
        order = self.order(epoch)
        words = None if self.augment is None else self.augment.words(self.seed, epoch, len(self.dataset))
        size = self.batch_size * max(1, BLOCK // self.batch_size)

        @lru_cache(maxsize=1)
        def drawn(block: int) -> AugmentParams:
            return self.augment.draw(words[order[block * size : (block + 1) * size]])

        def params_of(number: int) -> Tuple[Optional[AugmentParams], int]:
            """What was drawn for a block of batches, and where in it batch `number` begins."""
            if words is None:
                return None, 0
            return drawn(number * self.batch_size // size), number * self.batch_size % size

        def begin(number: int) -> Tuple[_Work, int]:
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            rows = self.batch_size if self.last == 'pad' else len(indices)
            data = np.empty((rows, 3, self._pixels, self._pixels), dtype=np.float32)
            labels = np.zeros(rows, dtype=np.int64)
            labels[: len(indices)] = self.dataset.labels[indices]
            good = np.ones(len(indices), dtype=bool)
            return _Work(number, indices.tolist(), *params_of(number), data, labels, good), len(indices)

        work = self._evaluate if words is None else self._train
        for batch in prefetch(begin, work, start, self.count(order), self.threads, self.ahead):
            n_valid = len(batch.chosen)
            data, labels = batch.data, batch.labels
            if not batch.good.all():
                kept = np.flatnonzero(batch.good)
                n_valid = len(kept)
                data[:n_valid], labels[:n_valid] = data[kept], labels[kept]
                if self.last != 'pad':
                    data, labels = data[:n_valid], labels[:n_valid]
            data[n_valid:], labels[n_valid:] = self._black, 0
            yield batch.number, data, labels, n_valid

    def _train(self, batch: _Work, row: int) -> None:
        image = self._guarded(batch.chosen[row], self._decoded)
        if image is None:
            index, image = self._next(batch.chosen[row])
            batch.labels[row] = self.dataset.labels[index]
        known = self.dataset.preprocessing
        paint(image, batch.augment_params, batch.first + row, self.augment, known, self._table, batch.data[row])

    def _evaluate(self, batch: _Work, row: int) -> None:
        image = self._guarded(batch.chosen[row], self._fitted)
        if image is None:
            batch.good[row] = False
        else:
            normalise(image, self._table, batch.data[row])

    def _next(self, index: int) -> Tuple[int, np.ndarray]:
        """The next undamaged image after a damaged one, and its number."""
        for step in range(1, len(self.dataset)):
            other = (index + step) % len(self.dataset)
            image = self._guarded(other, self._decoded)
            if image is not None:
                return other, image
        raise UserError(
            f'no image of {self.dataset.name} can be read (the first: {self.bad.sentences[0]}); get it again'
        )

    def _guarded(self, index: int, read: Callable[[int], np.ndarray]) -> Optional[np.ndarray]:
        """`read(index)`, out of the cache if it is there; None for a damaged image, which is then noted."""
        if index in self.bad:
            return None
        image = None if self.cache is None else self.cache.get(index)
        if image is None:
            try:
                image = read(index)
            except ImageError as error:
                self.bad.add(index, str(error))
                return None
            if self.cache is not None:
                self.cache.put(index, image)
        return image

    def _decoded(self, index: int) -> np.ndarray:
        image = self._pixels_of(index)
        return image if self.prepared is None else shrink(image, self.prepared)

    def _fitted(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(self.dataset.preprocessing.fit(self._pixels_of(index)))

    def _pixels_of(self, index: int) -> np.ndarray:
        data = self.dataset.read(index)
        return data if isinstance(data, np.ndarray) else read_image(data, self.dataset.title(index))
