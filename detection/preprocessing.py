"""Convert images to a detector's input, and boxes both ways: one object for training, validation and prediction.

As in mmdetection, but antialiased by default: scaled to fit `short` x `max_size`, normalised, zero-padded to multiples
of 32. Boxes follow the "+1" convention: x2 = x1 + width - 1.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from data.choices import INTERPOLATIONS
from data.coco.orientation import UPRIGHT, read_stored
from data.images import Readable, read_image
from data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from data.scaling import check_interpolation, scaled

__all__ = ['DetectionPreprocessing', 'Stored', 'flip']


class Stored(NamedTuple):
    """An image as it is stored, and the EXIF orientation that its file states."""

    pixels: np.ndarray
    orientation: int

    @property
    def shape(self) -> Tuple[int, ...]:
        return self.pixels.shape


@dataclass(frozen=True)
class DetectionPreprocessing:
    """Scale so that the shorter side is `short` at most and the longer `max_size` at most, whichever binds.

    Attributes:
        short, max_size: in pixels.
        mean, std: of R, G, B on the scale 0 to 1.
        multiple: both sides of a batch are zero-padded to multiples of this, to the right and below.
        interpolation: how images are scaled, see `data.scaling`.
    """

    short: int = 800
    max_size: int = 1333
    mean: Tuple[float, float, float] = IMAGENET_MEAN
    std: Tuple[float, float, float] = IMAGENET_STD
    multiple: int = 32
    interpolation: str = INTERPOLATIONS[0]

    def __post_init__(self) -> None:
        for name in ('short', 'max_size', 'multiple'):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f'{name} {value!r} of the preprocessing must be a whole number of pixels, 1 or more')
        if self.max_size < self.short:
            raise ValueError(f'max_size {self.max_size} of the preprocessing must be at least its short, {self.short}')
        colours = Preprocessing(1, self.mean, self.std)  # checks them
        object.__setattr__(self, 'mean', colours.mean)
        object.__setattr__(self, 'std', colours.std)
        object.__setattr__(self, '_colours', colours)
        check_interpolation(self.interpolation)

    def scale(self, width: int, height: int) -> float:
        """Return the factor by which the sides of an image of this size are scaled."""
        return min(self.max_size / max(width, height), self.short / min(width, height))

    def scaled_size(self, width: int, height: int) -> Tuple[int, int]:
        """Return (width, height) of such an image after scaling."""
        scale = self.scale(width, height)
        return max(1, int(width * scale + 0.5)), max(1, int(height * scale + 0.5))

    def padded_size(self, width: int, height: int) -> Tuple[int, int]:
        """Return (width, height) of the network's input for such an image by itself."""
        return tuple(-(-side // self.multiple) * self.multiple for side in self.scaled_size(width, height))

    @staticmethod
    def read(image: Readable) -> Stored:
        """Read an image as a loaded detector takes it: in its full size, so that its boxes can be drawn on it."""
        if isinstance(image, (str, os.PathLike, bytes)):
            return Stored(*read_stored(image))
        return Stored(read_image(image), UPRIGHT)

    def fit(self, image: np.ndarray) -> np.ndarray:
        """Return (H, W, 3) uint8, scaled."""
        height, width = image.shape[:2]
        size = self.scaled_size(width, height)
        return image if size == (width, height) else scaled(image, size, self.interpolation)

    def normalise(self, image: np.ndarray) -> np.ndarray:
        """Convert (H, W, 3) uint8 RGB to (3, H, W) float32."""
        return self._colours.batch(image[np.newaxis])[0]

    def batch(self, images: Sequence[np.ndarray]) -> Tuple[np.ndarray, np.ndarray]:
        """Convert normalised images (3, H, W) to (N, 3, H, W), and their sizes (N, 2), height first; both float32."""
        sizes = np.array([image.shape[1:] for image in images], dtype=np.float32).reshape(-1, 2)
        height, width = (-(-int(side) // self.multiple) * self.multiple for side in sizes.max(0))
        data = np.zeros((len(images), 3, height, width), dtype=np.float32)
        for row, image in zip(data, images):
            row[:, : image.shape[1], : image.shape[2]] = image
        return data, sizes

    def scaled_boxes(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Convert boxes (M, 4) of an image of this size to the scaled image, clipped to it, float32."""
        limits = np.array(self.scaled_size(width, height) * 2, dtype=np.float32) - 1
        return np.clip(boxes * np.float32(self.scale(width, height)), 0, limits)

    def original_boxes(self, boxes: np.ndarray, width: int, height: int) -> np.ndarray:
        """Convert boxes (M, 4) of the network's input back to the image, which has this size."""
        return boxes / np.float32(self.scale(width, height))

    def to_dict(self) -> Dict[str, Any]:
        """Return the attributes as plain numbers and lists, for a manifest."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, 'mean': list(self.mean), 'std': list(self.std)}

    @classmethod
    def from_dict(cls, values: Optional[Dict[str, Any]]) -> DetectionPreprocessing:
        """Return the object that `to_dict` described. Raises `ValueError` if something is unknown or out of range."""
        known = [field.name for field in fields(cls)]
        if not isinstance(values, dict) or set(values) - set(known):
            raise ValueError(f"a detector's preprocessing must be a table of {', '.join(known)}, not {values!r}")
        # A manifest without an entry is from a time when there was only this one.
        return cls(**{'interpolation': 'plain', **values})


def flip(boxes: np.ndarray, width: int) -> np.ndarray:
    """Return boxes (M, 4) on the mirror image of an image that is `width` pixels wide."""
    mirrored = boxes.copy()
    mirrored[:, 0], mirrored[:, 2] = width - 1 - boxes[:, 2], width - 1 - boxes[:, 0]
    return mirrored
