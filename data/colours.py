"""Convert images of any pixel format to 8-bit RGB."""

from __future__ import annotations

from typing import Tuple

import numpy as np
from PIL import Image

__all__ = ['UPRIGHT', 'Unreadable', 'as_stored', 'orientation_of', 'to_rgb', 'turned']

ORIENTATION, BITS, PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
UPRIGHT, WHITE_IS_ZERO = 1, 0
# Functions that turn an image of each EXIF orientation upright; all but the quarter turns are their own inverses.
_TURNS = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
_UNDO = {6: 8, 8: 6}
_STORE_BYTES = 'store its levels as numbers from 0, black, to 255, white'


class Unreadable(ValueError):
    """An intact image of a kind that is not read: why, and what to do about it."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(reason)
        self.advice = advice


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 is upright.

    Must be called before the pixels are read, which rotates a TIFF.
    """
    # Asking a JPEG without any metadata for its EXIF data takes as long as decoding a small one.
    if image.format == 'JPEG' and 'exif' not in image.info and 'xmp' not in image.info:
        return UPRIGHT
    try:
        number = image.getexif().get(ORIENTATION, UPRIGHT)
    except SyntaxError:  # Pillow's error for metadata that are not EXIF: they state nothing
        return UPRIGHT
    return number if number in _TURNS else UPRIGHT


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Return (H, W, 3) of this orientation, upright."""
    return pixels if orientation == UPRIGHT else np.ascontiguousarray(_TURNS[orientation](pixels))


def as_stored(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo `turned`."""
    return turned(pixels, _UNDO.get(orientation, orientation))


def _scale(image: Image.Image) -> Tuple[int, bool]:
    """Return the bit depth of a deep grey image, and whether 0 is white; depth 0 if the file does not say."""
    tags = getattr(image, 'tag_v2', {}) if image.format == 'TIFF' else {}
    bits = tags.get(BITS, (16,))[0]
    if image.mode == 'I':  # Pillow's name for 32 bits, which some of its releases also use for 16
        bits = 16 if image.format in ('PNG', 'PPM') else 0
    return bits, tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def _deep_grey(image: Image.Image) -> np.ndarray:
    """Convert grey of more than 8 bits to (H, W) uint8. Pillow's own conversion clips at 255 instead of scaling."""
    bits, inverted = _scale(image)
    grey = np.asarray(image).astype(np.int64)
    if bits and 0 < grey.max() < 256:
        raise Unreadable(f'its {bits}-bit pixels go up to {grey.max()} only, which is practically black', _STORE_BYTES)
    if not bits and (grey.min() < 0 or grey.max() > 255):
        raise Unreadable('its pixels are whole numbers beyond 0 to 255, so it is unknown which is white', _STORE_BYTES)
    full = 2**bits - 1 if bits else 255
    levels = np.clip(grey, 0, full)
    if inverted:
        levels = full - levels
    if 'transparency' in image.info:
        levels = np.where(grey == image.info['transparency'], full, levels)
    return (levels * 255 // full).astype(np.uint8)


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any PIL image to RGB, without turning it.

    Transparency is composed over white, deep grey is scaled to 8 bits, and of an animation the first frame is taken.
    Raises `Unreadable` for pixels of unknown range: floating-point ones, and 32-bit ones beyond 0 to 255.
    """
    if image.mode == 'RGB' and 'transparency' not in image.info:
        return image
    if image.mode == 'F':
        raise Unreadable('its pixels are floating-point numbers, so it is unknown which is white', _STORE_BYTES)
    if image.mode.startswith('I'):
        return Image.fromarray(_deep_grey(image)).convert('RGB')
    if image.format == 'BMP' and image.mode == 'RGBA' and image.getextrema()[3] == (0, 0):
        return image.convert('RGB')  # by a program that writes four bytes but does not support transparency
    if 'transparency' in image.info or image.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La'):
        image = image.convert('RGBA')
        return Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image).convert('RGB')
    return image.convert('RGB')
