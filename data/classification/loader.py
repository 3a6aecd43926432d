"""Batches of network input from an `ImageDataset`, fast enough that no training step waits for them.

There is no background thread: MXNet computes asynchronously, so the main thread prepares the next batch
while the engine works on the last, and a batch takes a few milliseconds (`tools/benchmark_data.py`).
"""

from __future__ import annotations

from typing import Iterator, Optional, Tuple, Union

import numpy as np

from data.augmentation.shift import ORDER, Augment, gather, random_words
from data.classification.dataset import ImageDataset

__all__ = ['Batch', 'Loader']

# batch index, data (N, 3, H, W) float32, labels (N,) int64, number of rows that count
Batch = Tuple[int, np.ndarray, np.ndarray, int]
LAST = ('discard', 'keep', 'pad', 'wrap')


class Loader:
    """Batches of a dataset in an order, and with changes, that depend on (seed, epoch, image index) alone.

    So there is no state to save: `batches(epoch, start)` continues where batch `start - 1` ended.

    Args:
        dataset: where images, labels, normalisation and the default augmentation come from.
        batch_size: images per batch and rank.
        augment: True for the dataset's own augmentation, an `Augment` for another, False for none.
        seed: of order and augmentation, 0 to 2**64 - 1.
        shuffle: a new order every epoch; otherwise the dataset's.
        last: what becomes of a last batch that is not full. 'discard' drops it, 'keep' yields it shorter,
            'pad' fills it with black images of label 0, which `n_valid` leaves out; 'wrap' fills it with the first
            images, and the next epoch begins after these, as the record iterator of open-atac's ImageNet validation
            does: some images count twice, or not at all. Not with `shuffle` or several workers.
        rank, size: this worker and the number of workers. They share one order: worker `rank` takes its
            positions rank, rank + size, ... With 'discard' and 'pad' all workers get the same number of
            batches.
        limit: use this many images only, spread evenly over the dataset.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        augment: Union[bool, Augment] = False,
        seed: int = 0,
        shuffle: bool = False,
        last: str = 'keep',
        rank: int = 0,
        size: int = 1,
        limit: Optional[int] = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f'batch_size {batch_size} must be 1 or more')
        if last not in LAST:
            raise ValueError(f'last {last!r} must be one of {", ".join(LAST)}')
        if last == 'wrap' and (shuffle or size > 1):
            raise ValueError("last 'wrap' is for one worker and the dataset's order")
        if not 0 <= rank < size:
            raise ValueError(f'rank {rank} must lie in 0 .. size - 1, and size is {size}')
        if not 0 <= seed < 2**64:
            raise ValueError(f'seed {seed} must lie in 0 .. 2**64 - 1')
        self.dataset = dataset if limit is None else dataset.limited(limit)
        if last == 'wrap' and len(self.dataset) < batch_size:
            raise ValueError(
                f"last 'wrap' needs as many images as a batch has, {batch_size}, and not {len(self.dataset)}"
            )
        self.batch_size, self.seed, self.shuffle, self.last = batch_size, seed, shuffle, last
        self.rank, self.size = rank, size
        self.augment: Optional[Augment] = self.dataset.augment if augment is True else (augment or None)

    def __len__(self) -> int:
        """Batches of this rank per epoch; with 'wrap' those of the first."""
        total = len(self.dataset)
        if self.last == 'discard':
            return total // self.size // self.batch_size
        # Rank 0 has the most images; only with 'keep' may another rank have a batch less.
        mine = len(range(self.rank if self.last == 'keep' else 0, total, self.size))
        return -(-mine // self.batch_size)

    def order(self, epoch: int) -> np.ndarray:
        """Image indices of this rank in the order of the epoch, cut or not as `last` says."""
        total = len(self.dataset)
        if self.shuffle:
            # Sorting random numbers rather than Generator.permutation, whose stream NumPy may change.
            order = np.argsort(random_words(self.seed, epoch, ORDER, total), kind='stable')
        elif self.last == 'wrap':
            begin, end = (-(-passes * total // self.batch_size) * self.batch_size for passes in (epoch, epoch + 1))
            order = np.arange(begin, end) % total
        else:
            order = np.arange(total)
        mine = order[self.rank :: self.size]
        return mine[: len(self) * self.batch_size] if self.last == 'discard' else mine

    def count(self, order: np.ndarray) -> int:
        """Batches of an epoch with the images of `order`."""
        return len(order) // self.batch_size if self.last == 'wrap' else len(self)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield (batch index, data (N, 3, H, W) float32, labels (N,) int64, n_valid) from batch `start` on.

        The arrays are new ones for every batch. Rows from `n_valid` on are padding.
        """
        order, normalise = self.order(epoch), self.dataset.preprocessing.normalise
        images, labels = self.dataset.images, self.dataset.labels
        if self.augment is not None:
            top, left, flip = self.augment.draw(self.seed, epoch, len(self.dataset))
        for batch in range(start, self.count(order)):
            chosen = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            if self.augment is not None:
                pixels = gather(images, chosen, self.augment, top[chosen], left[chosen], flip[chosen])
            else:
                pixels = images[chosen].transpose(0, 3, 1, 2)
            data, wanted, n_valid = normalise(pixels), labels[chosen], len(chosen)
            if self.last == 'pad' and n_valid < self.batch_size:
                black = np.zeros((self.batch_size - n_valid, *pixels.shape[1:]), dtype=np.uint8)
                data = np.concatenate([data, normalise(black)])
                wanted = np.concatenate([wanted, np.zeros(len(black), dtype=wanted.dtype)])
            yield batch, data, wanted, n_valid
