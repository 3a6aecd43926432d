"""Encoded images to pixels with OpenCV, which gives the interpreter's lock away while it decodes.

OpenCV fills up what is missing of a JPEG with grey and says nothing. So whatever does not look like a whole JPEG goes
through the strict reader of `inference.images`, which either reads it or says what is wrong with it.
"""

from __future__ import annotations

from typing import Optional, Tuple, Union

import cv2
import numpy as np

from inference.images import ImageError, read_image

__all__ = ['MAX_PIXELS', 'decode_bgr', 'jpeg_size', 'one_thread_each', 'shrink']

MAX_PIXELS = 1 << 27
# Markers that carry the size: start of frame, all kinds but DHT, JPG and DAC, which share their range.
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}

Buffer = Union[bytes, memoryview]


def one_thread_each() -> None:
    """Have OpenCV work in the thread that calls it: the threads are ours, one image each."""
    cv2.setNumThreads(0)
    cv2.ocl.setUseOpenCL(False)


def jpeg_size(data: Buffer) -> Optional[Tuple[int, int]]:
    """(height, width) as a whole, plain JPEG states it, of three colours or grey; None for anything else.

    A JPEG is taken for whole if it begins and ends as one.
    """
    if len(data) < 4 or bytes(data[:2]) != b'\xff\xd8' or bytes(data[-2:]) != b'\xff\xd9':
        return None
    position = 2
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker, length = data[position + 1], data[position + 2] << 8 | data[position + 3]
        if marker in _START_OF_FRAME:
            if data[position + 9] not in (1, 3):
                return None
            return data[position + 5] << 8 | data[position + 6], data[position + 7] << 8 | data[position + 8]
        if not 0xC0 <= marker <= 0xFE or length < 2:
            return None
        position += 2 + length
    return None


def decode_bgr(data: Buffer, name: str) -> np.ndarray:
    """Pixels of an encoded image, (H, W, 3) uint8 in the order blue, green, red; `ImageError` if it is damaged.

    `name` is for messages.
    """
    size = jpeg_size(data)
    if size is None:
        return np.ascontiguousarray(read_image(bytes(data), name)[..., ::-1])
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise ImageError(f'{name} cannot be read as an image (it says to have {size[0]} x {size[1]} pixels)')
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(f'{name} cannot be read as an image ({error.err or error})') from error
    if image is None:
        raise ImageError(f'{name} cannot be read as an image (its JPEG data are damaged)')
    return image


def shrink(image: np.ndarray, short: int) -> np.ndarray:
    """The image with a short side of at most `short` pixels."""
    height, width = image.shape[:2]
    if min(height, width) <= short:
        return image
    scale = short / min(height, width)
    size = max(short, round(width * scale)), max(short, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
