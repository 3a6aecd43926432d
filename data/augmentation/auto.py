"""RandAugment and TrivialAugment: operations of random kind, and of given or random strength, on an image.

rand     Cubuk, Zoph, Shlens, Le, "RandAugment: Practical automated data augmentation with a reduced search space",
         arXiv 1909.13719: `ops` operations in sequence, each with the strength `magnitude` of 0 .. 30.
trivial  Müller, Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation", arXiv 2103.10158, in its
         wide space: a single operation, with a strength drawn from all of 0 .. 30.

Both follow torchvision: its operations, strengths and signs, with linear interpolation as in its recipes. timm's
strengths range from 0 to 10, so that its m9 is 27 here, and it applies each operation only half of the time; its
'rand-m7-mstd0.5' is magnitude 21, deviation 1.5 and share 0.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Dict, List, NamedTuple, Sequence

import numpy as np

from data.augmentation.draws import uniform
from data.augmentation.operations import OPERATIONS
from data.choices import AUTO_AUGMENTS

__all__ = ['STRENGTHS', 'AutoAugment', 'Change', 'magnitude_of']

STRENGTHS = 31
NAMES = tuple(OPERATIONS)
# The magnitude of the greatest strength; that of translation as a share of the side, or in pixels.
_RAND = {
    'ShearX': 0.3,
    'ShearY': 0.3,
    'TranslateX': 150 / 331,
    'TranslateY': 150 / 331,
    'Rotate': 30.0,
    'Brightness': 0.9,
    'Color': 0.9,
    'Contrast': 0.9,
    'Sharpness': 0.9,
}
_TRIVIAL = {
    'ShearX': 0.99,
    'ShearY': 0.99,
    'TranslateX': 32.0,
    'TranslateY': 32.0,
    'Rotate': 135.0,
    'Brightness': 0.99,
    'Color': 0.99,
    'Contrast': 0.99,
    'Sharpness': 0.99,
}
_GREATEST: Dict[str, Dict[str, float]] = {'rand': _RAND, 'trivial': _TRIVIAL}
_LOST_BITS = {'rand': 4, 'trivial': 6}  # of Posterize at the greatest strength


class Change(NamedTuple):
    """An operation by its index in `OPERATIONS`, its strength, 0 .. 30, and whether its magnitude is negative."""

    operation: int
    strength: int
    negative: bool


@lru_cache(maxsize=4096)
def magnitude_of(kind: str, name: str, strength: int, height: int, width: int) -> float:
    """Return the unsigned magnitude of the operation `name` of 'rand' or 'trivial' for an image of this size."""
    if name == 'Posterize':
        return 8 - float(np.round(strength * _LOST_BITS[kind] / (STRENGTHS - 1)))
    if name == 'Solarize':
        return 255 - 255 * strength / (STRENGTHS - 1)
    greatest = _GREATEST[kind].get(name, 0.0)
    if kind == 'rand' and name in ('TranslateX', 'TranslateY'):
        greatest *= width if name == 'TranslateX' else height
    # torch.linspace may be off by the last bit, so that a translation by 16 pixels may be one by 15 there.
    return float(np.float32(greatest * strength / (STRENGTHS - 1)))


@dataclass(frozen=True)
class AutoAugment:
    """Operations on uint8 images.

    Attributes:
        kind: 'rand' or 'trivial'.
        ops: operations on each image, with 'rand'.
        magnitude: their strength, 0 .. 30, with 'rand'.
        deviation: the standard deviation of a normal distribution around it, from which each strength is drawn and
            rounded, with 'rand'; beyond 0 and 30 it is cut off.
        share: with which probability an operation is applied, each by itself, with 'rand'.
    """

    kind: str
    ops: int = 2
    magnitude: int = 9
    deviation: float = 0.0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in AUTO_AUGMENTS or self.kind == 'off':
            raise ValueError(f'kind {self.kind!r} of the operations is none of {", ".join(_GREATEST)}')
        if not 1 <= self.ops <= 16 or not 0 <= self.magnitude < STRENGTHS:
            raise ValueError(f'ops {self.ops} must lie in 1 .. 16 and magnitude {self.magnitude} in 0 .. 30')
        if not 0 <= self.deviation < STRENGTHS or not 0 < self.share <= 1:
            raise ValueError(
                f'deviation {self.deviation} must lie in 0 .. 30 and share {self.share} above 0, at most 1'
            )

    def draw(self, words: np.ndarray) -> List[List[Change]]:
        """Draw the changes of the images with these random numbers, one after another."""
        ops = 1 if self.kind == 'trivial' else self.ops
        # The columns that came later are behind the others, which stay what they were.
        numbers = uniform(words, 6 * ops)
        drawn, more = (part.reshape(len(words), ops, 3) for part in (numbers[:, : 3 * ops], numbers[:, 3 * ops :]))
        kinds = (drawn[:, :, 0] * len(NAMES)).astype(int).tolist()
        strengths = self._strengths(drawn[:, :, 1], more).tolist()
        negative = (drawn[:, :, 2] < 0.5).tolist()
        applied = (more[:, :, 2] < (self.share if self.kind == 'rand' else 1)).tolist()
        return [
            [Change(kind, strength, sign) for kind, strength, sign, kept in zip(*one) if kept]
            for one in zip(kinds, strengths, negative, applied)
        ]

    def _strengths(self, drawn: np.ndarray, more: np.ndarray) -> np.ndarray:
        """Return (N, ops) strengths from uniform numbers: `drawn`, or two columns of `more` for a normal one."""
        if self.kind == 'trivial':
            return (drawn * STRENGTHS).astype(int)
        normal = np.sqrt(-2 * np.log1p(-more[:, :, 0])) * np.cos(2 * np.pi * more[:, :, 1])  # Box and Muller's
        return np.clip(np.round(self.magnitude + self.deviation * normal), 0, STRENGTHS - 1).astype(int)

    def apply(self, pixels: np.ndarray, changes: Sequence[Change]) -> np.ndarray:
        """Return (H, W, 3) uint8 with these changes; `pixels` remain unchanged."""
        for change in changes:
            name = NAMES[change.operation]
            magnitude = magnitude_of(self.kind, name, change.strength, *pixels.shape[:2])
            signed = name in _GREATEST[self.kind]
            pixels = OPERATIONS[name](pixels, -magnitude if signed and change.negative else magnitude)
        return pixels
