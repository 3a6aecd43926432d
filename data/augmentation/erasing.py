"""Random erasing: an image loses a rectangle (Zhong et al., arXiv 1708.04896), as implemented in timm.

Its share of the image is drawn uniformly between two bounds, and its height over its width lies between 0.3 and 1 /
0.3, with a uniform logarithm. The first of ten attempts that is smaller than the image is used, or none. It is applied
to the network's input, where 0 is the mean colour, and leaves 0, or noise of mean 0 and standard deviation 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Tuple

import numpy as np

from data.augmentation.draws import uniform
from data.choices import ERASE_MODES

__all__ = ['Erased', 'Erasing']

ATTEMPTS = 10
ASPECT = 0.3


class Erased(NamedTuple):
    """The draws for an image: numbers in [0, 1) for each attempt at a rectangle, and the key of its noise."""

    attempts: List[List[float]]
    key: int


def _normal(key: int, count: int) -> np.ndarray:
    """Return `count` normal numbers, float32, by Box and Muller's method, from a generator with this key."""
    words = np.random.Philox(key=key).random_raw(-(-count // 2))
    radius, angle = words >> np.uint64(40), words & np.uint64(0xFFFFFF)
    # Of 24 bits each; the first is above 0.
    length = np.sqrt(-2 * np.log((radius.astype(np.float32) + np.float32(0.5)) * np.float32(2**-24)))
    turn = angle.astype(np.float32) * np.float32(2 * math.pi * 2**-24)
    return np.concatenate([length * np.cos(turn), length * np.sin(turn)])[:count]


@dataclass(frozen=True)
class Erasing:
    """Rectangles that are erased.

    Attributes:
        probability: share of the images that lose one.
        area: bounds of its share of the image.
        mode: 'const' leaves 0, 'pixel' noise.
    """

    probability: float
    area: Tuple[float, float] = (0.02, 1 / 3)
    mode: str = 'pixel'

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ValueError(f'probability {self.probability} of erasing must lie above 0 and be at most 1')
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f'area {self.area} of erasing must be two shares of the image, above 0 and up to 1')
        if self.mode not in ERASE_MODES:
            raise ValueError(f'mode {self.mode!r} of erasing is none of {", ".join(ERASE_MODES)}')

    def draw(self, words: np.ndarray) -> List[Optional[Erased]]:
        """Draw for the images with these random numbers; None for those that lose nothing."""
        numbers = uniform(words, 1 + 4 * ATTEMPTS)
        attempts = numbers[:, 1:].reshape(len(words), ATTEMPTS, 4).tolist()
        chosen = (numbers[:, 0] < self.probability).tolist()
        return [Erased(*one) if hit else None for hit, *one in zip(chosen, attempts, words.tolist())]

    def rectangle(self, attempts: List[List[float]], height: int, width: int) -> Optional[Tuple[int, int, int, int]]:
        """Return (top, left, height, width) in an image of this size, or None."""
        for area, aspect, y, x in attempts:
            pixels = (self.area[0] + (self.area[1] - self.area[0]) * area) * height * width
            root = math.exp((0.5 - aspect) * math.log(ASPECT))  # of height over width
            h, w = round(math.sqrt(pixels) * root), round(math.sqrt(pixels) / root)
            if h < height and w < width:
                return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
        return None

    def apply(self, data: np.ndarray, erased: Optional[Erased]) -> None:
        """Erase the drawn rectangle in the network's input, (3, H, W) float32."""
        place = None if erased is None else self.rectangle(erased.attempts, *data.shape[1:])
        if place is None:
            return
        top, left, height, width = place
        part = data[:, top : top + height, left : left + width]
        part[:] = 0 if self.mode == 'const' else _normal(erased.key, part.size).reshape(part.shape)
