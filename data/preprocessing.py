"""Turn pixels into network input: one object for training's evaluation, validation and prediction."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Dict, Optional, Tuple

import numpy as np

from data.choices import INTERPOLATIONS
from data.images import Readable, read_image
from data.scaling import check_interpolation, scaled

__all__ = ['CIFAR_MEAN', 'CIFAR_STD', 'IMAGENET_MEAN', 'IMAGENET_STD', 'Preprocessing']

CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _three(name: str, values: Any) -> Tuple[float, float, float]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        numbers = ()
    if len(numbers) != 3 or not np.isfinite(numbers).all():
        raise ValueError(
            f'{name} {values!r} of the preprocessing must be three finite numbers, one for each of R, G, B'
        )
    return numbers


@dataclass(frozen=True)
class Preprocessing:
    """Scale the short side to `resize` pixels, crop the centre `size` x `size`, map to 0-1 and normalise each channel.

    Attributes:
        size: side of the network's input in pixels.
        mean, std: of R, G, B on the scale 0 to 1.
        resize: short side before the crop; None means `size`, so that only the longer side is cropped.
        interpolation: how images are scaled, see `data.scaling`; training scales its crops the same way.
    """

    size: int
    mean: Tuple[float, float, float]
    std: Tuple[float, float, float]
    resize: Optional[int] = None
    interpolation: str = INTERPOLATIONS[0]

    def __post_init__(self) -> None:
        for name in ('size', 'resize'):
            value = getattr(self, name)
            if name == 'resize' and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise ValueError(f'{name} {value!r} of the preprocessing must be a whole number of pixels, 1 or more')
            object.__setattr__(self, name, int(value))
        if self.resize is not None and self.resize < self.size:
            raise ValueError(f'resize {self.resize} of the preprocessing must be at least its size {self.size}')
        object.__setattr__(self, 'mean', _three('mean', self.mean))
        object.__setattr__(self, 'std', _three('std', self.std))
        if min(self.std) <= 0:
            raise ValueError(f'std {self.std} of the preprocessing must be positive')
        check_interpolation(self.interpolation)

    def fit(self, image: Readable) -> np.ndarray:
        """Read an image, whatever `data.images.read_image` takes, and scale and crop it to (size, size, 3) uint8."""
        pixels = read_image(image)
        sides, target = pixels.shape[1::-1], self.resize or self.size
        short = min(sides)
        whole = [max(target, round(side * target / short)) for side in sides]  # when scaled
        left, top = ((side - self.size) // 2 for side in whole)
        if short == target:
            return np.ascontiguousarray(pixels[top : top + self.size, left : left + self.size])
        # Only what the crop shows is scaled, which is little of a very elongated picture.
        starts = [start * side / length for start, side, length in zip((left, top), sides, whole)]
        ends = [min(side, start + self.size * side / length) for start, side, length in zip(starts, sides, whole)]
        return scaled(pixels, (self.size, self.size), self.interpolation, (*starts, *ends))

    #: How a loaded network reads an image, before several of them make a batch.
    read = fit

    def batch(self, images: np.ndarray) -> np.ndarray:
        """Convert (N, H, W, 3) uint8 to network input (N, 3, H, W) float32: (pixels / 255 - mean) / std."""
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3:
            raise ValueError(f'images must be uint8 of shape (N, H, W, 3), not {images.dtype} of {images.shape}')
        mean, std = np.array(self.mean), np.array(self.std)
        # One product and one sum, each rounded to float32: the same bits on every machine and for every
        # batch size.
        data = images.transpose(0, 3, 1, 2).astype(np.float32, order='C')
        data *= (1 / (255 * std)).astype(np.float32).reshape(3, 1, 1)
        data += (-mean / std).astype(np.float32).reshape(3, 1, 1)
        return data

    def image(self, image: Readable) -> np.ndarray:
        """Convert one image of any size and mode to network input (1, 3, size, size) float32."""
        return self.batch(self.fit(image)[np.newaxis])

    def to_dict(self) -> Dict[str, Any]:
        """Return the attributes as plain numbers and lists, for a manifest."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {**values, 'mean': list(self.mean), 'std': list(self.std)}

    @classmethod
    def from_dict(cls, values: Dict[str, Any]) -> Preprocessing:
        """Restore the object that `to_dict` described.

        Raises `ValueError` naming what is missing, unknown or out of range.
        """
        if not isinstance(values, dict):
            raise ValueError(
                f'preprocessing must be a table of size, mean, std, resize and interpolation, not {values!r}'
            )
        known = {field.name for field in fields(cls)}
        missing = {'size', 'mean', 'std'} - set(values)
        if missing or set(values) - known:
            wrong = ', '.join(sorted(missing)) or ', '.join(sorted(map(str, set(values) - known)))
            raise ValueError(
                f'preprocessing {"lacks" if missing else "has the unknown entry"} {wrong}; '
                'it needs size, mean and std, and may have resize and interpolation'
            )
        return cls(**values)
