"""Training labels that are partly wrong on purpose, to measure a network's robustness."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np

from data.augmentation.draws import random_words, uniform
from data.classification.dataset import Labelled
from environment import UsageError

__all__ = ['with_label_noise']

Own = TypeVar('Own', bound=Labelled)
NOISE = 10  # stream of random numbers, beside those of `data.augmentation.draws`


def with_label_noise(dataset: Own, share: float, seed: int) -> Own:
    """Return the images with a `share` of the labels moved to another class, drawn uniformly from all others.

    Each label is moved independently with that probability, whatever the class, as by the transition matrix of Wang et
    al. (arXiv 1704.06904, section 4.1), whose diagonal is ``1 - share``. Which labels are moved, and where to, is a
    pure function of the seed and of the image's index in the data set. Raises `UsageError` for images with several
    labels.
    """
    if not share:
        return dataset
    labels = dataset.labels
    if labels.ndim != 1:
        raise UsageError('--label-noise needs images with one label each, and these have several; leave it out')
    drawn = uniform(random_words(seed, 0, NOISE, len(labels)), 2)
    steps = 1 + (drawn[:, 1] * (dataset.classes - 1)).astype(np.int64)
    moved = np.where(drawn[:, 0] < share, (labels + steps) % dataset.classes, labels)
    told = f'--label-noise {share:g}: {(moved != labels).sum():,} of {len(labels):,} training labels are wrong'
    return replace(dataset, labels=moved, told=(*dataset.told, told))
