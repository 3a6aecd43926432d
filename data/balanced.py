"""An order in which all classes come equally often, regardless of how many images they have."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np

from data.augmentation.draws import ORDER, random_words
from data.sampler import Sampler
from environment import UsageError

__all__ = ['BalancedSampler', 'balanced']

# Streams of random numbers within one epoch, beside those of `data.augmentation`: which images, and which classes.
PICKS, EXTRAS = 8, 9


@dataclass(frozen=True)
class BalancedSampler(Sampler):
    """A shuffled order of as many images as there are, in which each class has an equal share.

    From a class with more images than its share, a random selection is drawn, different in each epoch. The images of a
    class with fewer are repeated, all of them before any comes again. Shares differ by at most one image.

    Attributes:
        labels: (N,) int64 of all images.
    """

    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64), compare=False, repr=False)

    def sequence(self, total: int, epoch: int) -> np.ndarray:
        if len(self.labels) != total:
            raise ValueError(f'there are {len(self.labels)} labels for {total} images')
        if not total:
            return np.arange(total)
        by_class = np.argsort(self.labels, kind='stable')
        _, starts = np.unique(self.labels[by_class], return_index=True)
        classes = np.split(by_class, starts[1:])
        words = random_words(self.seed, epoch, PICKS, total)
        share, extra = divmod(total, len(classes))
        further = np.argsort(random_words(self.seed, epoch, EXTRAS, len(classes)), kind='stable')[:extra]
        shares = np.full(len(classes), share)
        shares[further] += 1
        drawn = []
        for members, wanted in zip(classes, shares.tolist()):
            whole, rest = divmod(wanted, len(members))
            drawn += [members + total * times for times in range(whole)]
            drawn.append(members[np.argsort(words[members], kind='stable')[:rest]] + total * whole)
        order = np.concatenate(drawn)
        return order[np.argsort(random_words(self.seed, epoch, ORDER, total), kind='stable')]


def balanced(sampler: Sampler, labels: np.ndarray) -> BalancedSampler:
    """Return `sampler` with an equal share for each class of the training images, which have these `labels`.

    Raises `UsageError` for images with several labels.
    """
    if labels.ndim != 1:
        raise UsageError(
            '--balanced-sampling is for images of one label each, and these have several; take --class-weights auto'
        )
    known = {each.name: getattr(sampler, each.name) for each in fields(Sampler)}
    return BalancedSampler(**{**known, 'shuffle': True}, labels=labels)
