"""Determine the ranges of maps that become bytes, from the numbers that occur in them on real images."""

from __future__ import annotations

from typing import Any, List, Tuple, Union

import numpy as np

from inference.engine.narrow import narrowed
from inference.engine.operators import Map, Operator, Tensor, View
from inference.engine.values import Lowered

__all__ = ['Observer', 'range_of']

# Numbers sampled from each map of each image, besides the smallest and the largest.
SAMPLE = 4096
# Percentages of the numbers that may lie outside the range. The best of these is chosen.
PERCENTILES = (100.0, 99.999, 99.99, 99.9, 99.5)


class Observer:
    """A rewrite after which a plan returns all maps that are to become narrow, in float32, one after another.

    ``collect`` samples numbers from what the plan returned for an image, and ``ranges`` derives the ranges of all maps.
    """

    def __init__(self) -> None:
        self.maps: List[Union[Map, View]] = []
        self.drawn: List[List[np.ndarray]] = []
        self._random = np.random.RandomState(0)
        self._lanes = 0

    def __call__(self, lowered: Lowered) -> None:
        self._lanes = lowered.lanes
        self.maps = [wanted.map for wanted in narrowed(lowered)]
        self.drawn = [[] for _ in self.maps]
        whole = Tensor(sum(one.tensor.size for one in self.maps))
        at = 0
        for one in self.maps:
            lowered.add(_copy(one.tensor, whole, at))
            at += one.tensor.size
        lowered.output = View.whole(whole, (1, whole.size))

    def collect(self, numbers: np.ndarray) -> None:
        """Sample from the plan's output for one image."""
        at = 0
        for one, drawn in zip(self.maps, self.drawn):
            values = self._real(one, numbers[at : at + one.tensor.size])
            at += one.tensor.size
            some = values if values.size <= SAMPLE else values[self._random.randint(values.size, size=SAMPLE)]
            drawn.append(np.concatenate([some, [values.min(), values.max()]]).astype(np.float32))

    def _real(self, one: Union[Map, View], values: np.ndarray) -> np.ndarray:
        """Return the map without the padding of its last block of channels."""
        if isinstance(one, View):
            return values[: one.size]
        blocks = values.reshape(-1, one.positions, self._lanes)
        rest = one.channels % self._lanes
        if not rest:
            return values
        return np.concatenate([blocks[:-1].ravel(), blocks[-1, :, :rest].ravel()])

    def ranges(self) -> Tuple[Tuple[float, float], ...]:
        return tuple(range_of(np.concatenate(drawn)) for drawn in self.drawn)


def _copy(from_: Tensor, to: Tensor, at: int) -> Operator:
    def numbers(plan: Any) -> List[int]:
        return [1, from_.size, at, 1, plan.tensor(to), 0, 1, plan.tensor(from_)]

    return Operator('copy', [from_], [to], numbers)


def range_of(values: np.ndarray) -> Tuple[float, float]:
    """Return the range for bytes, including 0, that gives the smallest squared error.

    It is one of those cut off at `PERCENTILES`.
    """
    best: Tuple[float, float, float] = (np.inf, 0.0, 0.0)
    for percent in PERCENTILES:
        low, high = np.percentile(values, [100 - percent, percent])
        low, high = min(float(low), 0.0), max(float(high), 0.0)
        scale = (high - low) / 255 or 1.0
        zero = np.rint(-low / scale)
        back = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
        error = float(np.square(back - values, dtype=np.float64).mean())
        best = min(best, (error, low, high))
    return best[1:]
