"""The operations of RandAugment and TrivialAugment on one image, (H, W, 3) uint8, R, G, B.

They match torchvision's on Pillow images exactly, except for `sheared` and `rotated`, which may round differently by
one level, as Pillow itself does between processors. Pixels that move in at a border are black.

Pillow computes in single precision without rounding at the end. Operations on single levels are looked up in a table
computed in the same way; only moves by less than a pixel, and grey, are left to Pillow.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Callable, Dict

import cv2
import numpy as np
from PIL import Image

__all__ = ['OPERATIONS', 'Operation']

#: `operation(pixels, magnitude)` returns new pixels, or the ones it was given.
Operation = Callable[[np.ndarray, float], np.ndarray]
LEVELS = np.arange(256)
# The mean of a pixel and those around it, in which it counts five times: Pillow's SMOOTH.
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], dtype=np.float32) / 13


def _blended(dull: np.ndarray, pixels: np.ndarray, factor: float) -> np.ndarray:
    """Return `dull + factor * (pixels - dull)` of uint8 of one shape, clipped, in whole levels."""
    start = dull.astype(np.float32)
    values = pixels - start
    values *= np.float32(factor)
    values += start
    return np.clip(values, 0, 255, out=values).astype(np.uint8)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8."""
    return np.asarray(Image.fromarray(pixels).convert('L'))


def _by_colour(pixels: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """Return the entries of `tables`, (256, 3), clipped, in whole levels."""
    return cv2.LUT(pixels, np.clip(tables, 0, 255).astype(np.uint8)[np.newaxis])


@lru_cache(maxsize=1024)
def _drawn_from(level: int, factor: float) -> np.ndarray:
    """Return, for each level, (256,) uint8, the level that is `factor` times as far from a given one."""
    levels = LEVELS.astype(np.uint8)
    return _blended(np.full_like(levels, level), levels, factor)


@lru_cache(maxsize=64)
def _of_bits(bits: int) -> np.ndarray:
    return (LEVELS & (256 - (1 << (8 - bits)))).astype(np.uint8)


@lru_cache(maxsize=64)
def _inverted_from(level: float) -> np.ndarray:
    return np.where(LEVELS < level, LEVELS, 255 - LEVELS).astype(np.uint8)


def identity(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Change nothing."""
    return pixels


def brightness(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply by 1 + magnitude."""
    return cv2.LUT(pixels, _drawn_from(0, 1.0 + magnitude))


def contrast(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply the difference from the mean grey by 1 + magnitude."""
    return cv2.LUT(pixels, _drawn_from(int(cv2.mean(_grey(pixels))[0] + 0.5), 1.0 + magnitude))


def color(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply the difference from the pixel's grey by 1 + magnitude."""
    return _blended(cv2.cvtColor(_grey(pixels), cv2.COLOR_GRAY2RGB), pixels, 1.0 + magnitude)


def sharpness(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Multiply the difference from the smoothed image by 1 + magnitude; the outermost pixels stay."""
    dull = cv2.filter2D(pixels, -1, SMOOTH)
    dull[[0, -1]], dull[:, [0, -1]] = pixels[[0, -1]], pixels[:, [0, -1]]
    return _blended(dull, pixels, 1.0 + magnitude)


def posterize(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Keep `magnitude` bits of 8."""
    return cv2.LUT(pixels, _of_bits(int(magnitude)))


def solarize(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Invert the levels from `magnitude` on."""
    return cv2.LUT(pixels, _inverted_from(magnitude))


def auto_contrast(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Spread each colour over all levels."""
    table = np.stack([LEVELS] * 3, axis=1).astype(np.float64)
    for channel, values in enumerate(cv2.split(pixels)):
        low, high, _, _ = cv2.minMaxLoc(values)
        if high > low:
            scale = 255.0 / (high - low)
            table[:, channel] = LEVELS * scale + -low * scale
    return _by_colour(pixels, table)


def equalize(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Spread each colour so that all levels are about equally frequent."""
    table = np.stack([LEVELS] * 3, axis=1)
    for channel in range(3):
        counts = cv2.calcHist([pixels], [channel], None, [256], [0, 256])[:, 0].astype(np.int64)
        step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        if step:
            table[:, channel] = (step // 2 + np.cumsum(counts) - counts) // step
    return _by_colour(pixels, table)


def shifted_right(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Shift by a whole number of pixels, to the left if it is negative."""
    by, width, moved = int(magnitude), pixels.shape[1], np.zeros_like(pixels)
    moved[:, max(by, 0) : max(width + by, 0)] = pixels[:, max(-by, 0) : max(width - by, 0)]
    return moved


def shifted_down(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Shift by a whole number of pixels, up if it is negative."""
    return shifted_right(pixels.swapaxes(0, 1), magnitude).swapaxes(0, 1)


def _transformed(pixels: np.ndarray, *matrix: float) -> np.ndarray:
    """Return linearly interpolated pixels; `matrix` maps each position of the new image to one of the old."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.transform(image.size, Image.AFFINE, matrix, Image.BILINEAR))


def sheared_across(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Shift each row by `magnitude` times its index, about the upper left corner."""
    return _transformed(pixels, 1, magnitude, 0, 0, 1, 0)


def sheared_down(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Shift each column by `magnitude` times its index, about the upper left corner."""
    return _transformed(pixels, 1, 0, 0, magnitude, 1, 0)


def rotated(pixels: np.ndarray, magnitude: float) -> np.ndarray:
    """Rotate by this many degrees counter-clockwise about the centre."""
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).rotate(magnitude, Image.BILINEAR))


#: By torchvision's names, in its order.
OPERATIONS: Dict[str, Operation] = {
    'Identity': identity,
    'ShearX': sheared_across,
    'ShearY': sheared_down,
    'TranslateX': shifted_right,
    'TranslateY': shifted_down,
    'Rotate': rotated,
    'Brightness': brightness,
    'Color': color,
    'Contrast': contrast,
    'Sharpness': sharpness,
    'Posterize': posterize,
    'Solarize': solarize,
    'AutoContrast': auto_contrast,
    'Equalize': equalize,
}
