"""Handwritten digits that need no download: the 1,797 real ones that scikit-learn carries.

They are the test part of the UCI "Optical Recognition of Handwritten Digits" set (Alpaydin, Kaynak 1998): 8
x 8 pixels, 17 grey levels. We scale them to 32 x 32 for the 32-pixel networks and hold out every fifth digit
of each class.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from data.augmentation.shift import Augment
from data.classification.dataset import ImageDataset
from data.preprocessing import Preprocessing
from environment import UserError

__all__ = ['load_digits']

SIZE = 32
# Of all pixels of the training part, on the scale 0 to 1; the three channels are equal.
MEAN, STD = 0.3091, 0.3489


def _upsample(grey: np.ndarray) -> np.ndarray:
    """(8, 8) with values 0 .. 16 to (32, 32, 3) uint8."""
    image = Image.fromarray(np.round(grey * (255 / 16)).astype(np.uint8))
    return np.repeat(np.asarray(image.resize((SIZE, SIZE), Image.BICUBIC))[..., np.newaxis], 3, axis=2)


def load_digits(split: str) -> ImageDataset:
    """The digits: 'train' (1,442), 'test' (355) or 'all'."""
    try:
        from sklearn.datasets import load_digits as sklearn_digits
    except ImportError as error:
        raise UserError(
            f'--dataset digits needs scikit-learn ({error}); run "bash scripts/setup.sh" or "pip install scikit-learn"'
        ) from error
    raw = sklearn_digits()
    images = np.stack([_upsample(grey) for grey in raw.images])
    labels = raw.target.astype(np.int64)
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
