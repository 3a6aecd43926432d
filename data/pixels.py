"""Process the pixels of decoded images in our own threads."""

from __future__ import annotations

import cv2
import numpy as np

from data.choices import INTERPOLATIONS
from data.scaling import scaled

__all__ = ['one_thread_each', 'shrink']


def one_thread_each() -> None:
    """Make OpenCV work in the calling thread: our threads process one image each."""
    cv2.setNumThreads(0)
    cv2.ocl.setUseOpenCL(False)


def shrink(image: np.ndarray, short: int) -> np.ndarray:
    """Scale the image down, antialiased, to a short side of at most `short` pixels."""
    height, width = image.shape[:2]
    if min(height, width) <= short:
        return image
    scale = short / min(height, width)
    size = max(short, round(width * scale)), max(short, round(height * scale))
    return scaled(image, size, INTERPOLATIONS[0])
