"""Convert networks' input back to pictures."""

from __future__ import annotations

import io
from typing import Any, Sequence

import numpy as np
from PIL import Image

__all__ = ['pixels_of', 'png', 'sheet']

GAP = 2  # pixels between the images of a sheet


def pixels_of(data: np.ndarray, preprocessing: Any) -> np.ndarray:
    """Convert network input (3, H, W) to (H, W, 3) uint8.

    `preprocessing` has the mean and std with which it was made.
    """
    scaled = data.transpose(1, 2, 0) * np.array(preprocessing.std) + np.array(preprocessing.mean)
    return np.clip(np.rint(255 * scaled), 0, 255).astype(np.uint8)


def sheet(images: Sequence[np.ndarray]) -> np.ndarray:
    """Return images (H, W, 3) of one size in a grid with as many columns as rows, or one more."""
    height, width, _ = images[0].shape
    across = int(np.ceil(np.sqrt(len(images))))
    down = -(-len(images) // across)
    whole = np.full((down * (height + GAP) - GAP, across * (width + GAP) - GAP, 3), 255, np.uint8)
    for number, image in enumerate(images):
        top, left = number // across * (height + GAP), number % across * (width + GAP)
        whole[top : top + height, left : left + width] = image
    return whole


def png(pixels: np.ndarray) -> bytes:
    """Return (H, W, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    return file.getvalue()
