"""Weights in the order in which the kernels read them, for vectors of ``lanes`` floats."""

from __future__ import annotations

from math import gcd
from typing import List, Tuple

import numpy as np

__all__ = [
    'bfloat16_dense_weights',
    'bfloat16_weights',
    'byte_scales',
    'byte_weights',
    'dense_weights',
    'depthwise_weights',
    'direct_weights',
    'joined_groups',
    'padded',
    'stem_weights',
    'winograd_weights',
]

# Of F(2,3) and F(4,3): the transform of a kernel (Lavin and Gray, arXiv 1509.09308).
_G = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def _up(count: int, lanes: int) -> int:
    return -(-count // lanes) * lanes


def _panels(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return ``weight`` (outputs, ..., rest) in consecutive pairs of blocks, with the outputs of a pair innermost."""
    blocks = len(weight) // lanes
    parts: List[np.ndarray] = []
    for first in range(0, blocks, 2):
        pair = weight[first * lanes : (first + 2) * lanes]
        parts.append(np.moveaxis(pair, 0, -1).ravel())
    return np.concatenate(parts).astype(np.float32)


def joined_groups(weight: np.ndarray, groups: int, lanes: int) -> Tuple[int, int, int]:
    """Return the number of groups, and the inputs and outputs of each, after joining as many as fill whole blocks."""
    outputs, inputs = len(weight) // groups, weight.shape[1]
    need_out, need_in = lanes // gcd(outputs, lanes), lanes // gcd(inputs, lanes)
    together = need_out * need_in // gcd(need_out, need_in)
    if groups == 1 or groups % together:
        together = groups
    return groups // together, _up(inputs * together, lanes), _up(outputs * together, lanes)


def direct_weights(weight: np.ndarray, groups: int, lanes: int) -> np.ndarray:
    """Return (group, pair of blocks, input block, row, column, input lane, outputs).

    Groups are joined, see `joined_groups`; weights between different original groups are zero.
    """
    count, wide_in, wide_out = joined_groups(weight, groups, lanes)
    outputs, inputs, together = len(weight) // groups, weight.shape[1], groups // count
    height, width = weight.shape[2:]
    parts = []
    for where in range(count):
        full = np.zeros((wide_out, wide_in, height, width), np.float32)
        for k in range(together):
            group = where * together + k
            full[k * outputs : (k + 1) * outputs, k * inputs : (k + 1) * inputs] = weight[
                group * outputs : (group + 1) * outputs
            ]
        split = full.reshape(wide_out, wide_in // lanes, lanes, height, width).transpose(0, 1, 3, 4, 2)
        parts.append(_panels(split, lanes))
    return np.concatenate(parts)


def _words(weight: np.ndarray, groups: int, pitch: int, whole: bool, lanes: int) -> np.ndarray:
    """Return weights of bytes or bfloat16 as `kernels/engine/dots.h` expects them, with their bits as those of float32.

    (group, pair of blocks, run, piece of up to 16 words, block, word, output, numbers of a word). A run is a kernel row
    with ``pitch`` channels at each column if ``whole``, else the ``pitch`` channels of one position.
    """
    count, _, wide_out = joined_groups(weight, groups, lanes)
    outputs, inputs, together = len(weight) // groups, weight.shape[1], groups // count
    height, width = weight.shape[2:]
    each = 4 // weight.itemsize
    runs, length = (height, width * pitch) if whole else (height * width, pitch)
    words = length // each
    pieces, piece = -(-words // 16), min(16, words)
    parts = []
    for where in range(count):
        full = np.zeros((wide_out, height, width, pitch), weight.dtype)
        for k in range(together):
            rows = slice((where * together + k) * outputs, (where * together + k + 1) * outputs)
            full[k * outputs : (k + 1) * outputs, ..., k * inputs : (k + 1) * inputs] = weight[rows].transpose(
                0, 2, 3, 1
            )
        filled = np.zeros((wide_out, runs, pieces * piece * each), weight.dtype)
        filled[..., :length] = full.reshape(wide_out, runs, length)
        split = filled.reshape(-1, lanes, runs, pieces, piece, each).transpose(2, 3, 0, 4, 1, 5)
        for block in range(0, wide_out // lanes, 2):
            parts.append(np.ascontiguousarray(split[:, :, block : block + 2]).ravel())
    return np.concatenate(parts).view(np.float32)


def byte_scales(weight: np.ndarray) -> Tuple[np.ndarray, np.ndarray]:
    """Return the scale of each output channel, by which its weights become integers up to 127, and their sums."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.where(largest > 0, largest, 127).astype(np.float32) / np.float32(127)
    return scale, _bytes_of(weight, scale).reshape(len(weight), -1).sum(axis=1, dtype=np.int64)


def _bytes_of(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.rint(weight / scale.reshape(-1, 1, 1, 1)).astype(np.int8)


def byte_weights(weight: np.ndarray, groups: int, pitch: int, whole: bool, lanes: int) -> np.ndarray:
    return _words(_bytes_of(weight, byte_scales(weight)[0]), groups, pitch, whole, lanes)


def _bfloat16(weight: np.ndarray) -> np.ndarray:
    word = np.ascontiguousarray(weight, np.float32).view(np.uint32)
    rounded = word + 0x7FFF + (word >> 16 & 1)  # to the nearest, halves to even
    return (rounded >> 16).astype(np.uint16)


def bfloat16_weights(weight: np.ndarray, groups: int, pitch: int, whole: bool, lanes: int) -> np.ndarray:
    return _words(_bfloat16(weight), groups, pitch, whole, lanes)


def stem_weights(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return (pair of blocks, row, column, channel, outputs)."""
    outputs, channels, height, width = weight.shape
    full = np.zeros((_up(outputs, lanes), height, width, channels), np.float32)
    full[:outputs] = weight.transpose(0, 2, 3, 1)
    return _panels(full, lanes)


def winograd_weights(weight: np.ndarray, m: int, lanes: int) -> np.ndarray:
    """Return (element, pair of blocks, input channel, outputs) of transformed 3x3 kernels; computed in float64."""
    outputs, inputs = weight.shape[:2]
    wide_outputs, wide_inputs = _up(outputs, lanes), _up(inputs, lanes)
    transform = np.kron(_G[m], _G[m])  # (elements, 9): of a whole kernel at once
    made = np.empty((len(transform), wide_outputs * wide_inputs), np.float32)
    for first in range(0, wide_outputs, 2 * lanes):
        last = min(first + 2 * lanes, wide_outputs)
        pair = weight[first:last]
        kernels = np.zeros((9, wide_inputs, last - first))
        kernels[:, :inputs, : len(pair)] = pair.reshape(len(pair), inputs, 9).transpose(2, 1, 0)
        made[:, first * wide_inputs : last * wide_inputs] = transform @ kernels.reshape(9, -1)
    return made.ravel()


def depthwise_weights(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return (block, row, column, lane) of (channels, 1, height, width)."""
    channels, _, height, width = weight.shape
    full = np.zeros((_up(channels, lanes), height, width), np.float32)
    full[:channels] = weight[:, 0]
    return np.ascontiguousarray(full.reshape(-1, lanes, height, width).transpose(0, 2, 3, 1)).ravel()


def bfloat16_depthwise_weights(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return (pair of blocks, row, column, even and odd channels, lane) in float32, for maps in bfloat16."""
    channels, _, height, width = weight.shape
    full = np.zeros((_up(channels, 2 * lanes), height, width), np.float32)
    full[:channels] = weight[:, 0]
    return np.ascontiguousarray(full.reshape(-1, lanes, 2, height, width).transpose(0, 3, 4, 2, 1)).ravel()


def dense_weights(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return (panel of four blocks, input, output) of (outputs, inputs)."""
    outputs, inputs = weight.shape
    panel = 4 * lanes
    full = np.zeros((_up(outputs, panel), inputs), np.float32)
    full[:outputs] = weight
    return np.ascontiguousarray(full.reshape(-1, panel, inputs).transpose(0, 2, 1)).ravel()


def bfloat16_dense_weights(weight: np.ndarray, lanes: int) -> np.ndarray:
    """Return `dense_weights` in bfloat16, packed in pairs into the bits of float32 numbers."""
    return _bfloat16(dense_weights(weight, lanes)).view(np.float32)


def padded(values: np.ndarray, lanes: int) -> np.ndarray:
    full = np.zeros(_up(values.size, lanes), np.float32)
    full[: values.size] = values.ravel()
    return full
