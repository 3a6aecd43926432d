"""Handwritten digits that need no download: the 1,797 real ones that scikit-learn carries.

They are the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin, Kaynak 1998): 8
x 8 pixels, 17 grey levels. We scale them to 32 x 32 for the 32-pixel networks and hold out every fifth digit
of each class.
"""

from __future__ import annotations

import gzip
from importlib.util import find_spec
from pathlib import Path
from typing import Tuple

import numpy as np
from PIL import Image

from data.augmentation.shift import Augment
from data.classification.dataset import ImageDataset
from data.preprocessing import Preprocessing
from environment import UserError

__all__ = ['grey_digits', 'load_digits']

SIZE = 32
# Of all pixels of the training part, on the scale 0 to 1; the three channels are equal.
MEAN, STD = 0.3091, 0.3489


def _upsample(grey: np.ndarray) -> np.ndarray:
    """Convert (8, 8) with values 0 .. 16 to (32, 32, 3) uint8."""
    image = Image.fromarray(np.round(grey * (255 / 16)).astype(np.uint8))
    return np.repeat(np.asarray(image.resize((SIZE, SIZE), Image.BICUBIC))[..., np.newaxis], 3, axis=2)


def grey_digits() -> Tuple[np.ndarray, np.ndarray]:
    """Return all images (1797, 8, 8), with values 0 .. 16, and their labels.

    Read from scikit-learn's file: importing scikit-learn takes a second.
    """
    found = find_spec('sklearn')
    if found is None or found.origin is None:
        raise UserError(
            '--dataset digits needs scikit-learn; run "bash scripts/setup.sh" or "pip install scikit-learn"'
        )
    with gzip.open(Path(found.origin).parent / 'datasets' / 'data' / 'digits.csv.gz', 'rt') as file:
        rows = np.loadtxt(file, delimiter=',', dtype=np.int64)
    return rows[:, :-1].reshape(-1, 8, 8), rows[:, -1]


def load_digits(split: str) -> ImageDataset:
    """Return the digits: 'train' (1,442), 'test' (355) or 'all'."""
    grey, labels = grey_digits()
    images = np.stack([_upsample(image) for image in grey])
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        held_out[np.flatnonzero(labels == digit)[4::5]] = True
    chosen = {'train': ~held_out, 'test': held_out, 'all': np.ones(len(labels), dtype=bool)}[split]
    return ImageDataset(
        images=images[chosen],
        labels=labels[chosen],
        class_names=tuple('0123456789'),
        name='digits',
        split=split,
        preprocessing=Preprocessing(SIZE, (MEAN,) * 3, (STD,) * 3),
        augment=Augment(pad=2, flip='off'),
    )
