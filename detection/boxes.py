"""Boxes: overlaps, and the encoding in which the networks predict them.

A box is ``x1, y1, x2, y2`` in pixels with both corners inclusive, so its width is ``x2 - x1 + 1``: the convention of
Detectron, and of mmdetection 0.6, with which the DCANet experiments were run. GluonCV's coders and MXNet's ``box_iou``
and ``box_encode`` use ``x2 - x1``, which gives other targets for the same boxes.
"""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np

__all__ = ['LARGEST_CHANGE', 'clip', 'decode', 'encode', 'iou']

UNIT_STDS = (1.0, 1.0, 1.0, 1.0)
#: Limit on the logarithm of a change in width or height, so that nothing grows without bound (Detectron's constant).
LARGEST_CHANGE = math.log(1000 / 16)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the overlap of every box of ``first`` (A, 4) with every one of ``second`` (B, 4), as (A, B) in [0, 1]."""
    # One side at a time: no array of (A, B, 2), which is what takes the time with 200,000 anchors.
    width, height = (
        np.maximum(
            np.minimum(first[:, None, side + 2], second[None, :, side + 2])
            - np.maximum(first[:, None, side], second[None, :, side])
            + 1,
            0,
        )
        for side in (0, 1)
    )
    shared = width * height
    areas = [(boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1) for boxes in (first, second)]
    return shared / (areas[0][:, None] + areas[1][None, :] - shared)


def encode(boxes: np.ndarray, targets: np.ndarray, stds: Sequence[float] = UNIT_STDS) -> np.ndarray:
    """Return the code that moves ``boxes`` (P, 4) to ``targets`` (P, 4): ``dx, dy, dw, dh``, divided by ``stds``.

    Shifts of the centre are in widths and heights, and sizes as logarithms of their ratios; means are 0.
    """
    sizes, goals = (array[:, 2:] - array[:, :2] + 1 for array in (boxes, targets))
    centres, aims = ((array[:, 2:] + array[:, :2]) / 2 for array in (boxes, targets))
    code = np.concatenate([(aims - centres) / sizes, np.log(goals / sizes)], axis=1)
    return (code / np.asarray(stds)).astype(np.float32)


def decode(F: Any, boxes: Any, code: Any, stds: Sequence[float] = UNIT_STDS) -> Any:
    """Return ``boxes`` (..., 4) moved by ``code`` (..., 4), the inverse of :func:`encode`, as an array or a symbol.

    The code's ``dw`` and ``dh`` are kept within ``LARGEST_CHANGE``.
    """
    x1, y1, x2, y2 = F.split(boxes, num_outputs=4, axis=-1)
    dx, dy, dw, dh = (part * std for part, std in zip(F.split(code, num_outputs=4, axis=-1), stds))
    low, high = [], []
    for start, end, shift, change in ((x1, x2, dx, dw), (y1, y2, dy, dh)):
        size = end - start + 1
        centre = (start + end) * 0.5 + size * shift
        half = size * F.exp(F.clip(change, -LARGEST_CHANGE, LARGEST_CHANGE)) * 0.5 - 0.5
        low.append(centre - half)
        high.append(centre + half)
    return F.concat(*low, *high, dim=-1)


def clip(F: Any, boxes: Any, sizes: Any) -> Any:
    """Return ``boxes`` (N, K, 4) with every coordinate inside images of ``sizes`` (N, 2), height and width."""
    last = F.reshape(F.reverse(sizes, axis=1) - 1, shape=(0, 1, 2))  # of x and of y
    return F.broadcast_minimum(F.relu(boxes), F.concat(last, last, dim=2))
