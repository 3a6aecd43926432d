"""Pixels of decoded images, in threads of ours."""

from __future__ import annotations

import cv2
import numpy as np

from data.choices import INTERPOLATIONS
from data.scaling import scaled

__all__ = ['one_thread_each', 'shrink']


def one_thread_each() -> None:
    """Have OpenCV work in the thread that calls it: the threads are ours, one image each."""
    cv2.setNumThreads(0)
    cv2.ocl.setUseOpenCL(False)


def shrink(image: np.ndarray, short: int) -> np.ndarray:
    """The image with a short side of at most `short` pixels, antialiased."""
    height, width = image.shape[:2]
    if min(height, width) <= short:
        return image
    scale = short / min(height, width)
    size = max(short, round(width * scale)), max(short, round(height * scale))
    return scaled(image, size, INTERPOLATIONS[0])
