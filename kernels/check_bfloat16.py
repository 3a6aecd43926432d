"""Compare the kernels for bfloat16 maps with NumPy: a part of `kernels.check`."""

from __future__ import annotations

from typing import Any, Iterator, List, NamedTuple, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, nd

__all__ = [
    'CONVOLUTIONS',
    'NORMS',
    'TOLERANCE',
    'TYPE',
    'Convolution',
    'convolution_difference',
    'narrow',
    'norm_difference',
    'rounded',
    'wide',
]

#: MXNet's sign of bfloat16.
TYPE = np.dtype([('bfloat16', np.uint16)])
#: What rounding to 8 digits changes, of the largest number.
TOLERANCE = 2.0**-7


class Convolution(NamedTuple):
    """(N, C, H, W) to so many channels."""

    samples: int
    channels: int
    height: int
    width: int
    outputs: int
    kernel: int
    stride: int
    pad: int
    bias: bool = False
    depthwise: bool = False


#: A residual network's; odd sides; few and uneven channels; kernels as large as the map, and larger than their stride;
#: many weights; maps of several strips, and rows that no group of positions divides.
CONVOLUTIONS = (
    Convolution(3, 16, 8, 8, 16, 3, 1, 1),
    Convolution(2, 3, 17, 16, 24, 7, 2, 3),
    Convolution(9, 32, 9, 7, 40, 3, 2, 1),
    Convolution(2, 64, 14, 14, 32, 1, 1, 0),
    Convolution(2, 16, 9, 7, 32, 1, 2, 0),
    Convolution(2, 24, 5, 5, 8, 5, 1, 2),
    Convolution(1, 8, 30, 3, 16, 3, 1, 0),
    Convolution(3, 136, 5, 6, 120, 3, 1, 1),
    Convolution(2, 144, 6, 6, 136, 3, 2, 1),
    Convolution(2, 8, 9, 10, 24, 3, 2, 1),
    Convolution(2, 8, 35, 37, 16, 3, 1, 1),
    Convolution(3, 3, 12, 11, 16, 3, 1, 1),
    Convolution(3, 16, 8, 8, 16, 1, 1, 0, bias=True),
    Convolution(2, 24, 9, 7, 40, 3, 2, 1, bias=True),
    Convolution(2, 2, 5, 6, 3, 1, 1, 0, bias=True),
    Convolution(3, 24, 9, 7, 24, 3, 1, 1, depthwise=True),
    Convolution(2, 40, 10, 9, 40, 3, 2, 1, bias=True, depthwise=True),
    Convolution(1, 16, 11, 14, 16, 5, 2, 2, depthwise=True),
    Convolution(2, 33, 8, 9, 33, 7, 1, 3, depthwise=True),
)
NORMS = ((4, 16, 8, 8), (3, 24, 5, 7), (1, 5, 33, 17))


def rounded(array: Any) -> np.ndarray:
    """Return the nearest numbers that bfloat16 has, as float32."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + (bits >> 16 & 1)
    return (bits & 0xFFFF0000).astype(np.uint32).view(np.float32)


def narrow(array: Any) -> Any:
    """Return an MXNet array in bfloat16."""
    return nd.amp_cast(array, dtype=TYPE)


def wide(array: Any) -> Any:
    """Return an MXNet array in float32."""
    return nd.amp_cast(array, dtype='float32')


def _apart(found: Any, expected: np.ndarray) -> float:
    return float(np.abs(found.asnumpy() - expected).max() / max(np.abs(expected).max(), 1e-3))


def _taps(case: Convolution, sides: Tuple[int, int]) -> Iterator[Tuple[int, int, Tuple[slice, ...]]]:
    """Yield each place of the kernel, and what it meets of the map with its border."""
    ends = [case.stride * (side - 1) + 1 for side in sides]
    for y in range(case.kernel):
        for x in range(case.kernel):
            rows, columns = slice(y, y + ends[0], case.stride), slice(x, x + ends[1], case.stride)
            yield y, x, (slice(None), slice(None), rows, columns)


def _expected(case: Convolution, x: np.ndarray, w: np.ndarray, bias: np.ndarray, above: np.ndarray) -> List[np.ndarray]:
    """Return the value, and the gradients of map, weights and biases, in float64."""
    pad, above = case.pad, above.astype(np.float64)
    bordered = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    value, of_map, of_weights = np.zeros_like(above), np.zeros_like(bordered), np.zeros(w.shape)
    value += bias[:, None, None]
    for row, column, met in _taps(case, above.shape[2:]):
        if case.depthwise:
            value += bordered[met] * w[:, 0, row, column, None, None]
            of_map[met] += above * w[:, 0, row, column, None, None]
            of_weights[:, 0, row, column] = (bordered[met] * above).sum((0, 2, 3))
            continue
        value += np.einsum('nchw,oc->nohw', bordered[met], w[:, :, row, column])
        of_map[met] += np.einsum('nohw,oc->nchw', above, w[:, :, row, column])
        of_weights[:, :, row, column] = np.einsum('nchw,nohw->oc', bordered[met], above)
    return [value, of_map[:, :, pad : pad + case.height, pad : pad + case.width], of_weights, above.sum((0, 2, 3))]


def convolution_difference(case: Convolution, seed: int = 0) -> float:
    """Return the largest difference of a convolution and its gradients from NumPy, each relative to its scale."""
    random, kernel = np.random.RandomState(seed), (case.kernel, case.kernel)
    x = rounded(random.standard_normal((case.samples, case.channels, case.height, case.width)))
    w = rounded(random.standard_normal((case.outputs, 1 if case.depthwise else case.channels, *kernel)))
    bias = rounded(random.standard_normal(case.outputs) * 10 if case.bias else np.zeros(case.outputs))
    given = [nd.array(array) for array in (x, w, bias)[: 2 + case.bias]]
    for array in given:
        array.attach_grad()
    stride, pad = (case.stride, case.stride), (case.pad, case.pad)
    with autograd.record():
        options = {'kernel': kernel, 'stride': stride, 'pad': pad, 'num_filter': case.outputs}
        groups = case.channels if case.depthwise else 1
        y = nd.Convolution(*map(narrow, given), no_bias=not case.bias, num_group=groups, **options)
        out = wide(y)
    above = rounded(random.standard_normal(out.shape))
    out.backward(nd.array(above))
    found = [out, *(array.grad for array in given)]
    return max(_apart(one, expected) for one, expected in zip(found, _expected(case, x, w, bias, above)))


def norm_difference(shape: Tuple[int, ...], seed: int = 0) -> float:
    """Return the largest difference of a batch norm with a ReLU and a sum from the same in float32.

    Compared are the value, all gradients and the running statistics.
    """
    random, channels = np.random.RandomState(seed), shape[1]
    data = rounded(random.standard_normal(shape) * 2 + 3)
    start = [
        random.uniform(0.5, 1.5, channels),
        random.standard_normal(channels),
        np.zeros(channels),
        np.ones(channels),
    ]
    above = rounded(random.standard_normal(shape))

    def run(enter: Any, leave: Any) -> List[np.ndarray]:
        x, parameters = nd.array(data), [nd.array(array) for array in start]
        for array in (x, *parameters[:2]):
            array.attach_grad()
        with autograd.record():
            hidden = nd.BatchNorm(enter(x), *parameters, fix_gamma=False, eps=1e-5)
            # What the ReLU meets is above zero, so that rounding does not decide on a gradient.
            out = leave(nd.elemwise_add(nd.Activation(hidden * hidden, act_type='relu'), hidden))
        out.backward(nd.array(above))
        return [each.asnumpy() for each in (out, x.grad, *(p.grad for p in parameters[:2]), *parameters[2:])]

    pairs = list(zip(run(narrow, wide), run(lambda x: x, lambda x: x)))
    mx.nd.waitall()
    return float(np.max([np.abs(ours - theirs).max() / np.abs(theirs).max() for ours, theirs in pairs]))
