"""Augment ImageNet's training images: random crop, mirroring and colour shifts.

The changes of an image are drawn from a 64-bit random number of its own (`data.augmentation.draws`).

Brightness, contrast, saturation and lighting are affine maps of a pixel's colour, contrast given the crop's mean
colour. So all four, in their random order, are applied as one 3 x 4 matrix, and rounded and clipped once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple

import cv2
import numpy as np

from data.augmentation.auto import AutoAugment, Change
from data.augmentation.draws import CUTS, ERASING, OPERATIONS, branch, random_words, uniform
from data.augmentation.erasing import Erased, Erasing
from data.preprocessing import Preprocessing
from data.scaling import scaled

__all__ = ['ImagenetAugment', 'AugmentParams', 'normalise', 'paint']

ATTEMPTS = 10  # at a crop that lies inside the image, before the centre is used
# Principal components of the colours of ImageNet's pixels on the scale 0 to 255, R, G, B: Krizhevsky, Sutskever,
# Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012, section 4.1.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
ORDERS = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
BRIGHTNESS, CONTRAST, SATURATION = range(3)


@dataclass(frozen=True)
class AugmentParams:
    """The random draws for a batch of N images.

    Attributes:
        places: the draws of each image's crop, see `ImagenetAugment.cut`.
        flip: for each image, whether to mirror it.
        colour: (N, 3, 4), from a pixel's R, G, B to its new R, G, B; `paint` fills the last column, the offset.
        light: the part of that offset that does not depend on the image's colours, for each image.
        by_mean: the factors of the mean R, G and B in what contrast adds to all three, for each image.
        changes: the operations on each image.
        erased: the rectangle that each image loses at the end.
    """

    places: List[List[List[float]]]
    flip: List[bool]
    colour: np.ndarray
    light: List[List[float]]
    by_mean: List[List[float]]
    changes: List[List[Change]]
    erased: List[Optional[Erased]]


@dataclass(frozen=True)
class ImagenetAugment:
    """Random crop, mirroring and colours; the defaults are those of the original's `train_imagenet.py`.

    Attributes:
        area: bounds of the crop's share of the image.
        aspect: the crop's width over its height lies between 1 / aspect and aspect, with a uniform logarithm.
        flip: mirror half of the images.
        jitter: brightness, contrast and saturation each change by a factor in 1 - jitter ... 1 + jitter, in any order.
        lighting: standard deviation of the noise along the principal components of the colours.
        auto: operations between mirroring and colours.
        erase: random erasing at the end.
    """

    area: Tuple[float, float] = (0.08, 1.0)
    aspect: float = 4 / 3
    flip: bool = True
    jitter: float = 0.4
    lighting: float = 0.1
    auto: Optional[AutoAugment] = None
    erase: Optional[Erasing] = None

    def __post_init__(self) -> None:
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f'area {self.area} of the cut must be two shares of the image, above 0 and up to 1')
        if not 1 <= self.aspect <= 100:
            raise ValueError(f'aspect {self.aspect} of the cut must lie in 1 .. 100')
        if not 0 <= self.jitter <= 1 or not 0 <= self.lighting <= 10:
            raise ValueError(f'jitter {self.jitter} must lie in 0 .. 1 and lighting {self.lighting} in 0 .. 10')

    @property
    def colours(self) -> bool:
        """Return whether colours change at all."""
        return self.jitter > 0 or self.lighting > 0

    def words(self, seed: int, epoch: int, count: int) -> np.ndarray:
        """Return the random numbers of images 0 .. count - 1 in one epoch, (count,) uint64."""
        return random_words(seed, epoch, CUTS, count)

    def draw(self, words: np.ndarray) -> AugmentParams:
        """Draw the changes of the images with these random numbers."""
        numbers = uniform(words, 10 + 4 * ATTEMPTS)
        colour, light, by_mean = self._colour(numbers[:, 1:10])
        places = numbers[:, 10:].reshape(len(words), ATTEMPTS, 4).tolist()
        flip = numbers[:, 0] < 0.5 if self.flip else np.zeros(len(words), dtype=bool)
        affine = np.concatenate([colour, light[:, :, np.newaxis]], axis=2)
        changes = [] if self.auto is None else self.auto.draw(branch(words, OPERATIONS))
        erased = [] if self.erase is None else self.erase.draw(branch(words, ERASING))
        return AugmentParams(places, flip.tolist(), affine, light.tolist(), by_mean.tolist(), changes, erased)

    def _colour(self, numbers: np.ndarray) -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        count = len(numbers)
        factors = 1 + self.jitter * (2 * numbers[:, :3] - 1)
        order = ORDERS[(numbers[:, 3] * len(ORDERS)).astype(np.int64)]
        matrix, by_mean = np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3))
        for step in range(3):
            f = np.take_along_axis(factors, order[:, step : step + 1], axis=1)
            kind = order[:, step]
            # Contrast adds (1 - f) times the mean grey, which is GREY times the colours so far of the mean pixel.
            grey_of_mean = GREY @ matrix + by_mean
            shift = np.where((kind == CONTRAST)[:, np.newaxis], (1 - f) * grey_of_mean, 0)
            towards_grey = np.where(kind == SATURATION, 1 - f[:, 0], 0)[:, np.newaxis, np.newaxis]
            matrix = f[:, :, np.newaxis] * matrix + towards_grey * (GREY @ matrix)[:, np.newaxis, :]
            # What is the same in all three colours is its own grey: saturation leaves it as it is.
            by_mean = np.where((kind == SATURATION)[:, np.newaxis], by_mean, f * by_mean) + shift
        # Box and Muller's three normal numbers out of five uniform ones.
        radius = np.sqrt(-2 * np.log(1 - numbers[:, [4, 4, 6]]))
        angle = 2 * np.pi * numbers[:, [5, 5, 7]]
        normal = radius * np.stack([np.cos(angle[:, 0]), np.sin(angle[:, 1]), np.cos(angle[:, 2])], axis=1)
        light = (self.lighting * normal * EIGENVALUES) @ EIGENVECTORS.T
        return matrix, light, by_mean

    def cut(self, place: List[List[float]], height: int, width: int) -> Tuple[int, int, int, int]:
        """Return (top, left, height, width) of the crop of an image of this size.

        It is the first attempt that fits; otherwise the largest centred crop within the bounds of the aspect.
        """
        span = 2 * math.log(self.aspect)
        for area, aspect, y, x in place:
            pixels = (self.area[0] + (self.area[1] - self.area[0]) * area) * height * width
            root = math.exp((aspect - 0.5) * span / 2)
            w, h = round(math.sqrt(pixels) * root), round(math.sqrt(pixels) / root)
            if 0 < w <= width and 0 < h <= height:
                return int(y * (height - h + 1)), int(x * (width - w + 1)), h, w
        w, h = min(width, round(height * self.aspect)), min(height, round(width * self.aspect))
        return (height - h) // 2, (width - w) // 2, h, w


def paint(
    image: np.ndarray,
    augment_params: AugmentParams,
    row: int,
    augment: ImagenetAugment,
    preprocessing: Preprocessing,
    table: Sequence[np.ndarray],
    out: np.ndarray,
) -> None:
    """Crop, scale, mirror, apply operations, colour, normalise and erase one image for the network.

    Args:
        image: (H, W, 3) uint8, red, green, blue.
        augment_params: the draws of the batch.
        row: the image's index in the batch.
        augment: the augmentation that made the draws.
        preprocessing: the network's, which defines the size and how the crop is scaled.
        table: the network's input for every value of R, G and B, (256,) float32 each.
        out: (3, size, size) float32, the result.
    """
    top, left, height, width = augment.cut(augment_params.places[row], *image.shape[:2])
    size = preprocessing.size
    cut = scaled(image[top : top + height, left : left + width], (size, size), preprocessing.interpolation)
    if augment_params.flip[row]:
        cut = cv2.flip(cut, 1)
    if augment.auto is not None:
        cut = augment.auto.apply(cut, augment_params.changes[row])
    if augment.colours:
        red, green, blue, _ = cv2.mean(cut)
        a, b, c = augment_params.by_mean[row]
        contrast = a * red + b * green + c * blue
        r, g, b = augment_params.light[row]
        matrix = augment_params.colour[row]
        matrix[:, 3] = r + contrast, g + contrast, b + contrast
        cut = cv2.transform(cut, matrix)
    normalise(cut, table, out)
    if augment.erase is not None:
        augment.erase.apply(out, augment_params.erased[row])


def normalise(pixels: np.ndarray, table: Sequence[np.ndarray], out: np.ndarray) -> None:
    """Convert (H, W, 3) uint8 to (3, H, W) float32 in `out`: channel i looked up in `table[i]`, (256,) float32."""
    for channel, values, plane in zip(cv2.split(pixels), table, out):
        cv2.LUT(channel, values, dst=plane)
