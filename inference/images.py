"""Image files to pixels: one decoder for training folders, validation and prediction."""

from __future__ import annotations

import os
from io import BytesIO
from typing import Iterator, Union

import numpy as np
from PIL import Image, ImageFile, ImageOps

from environment import UserError
from environment.files import explained

__all__ = ['SUFFIXES', 'ImageError', 'images_below', 'is_image', 'read_image', 'to_rgb']

SUFFIXES = frozenset(
    ('.bmp', '.gif', '.jfif', '.jpe', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
)
EXIF_ORIENTATION = 0x0112


class ImageError(UserError):
    """A file that is no image, a damaged one, or one whose pixels have no meaning as colours."""


def is_image(path: str) -> bool:
    """Whether a path ends like an image's, and neither it nor a folder in it is hidden."""
    hidden = any(part.startswith('.') and part not in ('.', '..') for part in path.split('/'))
    return not hidden and os.path.splitext(path)[1].lower() in SUFFIXES


def images_below(root: Union[str, os.PathLike]) -> Iterator[str]:
    """The paths below a folder, relative to it, of what `is_image`: by name, a folder's own images first.

    Links are followed, but no folder is entered twice. `UserError` for a folder that cannot be read: left out, it would
    be a class that nobody misses.
    """

    def refuse(error: OSError) -> None:
        with explained('read the folder', error.filename):
            raise error

    entered = set()
    for folder, folders, files in os.walk(root, onerror=refuse, followlinks=True):
        place = os.path.realpath(folder)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        below = os.path.relpath(folder, root)
        paths = (name if below == '.' else os.path.join(below, name) for name in sorted(files))
        yield from filter(is_image, paths)


def _may_be_turned(image: Image.Image) -> bool:
    # Asking a JPEG without any metadata for its EXIF data takes as long as decoding a small one.
    return image.format != 'JPEG' or 'exif' in image.info or 'xmp' in image.info


def to_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as RGB, upright.

    The EXIF orientation is applied, transparency is laid over white, 16-bit grey is scaled to 8 bits, and of
    an animation the first frame is taken. `ValueError` for floating-point pixels, whose range nobody knows.
    """
    if _may_be_turned(image) and image.getexif().get(EXIF_ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode == 'RGB' and 'transparency' not in image.info:
        return image
    if image.mode == 'F':
        raise ValueError('its pixels are floating-point numbers')
    if image.mode.startswith('I'):
        # 16-bit grey; Pillow's own conversion clips at 255 instead of scaling.
        grey = np.asarray(image).astype(np.int64)
        return Image.fromarray((np.clip(grey, 0, 65535) // 257).astype(np.uint8)).convert('RGB')
    if 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La'):
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')


def read_image(source: Union[str, os.PathLike, bytes], name: str = '') -> np.ndarray:
    """Pixels of an image file (a path, or the file's bytes): (H, W, 3) uint8, RGB.

    Truncated and damaged files raise `ImageError`; `name` stands for bytes in its sentence.
    """
    path = name if isinstance(source, bytes) else os.fspath(source)
    try:
        if isinstance(source, bytes):
            data = source
        else:
            with open(source, 'rb') as file:
                data = file.read()
        # For the whole process importing gluoncv.data turns on that what is missing of an image is silently left grey.
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        with Image.open(BytesIO(data)) as image:
            return np.asarray(to_rgb(image))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise what they please on damaged data, struct.error to SyntaxError
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, Image.UnidentifiedImageError):
            reason = 'no image format is recognised in it'
        raise ImageError(
            f'{path or "the image"} cannot be read as an image ({reason or type(error).__name__}); '
            'give an intact JPEG, PNG, BMP, GIF, TIFF, PPM or WebP file'
        ) from error
