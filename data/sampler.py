"""Choose which images a worker's batches hold, and in which order: a function of (seed, epoch) alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from data.augmentation.draws import ORDER, random_words

__all__ = ['Sampler']

LAST = ('discard', 'keep', 'pad', 'wrap')


@dataclass(frozen=True)
class Sampler:
    """The order of a data set of any size.

    Attributes:
        batch_size: images per batch and rank.
        seed: of the order, and of what a loader draws, 0 to 2**64 - 1.
        shuffle: a new order every epoch; otherwise the data set's.
        last: what becomes of a last batch that is not full. 'discard' drops it, 'keep' yields it shorter,
            'pad' fills it with black images of label 0, which `n_valid` leaves out; 'wrap' fills it with the first
            images, and the next epoch begins after these, as the record iterator of open-atac's ImageNet validation
            does: some images count twice, or not at all. Not with `shuffle` or several workers.
        rank, size: this worker and the number of workers. They share one order: worker `rank` takes its
            positions rank, rank + size, ... With 'discard' and 'pad' all workers get the same number of
            batches.
        part: 'discard' leaves of the last batch as many images as are a multiple of this, 0 for whole batches.
        repeats: how often an image comes, time after time: repeated augmentation (Berman et al., "MultiGrain", arXiv
            1902.05509; Hoffer et al., CVPR 2020), as DeiT's and timm's RepeatAugSampler has it. An epoch stays as long
            as it is, of the first images of its order, so that the others do not come.
    """

    batch_size: int
    seed: int = 0
    shuffle: bool = False
    last: str = 'keep'
    rank: int = 0
    size: int = 1
    repeats: int = 1
    part: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f'batch_size {self.batch_size} must be 1 or more')
        if self.last not in LAST:
            raise ValueError(f'last {self.last!r} must be one of {", ".join(LAST)}')
        if self.last == 'wrap' and (self.shuffle or self.size > 1):
            raise ValueError("last 'wrap' is for one worker and the dataset's order")
        if self.repeats < 1:
            raise ValueError(f'repeats {self.repeats} must be 1 or more')
        if not 0 <= self.rank < self.size:
            raise ValueError(f'rank {self.rank} must lie in 0 .. size - 1, and size is {self.size}')
        if not 0 <= self.seed < 2**64:
            raise ValueError(f'seed {self.seed} must lie in 0 .. 2**64 - 1')

    def check(self, total: int) -> None:
        """Raise `ValueError` if there is no such order for a data set of this size."""
        if self.last == 'wrap' and total < self.batch_size:
            raise ValueError(f"last 'wrap' needs as many images as a batch has, {self.batch_size}, and not {total}")

    def grouped(self, count: int) -> Sampler:
        """Return a sampler whose batches consist of this many of this one's; only the last may consist of fewer."""
        return replace(self, batch_size=count * self.batch_size, part=self.batch_size)

    def _kept(self, total: int) -> int:
        """Return how many images each rank has if 'discard' drops the others."""
        part = self.part or self.batch_size
        return total // self.size // part * part

    def batches(self, total: int) -> int:
        """Return how many batches this rank has in an epoch of this many images; with 'wrap' in the first."""
        if self.last == 'discard':
            return -(-self._kept(total) // self.batch_size)
        # Rank 0 has the most images; only with 'keep' may another rank have a batch less.
        mine = len(range(self.rank if self.last == 'keep' else 0, total, self.size))
        return -(-mine // self.batch_size)

    def order(self, total: int, epoch: int) -> np.ndarray:
        """Return the image indices of this rank in the order of the epoch, cut or not as `last` says."""
        draws = self.draws(total, epoch)
        return draws % total if total else draws

    def draws(self, total: int, epoch: int) -> np.ndarray:
        """Return `order`, in which the j-th time of an image in an epoch, counted from 0, is its index + j * total.

        This allows it to be changed differently each time.
        """
        drawn = self.sequence(total, epoch)
        if self.repeats > 1:
            places = np.arange(len(drawn))
            first = drawn[places // self.repeats]
            drawn = first % total + total * (first // total * self.repeats + places % self.repeats)
        mine = drawn[self.rank :: self.size]
        return mine[: self._kept(total)] if self.last == 'discard' else mine

    def sequence(self, total: int, epoch: int) -> np.ndarray:
        """Return the draws of all ranks together."""
        if self.shuffle:
            # Sorting random numbers rather than Generator.permutation, whose stream NumPy may change.
            return np.argsort(random_words(self.seed, epoch, ORDER, total), kind='stable')
        if self.last == 'wrap':
            begin, end = (-(-passes * total // self.batch_size) * self.batch_size for passes in (epoch, epoch + 1))
            return np.arange(begin, end) % total
        return np.arange(total)

    def count(self, order: np.ndarray, total: int) -> int:
        """Return how many batches an epoch has whose images are `order`."""
        return len(order) // self.batch_size if self.last == 'wrap' else self.batches(total)
