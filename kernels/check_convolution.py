"""Compare convolutions of a training step, and their gradients, with NumPy in float64; part of `kernels.check`."""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence, Tuple

import numpy as np
from mxnet import autograd, nd

import environment  # noqa: F401  MXNet cannot be imported before it
import kernels

__all__ = ['ERROR', 'OURS', 'Convolution', 'by_numpy', 'errors']

#: The root mean square of errors, relative to that of the numbers: direct sums in float32 have 2e-7, Winograd's, whose
#: transforms multiply what is rounded, 1e-6 with few channels and 4e-6 with 512.
ERROR = 5e-6


class Convolution(NamedTuple):
    samples: int
    inputs: int
    outputs: int
    height: int
    width: int
    kernel: int = 3
    stride: int = 1
    depthwise: bool = False  # with as many outputs as inputs


#: Those that our kernels take, with AVX2 and AVX-512: tiles over the edge, thin maps, odd numbers of blocks; sums of
#: each thread, and sums in common; depthwise ones.
OURS = (
    Convolution(8, 16, 32, 9, 7),
    Convolution(2, 48, 16, 16, 16),
    Convolution(32, 16, 16, 4, 3),
    Convolution(32, 128, 144, 8, 8),
    Convolution(32, 32, 32, 2, 8),
    Convolution(3, 48, 48, 9, 7, depthwise=True),
    Convolution(1, 16, 16, 12, 11, kernel=5, stride=2, depthwise=True),
    Convolution(2, 32, 32, 3, 8, kernel=7, stride=3, depthwise=True),
)


def drawn(case: Convolution) -> List[np.ndarray]:
    """Return x, the weights and the gradient of the outputs, as float32."""
    random, beyond = np.random.RandomState(0), case.kernel // 2 * 2 - case.kernel
    shapes = (
        (case.samples, case.inputs, case.height, case.width),
        (case.outputs, 1 if case.depthwise else case.inputs, case.kernel, case.kernel),
        (case.samples, case.outputs, *((side + beyond) // case.stride + 1 for side in (case.height, case.width))),
    )
    return [random.randn(*shape).astype(np.float32) for shape in shapes]


def by_numpy(case: Convolution, x: np.ndarray, weight: np.ndarray, above: np.ndarray) -> List[np.ndarray]:
    """Return y, the gradient of x and that of the weights, in float64."""
    border, stride = case.kernel // 2, case.stride
    high, wide = above.shape[2:]
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (border, border), (border, border)))
    weight, above = weight.astype(np.float64), above.astype(np.float64)
    y, of_x, of_weight = np.zeros(above.shape), np.zeros(x.shape), np.zeros(weight.shape)
    for a in range(case.kernel):
        for b in range(case.kernel):
            rows = slice(a, a + stride * (high - 1) + 1, stride)
            columns = slice(b, b + stride * (wide - 1) + 1, stride)
            part, taps = x[:, :, rows, columns], weight[:, :, a, b]
            if case.depthwise:
                y += part * taps[:, :, None]
                of_x[:, :, rows, columns] += above * taps[:, :, None]
                of_weight[:, 0, a, b] = (above * part).sum((0, 2, 3))
                continue
            y += np.tensordot(part, taps, ([1], [1])).transpose(0, 3, 1, 2)
            of_x[:, :, rows, columns] += np.tensordot(above, taps, ([1], [0])).transpose(0, 3, 1, 2)
            of_weight[:, :, a, b] = np.tensordot(above, part, ([0, 2, 3], [0, 2, 3]))
    inside = slice(border, of_x.shape[2] - border), slice(border, of_x.shape[3] - border)
    return [y, of_x[(slice(None), slice(None), *inside)], of_weight]


def by_mxnet(case: Convolution, arrays: Sequence[np.ndarray], in_layout: bool) -> Tuple[List[np.ndarray], int]:
    """Return y and the gradients by MXNet, and how many calls our kernels took."""
    x, weight, above = (nd.array(array) for array in arrays)
    x.attach_grad()
    weight.attach_grad()
    nd.waitall()
    before = kernels.calls()

    def through(array: Any) -> Any:  # a convolution that changes nothing, and leaves oneDNN's layout
        identity = nd.array(np.eye(array.shape[1])[:, :, None, None])
        return nd.Convolution(array, identity, kernel=(1, 1), num_filter=array.shape[1], no_bias=True)

    with autograd.record():
        y = nd.Convolution(
            through(x) if in_layout else x,
            weight,
            kernel=(case.kernel,) * 2,
            pad=(case.kernel // 2,) * 2,
            stride=(case.stride,) * 2,
            num_filter=case.outputs,
            num_group=case.inputs if case.depthwise else 1,
            no_bias=True,
        )
        out = through(y) if in_layout else y
    out.backward(above)
    found = [array.asnumpy() for array in (y, x.grad, weight.grad)]
    return found, kernels.calls() - before


def errors(case: Convolution, in_layout: bool) -> Tuple[List[float], int]:
    """Return the errors of y, the gradient of x and that of the weights as :data:`ERROR` has them, and calls taken."""
    arrays = drawn(case)
    found, taken = by_mxnet(case, arrays, in_layout)
    pairs = zip(found, by_numpy(case, *arrays))
    return [float(np.sqrt(((one - other) ** 2).mean() / (other**2).mean())) for one, other in pairs], taken
