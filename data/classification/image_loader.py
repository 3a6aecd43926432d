"""Batches of network input from images that are decoded on demand.

The contract is that of `data.classification.loader`: order and changes depend only on (seed, epoch, image), there is no
state to save, and `batches(epoch, start)` continues where batch `start - 1` ended. Threads prepare a few batches ahead.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from data.augmentation.crop import AugmentParams, ImagenetAugment, normalise, paint
from data.augmentation.draws import words_of
from data.bad import BadImages
from data.classification.cache import ImageCache
from data.classification.decoder import Decoder, Decoding
from data.classification.loader import Batch, Loader
from data.classification.sources import ImageSource
from data.prefetch import prefetch
from data.sampler import Sampler

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
        decoding: threads, cache, and how many damaged images are put up with.
    """

    dataset: ImageSource

    def __init__(
        self,
        dataset: ImageSource,
        sampler: Sampler,
        augment: Union[bool, ImagenetAugment] = False,
        decoding: Decoding = Decoding(),  # noqa: B008 (it is frozen)
    ) -> None:
        super().__init__(dataset, sampler, augment)
        self.decoding, self.decoder = decoding, Decoder(dataset, decoding, whole=self.augment is not None)
        self._pixels = dataset.preprocessing.size
        # The network's input for every value of every colour, with exactly the bits of evaluation's
        # preprocessing.
        values = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)
        self._table = list(dataset.preprocessing.batch(values).reshape(3, 256))
        self._black = np.array([values[0] for values in self._table]).reshape(1, 3, 1, 1)

    @property
    def bad(self) -> BadImages:
        """Return the damaged images so far."""
        return self.decoder.bad

    @property
    def cache(self) -> Optional[ImageCache]:
        """Decoded images that are kept; None if none are."""
        return self.decoder.cache

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (batch index, data (N, 3, H, W) float32, labels (N,) int64, n_valid) from batch `start` on.

        The arrays are new ones for every batch. Rows from `n_valid` on are padding. Closing the iterator, or leaving
        it, ends its threads.
        """
        draws = self.sampler.draws(len(self.dataset), epoch)
        order, words = draws % max(len(self.dataset), 1), None
        if self.augment is not None:
            words = words_of(self.augment.words(self.sampler.seed, epoch, len(self.dataset)), draws)
        size = self.batch_size * max(1, BLOCK // self.batch_size)

        @lru_cache(maxsize=1)
        def drawn(block: int) -> AugmentParams:
            return self.augment.draw(words[block * size : (block + 1) * size])

        def params_of(number: int) -> Tuple[Optional[AugmentParams], int]:
            """Return the draws for a block of batches, and the index in it at which batch `number` begins."""
            if words is None:
                return None, 0
            return drawn(number * self.batch_size // size), number * self.batch_size % size

        def begin(number: int) -> Tuple[_Work, int]:
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            rows = self.batch_size if self.sampler.last == 'pad' else len(indices)
            data = np.empty((rows, 3, self._pixels, self._pixels), dtype=np.float32)
            labels = np.zeros((rows, *self.dataset.labels.shape[1:]), dtype=np.int64)
            labels[: len(indices)] = self.dataset.labels[indices]
            good = np.ones(len(indices), dtype=bool)
            return _Work(number, indices.tolist(), *params_of(number), data, labels, good), len(indices)

        work = self._evaluate if words is None else self._train
        count = self.sampler.count(order, len(self.dataset))
        for batch in prefetch(begin, work, start, count, self.decoding.threads, self.decoding.ahead):
            n_valid = len(batch.chosen)
            data, labels = batch.data, batch.labels
            if not batch.good.all():
                kept = np.flatnonzero(batch.good)
                n_valid = len(kept)
                data[:n_valid], labels[:n_valid] = data[kept], labels[kept]
                if self.sampler.last != 'pad':
                    data, labels = data[:n_valid], labels[:n_valid]
            data[n_valid:], labels[n_valid:] = self._black, 0
            yield batch.number, data, labels, n_valid

    def _train(self, batch: _Work, row: int) -> None:
        image = self.decoder.get(batch.chosen[row])
        if image is None:
            index, image = self.decoder.next_to(batch.chosen[row])
            batch.labels[row] = self.dataset.labels[index]
        known = self.dataset.preprocessing
        paint(image, batch.augment_params, batch.first + row, self.augment, known, self._table, batch.data[row])

    def _evaluate(self, batch: _Work, row: int) -> None:
        image = self.decoder.get(batch.chosen[row])
        if image is None:
            batch.good[row] = False
        else:
            normalise(image, self._table, batch.data[row])
