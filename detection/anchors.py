"""Anchors: the boxes that a network starts from at every cell of its maps."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Sequence, Tuple

import numpy as np
from mxnet import gluon

__all__ = ['AnchorGrid', 'base_anchors', 'cells_within', 'grid']

RATIOS = (0.5, 1.0, 2.0)  # height / width


@lru_cache(maxsize=None)
def base_anchors(stride: int, scales: Tuple[float, ...], ratios: Tuple[float, ...] = RATIOS) -> np.ndarray:
    """Return the anchors (A, 4) of the cell at the upper left, float32: all scales of the first ratio, then the next.

    They are centred on ``(stride - 1) / 2`` with sides of ``stride * scale / sqrt(ratio)`` and ``stride * scale *
    sqrt(ratio)``, and their corners are rounded to whole pixels. GluonCV's generators round the sides, or nothing.
    """
    ratio, scale = (array.ravel() for array in np.meshgrid(ratios, scales, indexing='ij'))
    sides = stride * scale * np.stack([ratio**-0.5, ratio**0.5])
    reach = (sides.T - 1) / 2
    centre = (stride - 1) / 2
    anchors = np.rint(np.concatenate([centre - reach, centre + reach], axis=1)).astype(np.float32)
    anchors.setflags(write=False)
    return anchors


@lru_cache(maxsize=128)
def grid(
    height: int, width: int, stride: int, scales: Tuple[float, ...], ratios: Tuple[float, ...] = RATIOS
) -> np.ndarray:
    """Return the anchors of a map of ``height`` by ``width`` cells, ``(height * width * A, 4)``, row by row."""
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing='ij')
    shifts = stride * np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4).astype(np.float32)
    anchors = (shifts + base_anchors(stride, scales, ratios)).reshape(-1, 4)
    anchors.setflags(write=False)
    return anchors


def cells_within(height: int, width: int, stride: int, size: Sequence[float], count: int) -> np.ndarray:
    """Return for every anchor of a map whether its cell begins inside an image of ``size`` (height, width).

    ``count`` is the number of anchors of a cell; the answer is ``(height * width * count,)``.
    """
    rows, columns = (np.arange(cells) * stride < side for cells, side in zip((height, width), size))
    return np.repeat(rows[:, None] & columns[None, :], count)


class AnchorGrid(gluon.HybridBlock):
    """Maps ``(N, ?, H, W) -> (1, H W A, 4)``: :func:`grid` inside a graph, for maps of any size.

    The base anchors are constants stored with the parameters, so that an exported network is complete.
    """

    def __init__(
        self, stride: int, scales: Tuple[float, ...], ratios: Tuple[float, ...] = RATIOS, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.stride, self.scales, self.ratios = stride, tuple(scales), tuple(ratios)
        with self.name_scope():
            self.base = self.params.get_constant('base', base_anchors(stride, self.scales, self.ratios))

    @property
    def count(self) -> int:
        """Return the number of anchors per cell."""
        return len(self.scales) * len(self.ratios)

    def of(self, height: int, width: int) -> np.ndarray:
        """Return the same for a map of known size, as an array (H W A, 4)."""
        return grid(height, width, self.stride, self.scales, self.ratios)

    def hybrid_forward(self, F: Any, x: Any, base: Any) -> Any:
        rows, columns = (
            F.reshape(F.contrib.arange_like(x, axis=axis) * self.stride, shape=shape)
            for axis, shape in ((2, (-1, 1, 1)), (3, (1, -1, 1)))
        )
        # (H, W, 1) each: zeros of the other's shape make them so.
        x_shift = F.broadcast_add(columns, F.zeros_like(rows))
        y_shift = F.broadcast_add(rows, F.zeros_like(columns))
        shifts = F.reshape(F.concat(x_shift, y_shift, x_shift, y_shift, dim=2), shape=(-1, 1, 4))
        anchors = F.broadcast_add(shifts, F.expand_dims(base, axis=0))
        return F.reshape(anchors, shape=(1, -1, 4))
