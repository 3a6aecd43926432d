"""Define the frame of boxes: an image's pixels as stored, whatever orientation its EXIF data state.

COCO's own tools read annotations this way. So detectors are trained, scored and run on stored pixels, and users are
told of images that are displayed in another orientation.
"""

from __future__ import annotations

import os
from typing import Tuple, Union

import numpy as np

from common.text import printable
from data.colours import UPRIGHT
from data.images import ImageError, read_image, stored_orientation

__all__ = ['QUARTER_TURNS', 'UPRIGHT', 'read_stored', 'told']

QUARTER_TURNS = (5, 6, 7, 8)


def read_stored(path: Union[str, os.PathLike, bytes]) -> Tuple[np.ndarray, int]:
    """Return (H, W, 3) uint8 RGB as stored, and the EXIF orientation, 1 to 8, of a file or its bytes.

    Raises `ImageError`.
    """
    if isinstance(path, bytes):
        return read_image(path, upright=False), stored_orientation(path)
    name = printable(os.fspath(path))
    try:
        with open(path, 'rb') as file:
            content = file.read()
    except OSError as error:
        raise ImageError(f'{name} cannot be read ({error.strerror}); give one that can') from error
    return read_image(content, name, upright=False), stored_orientation(content, name)


def told(path: Union[str, os.PathLike], orientation: int) -> str:
    """Return a sentence for users about the first image with an orientation."""
    return (
        f'{printable(os.fspath(path))} has the EXIF orientation {orientation}: boxes are of the pixels as they are '
        "stored, as COCO's own tools read annotations, and not of the image as viewers turn it"
    )
