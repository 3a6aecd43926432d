"""Scale images in the one way shared by training, validation, prediction and packing.

antialiased  a pixel is the mean of those it covers, weighted with a triangle: linear interpolation where an image
             grows, and nothing is skipped where it shrinks. PyTorch's originals and DALI do this.
bicubic      likewise, with the sharper weights of cubic interpolation (Keys, a = -0.5). timm does this for most of its
             weights.
plain        linear interpolation between the nearest pixels however far the image shrinks, so that every second pixel
             or more is skipped. MXNet, hence open-atac, and mmdetection, hence DCANet's detectors, do this.
"""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from data.choices import INTERPOLATIONS

__all__ = ['check_interpolation', 'scaled']

# Pillow's filter, and the pixels on either side that contribute if the image does not shrink.
_FILTERS = {'antialiased': (Image.BILINEAR, 1), 'bicubic': (Image.BICUBIC, 2), 'plain': (Image.BILINEAR, 1)}
Box = Tuple[float, float, float, float]


def check_interpolation(name: str) -> None:
    """Raise `ValueError` for an unknown interpolation."""
    if name not in INTERPOLATIONS:
        raise ValueError(f'interpolation {name!r} of the preprocessing must be one of {", ".join(INTERPOLATIONS)}')


def scaled(pixels: np.ndarray, size: Tuple[int, int], interpolation: str, box: Optional[Box] = None) -> np.ndarray:
    """Scale (H, W, 3) or (H, W) uint8 to this size (width, height).

    `box` is the part to scale: left, top, right, bottom.

    Pixels around the box contribute to those at the border, as if everything were scaled and then cropped, but the cost
    depends on the box alone.
    """
    check_interpolation(interpolation)
    filtering, support = _FILTERS[interpolation]
    if box is None:
        if interpolation == 'plain':
            return cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
        return np.asarray(Image.fromarray(pixels).resize(size, filtering))
    part, box = _around(pixels.shape, size, box, support)
    image = Image.fromarray(pixels[part])
    if interpolation == 'plain':
        return np.asarray(image.transform(size, Image.EXTENT, box, filtering))
    return np.asarray(image.resize(size, filtering, box))


def _around(shape: Sequence[int], size: Tuple[int, int], box: Box, support: int) -> Tuple[Tuple[slice, slice], Box]:
    """Return the rows and columns of an image that contribute to a box of it, and the box within them."""
    ranges = []
    for side, target, low, high in zip(shape[1::-1], size, box[:2], box[2:]):
        reach = math.ceil(support * max(1.0, (high - low) / target)) + 1
        ranges.append((max(0, math.floor(low) - reach), min(side, math.ceil(high) + reach)))
    (left, right), (top, bottom) = ranges
    return (slice(top, bottom), slice(left, right)), (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
