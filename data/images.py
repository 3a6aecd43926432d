"""Read image files: the one place where the project opens images.

An image whose EXIF data state an orientation is turned upright, unless other data refer to its pixels as stored, as
COCO's annotations do; readers of such images pass `upright=False`.
"""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Tuple, Union

import cv2
import numpy as np
from PIL import Image, ImageFile

from common.files import explained
from common.text import printable
from data.colours import UPRIGHT, Unreadable, as_stored, orientation_of, to_rgb, turned
from data.jpeg import ends_early, jpeg_header, too_many_scans
from data.png import damaged_chunk, in_8_bits
from environment import UserError
from environment.machine_memory import all_memory

__all__ = [
    'SUFFIXES',
    'Folder',
    'ImageError',
    'folders_below',
    'image_size',
    'images_below',
    'is_hidden',
    'is_image',
    'read_image',
    'source_name',
    'stored_orientation',
]

SUFFIXES = frozenset(
    ('.bmp', '.gif', '.jfif', '.jpe', '.jpeg', '.jpg', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp')
)
# Pillow knows many more, whose readers have had holes (CVE-2026-25990 in that of Photoshop's files).
FORMATS = ('BMP', 'GIF', 'JPEG', 'PNG', 'PPM', 'TIFF', 'WEBP')
# Bytes that one pixel takes at most while an image is decoded, in all its forms, and their share of the memory.
PIXEL_BYTES, SHARE = 24, 1 / 4
MOST = 2 * 89478485  # beyond that Pillow reads none
LONGEST = 65535  # pixels of a side, the most that a JPEG can have
SCALE_DOWN = 'scale it down'
INTACT = 'give an intact JPEG, PNG, BMP, GIF, TIFF, PPM or WebP file'
END = b'\xff\xd9'  # of a JPEG
# The file system's own, which only root may read.
NO_FOLDERS = ('lost+found',)

Buffer = Union[bytes, memoryview]
Source = Union[str, 'os.PathLike[str]', Buffer]
Readable = Union[Source, Image.Image, np.ndarray]

log = logging.getLogger(__name__)


warnings.filterwarnings('ignore', category=Image.DecompressionBombWarning)  # there is a limit of our own


class ImageError(UserError):
    """A file that is not an image, is damaged or too large, or whose pixels cannot be interpreted as colours.

    Attributes:
        reason: why, within the sentence; '' where nothing but the sentence is known.
        advice: what helps if an intact file of another format does not; else ''.
    """

    def __init__(self, sentence: str, reason: str = '', advice: str = '') -> None:
        super().__init__(sentence)
        self.reason, self.advice = reason, advice


def _content(source: Source) -> Buffer:
    if isinstance(source, (bytes, memoryview)):
        return source
    with open(source, 'rb') as file:
        return file.read()


@contextmanager
def _told(source: Any, name: str) -> Iterator[None]:
    """Turn whatever goes wrong with an image into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise what they please on damaged data, struct.error to SyntaxError
        path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else name
        advice = getattr(error, 'advice', '')
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, Image.UnidentifiedImageError):
            reason = 'no image format is recognised in it'
        elif isinstance(error, Image.DecompressionBombError):
            reason, advice = f'it claims to have more than {MOST} pixels', SCALE_DOWN
        elif isinstance(error, MemoryError):
            reason = 'there is not enough memory for it'
        elif isinstance(error, cv2.error):
            reason = error.err
        reason = reason or type(error).__name__
        sentence = f'{path or "the image"} cannot be read as an image ({reason}); {advice or INTACT}'
        raise ImageError(printable(sentence), reason, advice) from error


@lru_cache(maxsize=1)
def most_pixels() -> int:
    """Return the pixel limit per image, proportional to the machine's memory.

    All runs on a machine then read the same images.
    """
    return min(int(SHARE * all_memory()) // PIXEL_BYTES, MOST)


def check_size(width: int, height: int) -> None:
    """Raise `ValueError` for an image without pixels, or with more than memory allows."""
    most = most_pixels()
    if width * height <= 0:
        raise ValueError(f'it claims to have {width} x {height} pixels')
    if width * height > most or max(width, height) > LONGEST:
        reason = f'it claims to have {width} x {height} pixels, and here up to {most} are allowed, {LONGEST} a side'
        raise Unreadable(reason, SCALE_DOWN)


def is_image(path: str) -> bool:
    """Return whether a path has an image's suffix and no hidden component."""
    return not is_hidden(path) and os.path.splitext(path)[1].lower() in SUFFIXES


def is_hidden(path: str) -> bool:
    """Return whether a component of the path begins with a dot."""
    return any(part.startswith('.') and part not in ('.', '..') for part in path.split('/'))


class Folder(NamedTuple):
    """A folder that was walked.

    Attributes:
        path: relative to the root of the walk, '' for the root itself.
        images: the paths of its images, by name.
        left_out: a sentence for each link in it that is broken or leads back to a folder around it.
    """

    path: str
    images: List[str]
    left_out: List[str]


def folders_below(root: Union[str, os.PathLike]) -> Iterator[Folder]:
    """Yield the folder `root` and all folders below it except hidden ones, by name, each before its content.

    Links are followed, even to places seen before, except those that lead back to a folder around them. Raises
    `UserError` for a folder that cannot be read, which would otherwise be a class that nobody misses.
    """
    # Folders to go to, and the true places of the folders around them.
    ahead: List[Tuple[str, Tuple[str, ...]]] = [('', ())]
    while ahead:
        below, around = ahead.pop()
        folder = os.path.join(root, below) if below else os.fspath(root)
        around = (*around, os.path.realpath(folder))
        with explained('read the folder', folder), os.scandir(folder) as entries:
            names = sorted((entry.name, entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in entries)
        images, folders, left_out = [], [], []
        for name, is_folder, is_link in names:
            path, place = os.path.join(below, name), os.path.join(folder, name)
            if name.startswith('.') or name in NO_FOLDERS:
                continue
            if is_link and os.path.isdir(place) and os.path.realpath(place) in around:
                left_out.append(f'{path} (a link that leads back to a folder around it)')
            elif is_folder or (is_link and os.path.isdir(place)):
                folders.append(path)
            elif is_image(name):
                images.append(path)
            elif is_link and not os.path.exists(place):
                left_out.append(f'{path} (a broken link)')
        yield Folder(below, images, left_out)
        ahead += [(path, around) for path in reversed(folders)]


def images_below(root: Union[str, os.PathLike]) -> Iterator[str]:
    """Return the paths of the images below a folder, relative to it, in the order of `folders_below`.

    What that leaves out is logged as a warning.
    """
    for folder in folders_below(root):
        for sentence in folder.left_out:
            log.warning('skipped: %s', os.path.join(root, sentence))
        yield from folder.images


def _opened(data: Buffer) -> Image.Image:
    """Return the image with only its header read, and its size checked against the memory."""
    # Importing gluoncv.data makes Pillow accept truncated images silently, in the whole process.
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if bytes(data[:4]) == b'RIFF' and bytes(data[8:16]) == b'WEBPVP8X':
        # Pillow takes memory for two canvases before it says how large one is.
        check_size(*(1 + int.from_bytes(data[start : start + 3], 'little') for start in (24, 27)))
    image = Image.open(BytesIO(data), formats=FORMATS)
    check_size(*image.size)
    return image


def _decoded(data: Buffer, upright: bool) -> np.ndarray:
    header, orientation, stored = jpeg_header(data), UPRIGHT, True
    if header is not None and header.simple and bytes(data[-2:]) == END:
        # OpenCV releases the interpreter's lock while it decodes, and returns the same pixels.
        check_size(header.width, header.height)
        if header.metadata:
            orientation = orientation_of(_opened(data))
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        if image is None:
            raise ValueError('its JPEG data are damaged')
        pixels = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    else:
        if header is not None and too_many_scans(data, header):
            raise ValueError('it has more scans than any encoder makes')
        with _opened(data) as image:
            chunk = damaged_chunk(data) if image.format == 'PNG' else None
            if chunk is not None:
                raise ValueError(f'its chunk {chunk} does not match its checksum')
            if image.format == 'PNG' and isinstance(image.info.get('transparency'), int):
                image.info['transparency'] = in_8_bits(image.info['transparency'], data)
            orientation = orientation_of(image)
            pixels = np.asarray(to_rgb(image))
            stored = image.format != 'TIFF'  # which Pillow turns
    if header is not None and ends_early(data, header, pixels, lambda data: np.asarray(_opened(data))):
        raise ValueError('a part of its data is missing')
    if orientation == UPRIGHT or upright != stored:
        return pixels
    return turned(pixels, orientation) if upright else as_stored(pixels, orientation)


def read_image(source: Readable, name: str = '', *, upright: bool = True) -> np.ndarray:
    """Read an image as (H, W, 3) uint8 RGB.

    Args:
        source: a path, the bytes of an image file, a PIL image, or an array (H, W[, 3]) of uint8.
        name: what messages call an image that has no path.
        upright: apply the EXIF orientation; False returns the pixels of a file as stored.

    Raises:
        ImageError: the file has none of the supported formats, is truncated, damaged or too large, or its pixels cannot
            be interpreted as colours.
        ValueError: an array has another shape or type.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or not (source.ndim == 2 or source.ndim == 3 and source.shape[2] == 3):
            raise ValueError(
                f'an image array must be uint8 of shape (H, W, 3) or (H, W), not {source.dtype} of {source.shape}'
            )
        return source if source.ndim == 3 else np.repeat(source[..., np.newaxis], 3, axis=2)
    if not isinstance(source, (str, os.PathLike, bytes, memoryview, Image.Image)):
        raise TypeError(f'{source!r} is not an image; give a path, the bytes of a file, a PIL image or an array')
    with _told(source, name):
        if isinstance(source, Image.Image):
            source.load()
            return turned(np.asarray(to_rgb(source)), orientation_of(source))
        if isinstance(source, (str, os.PathLike)):
            source = Path(source).read_bytes()
        return _decoded(source, upright)


def source_name(image: Any, number: int) -> str:
    """Return the name of an image for messages: its path, or its number if it has none."""
    path = getattr(image, 'filename', None) or image
    return os.fspath(path) if isinstance(path, (str, os.PathLike)) else f'image {number}'


def image_size(source: Source, name: str = '') -> Tuple[int, int]:
    """Return (height, width) from the file's header, ignoring the orientation. Raises `ImageError`."""
    with _told(source, name):
        data = _content(source)
        header = jpeg_header(data)
        if header is not None:
            return header.height, header.width
        width, height = _opened(data).size
        return height, width


def stored_orientation(source: Source, name: str = '') -> int:
    """Return the EXIF orientation from the file's header, 1 to 8; 1, upright, if it states none."""
    with _told(source, name):
        data = _content(source)
        header = jpeg_header(data)
        return UPRIGHT if header is not None and not header.metadata else orientation_of(_opened(data))
