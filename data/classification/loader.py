"""Batches of network input from an `ImageDataset`, fast enough that no training step waits for them.

There is no background thread: MXNet computes asynchronously, so the main thread prepares the next batch
while the engine works on the last, and a batch takes a few milliseconds (`tools/benchmark_data.py`).
"""

from __future__ import annotations

from typing import Iterator, Optional, Tuple, Union

import numpy as np

from data.augmentation.shift import Augment, gather
from data.classification.dataset import ImageDataset
from data.sampler import Sampler

__all__ = ['Batch', 'Loader']

# batch index, data (N, 3, H, W) float32, labels (N,) or (N, K) int64, number of rows that count
Batch = Tuple[int, np.ndarray, np.ndarray, int]


class Loader:
    """Batches of a dataset in an order, and with changes, that depend on (seed, epoch, image index) alone.

    So there is no state to save: `batches(epoch, start)` continues where batch `start - 1` ended.

    Args:
        dataset: where images, labels, normalisation and the default augmentation come from.
        sampler: the order, and how it is cut into batches.
        augment: True for the dataset's own augmentation, an `Augment` for another, False for none.
    """

    def __init__(self, dataset: ImageDataset, sampler: Sampler, augment: Union[bool, Augment] = False) -> None:
        sampler.check(len(dataset))
        self.dataset, self.sampler = dataset, sampler
        self.augment: Optional[Augment] = dataset.augment if augment is True else (augment or None)

    @property
    def batch_size(self) -> int:
        """Return images per batch and rank."""
        return self.sampler.batch_size

    def __len__(self) -> int:
        """Return the batches of this rank per epoch; with 'wrap' those of the first."""
        return self.sampler.batches(len(self.dataset))

    def order(self, epoch: int) -> np.ndarray:
        """Return the image indices of this rank in the order of the epoch."""
        return self.sampler.order(len(self.dataset), epoch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (batch index, data (N, 3, H, W) float32, labels (N,) int64, n_valid) from batch `start` on.

        The arrays are new ones for every batch. Rows from `n_valid` on are padding.
        """
        total, to_input = len(self.dataset), self.dataset.preprocessing.batch
        images, labels = self.dataset.images, self.dataset.labels
        draws = self.sampler.draws(total, epoch)
        order = draws % max(total, 1)
        if self.augment is not None:
            words = self.augment.words(self.sampler.seed, epoch, total, draws)
            top, left, flip = self.augment.draw(self.sampler.seed, epoch, total, draws)
        for batch in range(start, self.sampler.count(order, total)):
            part = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
            chosen = order[part]
            if self.augment is not None:
                pixels = gather(images, chosen, self.augment, top[part], left[part], flip[part])
                self.augment.operate(pixels, words[part])
            else:
                pixels = images[chosen]
            data, wanted, n_valid = to_input(pixels), labels[chosen], len(chosen)
            if self.augment is not None:
                self.augment.lose(data, words[part])
            if self.sampler.last == 'pad' and n_valid < self.batch_size:
                black = np.zeros((self.batch_size - n_valid, *pixels.shape[1:]), dtype=np.uint8)
                data = np.concatenate([data, to_input(black)])
                wanted = np.concatenate([wanted, np.zeros((len(black), *wanted.shape[1:]), dtype=wanted.dtype)])
            yield batch, data, wanted, n_valid
