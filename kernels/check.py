"""Compare a compiled library with NumPy, in a process that may crash.

    python -m kernels.check LIBRARY

Every operator with another kernel is compared, with its gradient, on maps in oneDNN's layout and on plain ones; the
operators of our own with the same made of MXNet's; and Nesterov's step. Exit status 1 and a line for the first
difference.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Iterator, NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import autograd, nd

import environment  # noqa: F401  MXNet cannot be imported before it
import kernels
from environment.cpu import lacks
from kernels import check_bfloat16 as narrow
from kernels import check_convolution
from kernels.check_atac import UNITS, unit_difference
from kernels.check_fused import fused_cases, fused_difference
from kernels.multi_tensor import Copy, NAGUpdate

__all__ = [
    'OPERATORS',
    'differences',
    'operator_cases',
    'update_difference',
]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


class Operator(NamedTuple):
    """MXNet's operator, its value and its gradients from NumPy, the gradient above being their first argument."""

    function: Callable[..., Any]
    value: Callable[..., np.ndarray]
    gradients: Callable[..., Sequence[np.ndarray]]
    inputs: int = 2
    calls: int = 2  # of kernels of ours, for the value and the gradients
    factor: str = ''  # the second input has numbers for 'channels', (N, C, 1, 1), or 'positions', (N, 1, H, W)


OPERATORS = {
    'product': Operator(nd.elemwise_mul, lambda a, b: a * b, lambda g, a, b: (g * b, g * a)),
    'sum': Operator(nd.elemwise_add, lambda a, b: a + b, lambda g, a, b: (g, g), calls=1),
    'sum of two': Operator(nd.add_n, lambda a, b: a + b, lambda g, a, b: (g, g), calls=1),
    'sigmoid': Operator(
        lambda x: nd.Activation(x, act_type='sigmoid'),
        _sigmoid,
        lambda g, x: (g * _sigmoid(x) * _sigmoid(-x),),
        inputs=1,
    ),
    'scaled channels': Operator(
        nd.broadcast_mul,
        lambda x, factor: x * factor,
        lambda g, x, factor: (g * factor, (g * x).sum((2, 3), keepdims=True)),
        factor='channels',
    ),
    'shifted channels': Operator(
        nd.broadcast_add,
        lambda x, term: x + term,
        lambda g, x, term: (g, g.sum((2, 3), keepdims=True)),
        factor='channels',
    ),
    'scaled positions': Operator(
        nd.broadcast_mul,
        lambda x, factor: x * factor,
        lambda g, x, factor: (g * factor, (g * x).sum(1, keepdims=True)),
        factor='positions',
    ),
    'relu': Operator(
        lambda x: nd.Activation(x, act_type='relu'),
        lambda x: np.maximum(x, 0),
        lambda g, x: (g * (x > 0),),
        inputs=1,
    ),
    'clip': Operator(
        lambda x: nd.clip(x, -0.5, 0.75),
        lambda x: np.clip(x, -0.5, 0.75),
        lambda g, x: (g * ((x >= -0.5) & (x <= 0.75)),),
        inputs=1,
    ),
    'mean over space': Operator(
        lambda x: nd.contrib.AdaptiveAvgPooling2D(x, output_size=1),
        lambda x: x.mean((2, 3), keepdims=True),
        lambda g, x: (x * 0 + g / x[0, 0].size,),
        inputs=1,
    ),
}


def operator_cases() -> Iterator[Tuple[str, Tuple[int, ...], bool]]:
    """Yield every operator, shape and layout to compare: (its name, shape, whether in oneDNN's layout)."""
    for name in OPERATORS:
        for shape in ((3, 16, 5, 7), (2, 24, 4, 4), (2, 32, 17, 16), (2, 5, 3, 3)):
            yield name, shape, False
            yield name, shape, True


def differences(name: str, shape: Tuple[int, ...], in_layout: bool) -> float:
    """Return the largest difference from NumPy of an operator's value and gradients, each relative to its scale."""
    operator, random = OPERATORS[name], np.random.RandomState(0)
    second = {'': shape, 'channels': (*shape[:2], 1, 1), 'positions': (shape[0], 1, *shape[2:])}[operator.factor]
    shapes = [shape, second][: operator.inputs]
    inputs = [nd.array(random.uniform(-1, 1, one)) for one in shapes]
    # A convolution that changes nothing: what it gives, and what it gets back, is in oneDNN's layout.
    identity = nd.array(np.eye(shape[1])[:, :, None, None])
    for array in inputs:
        array.attach_grad()

    def through(x: Any) -> Any:
        return nd.Convolution(x, identity, kernel=(1, 1), num_filter=shape[1], no_bias=True) if in_layout else x

    nd.waitall()
    before = kernels.calls()
    with autograd.record():
        out = through(operator.function(*(through(array) if array.shape == shape else array for array in inputs)))
    above = random.uniform(-1, 1, out.shape).astype(np.float32)
    out.backward(nd.array(above))
    nd.waitall()
    taken = kernels.calls() - before
    if shape[1] % 8 == 0 and taken != operator.calls:  # else oneDNN's layout has padding, which is MXNet's business
        sys.exit(f'error: {name} of {shape}: the kernels took {taken} calls, not {operator.calls}')
    arrays = [array.asnumpy().astype(np.float64) for array in inputs]
    expected = [operator.value(*arrays), *operator.gradients(above, *arrays)]
    pairs = zip([out, *(array.grad for array in inputs)], expected)
    apart = [np.abs(ours.asnumpy() - theirs).max() / max(np.abs(theirs).max(), 1) for ours, theirs in pairs]
    return float(np.max(apart))  # NumPy's maximum, which propagates NaN


def update_difference(shapes: Sequence[Tuple[int, ...]], momentum: float = 0.9, rescale: float = 0.25) -> float:
    """Return the largest relative difference from NumPy after two of Nesterov's steps and a copy after each.

    Compared are weights, momenta and the gradients' length.
    """
    random = np.random.RandomState(0)
    weights, gradients, momenta = ([random.randn(*shape) for shape in shapes] for _ in range(3))
    rates, decays = random.uniform(0, 0.2, (2, len(shapes)))
    ours = [[nd.array(array) for array in arrays] for arrays in (weights, gradients, momenta)]
    steps = NAGUpdate(*ours)
    state = ours[0] + ours[2]
    copies = [nd.zeros(array.shape) for array in state]
    for _ in range(2):
        norm = steps(rates, decays, momentum, rescale)
        Copy(state, copies)()
        for array in state:
            array[:] = 0
        Copy(copies, state)()
    for k, (rate, decay) in enumerate(zip(rates, decays)):
        for _ in range(2):
            before, gradient = momentum * momenta[k], rescale * gradients[k]
            ahead = before - rate * (gradient + decay * weights[k])
            weights[k] = weights[k] - before + (momentum + 1) * ahead
            momenta[k] = before - rate * (gradient + decay * weights[k])
    pairs = zip(state, weights + momenta)
    squares = sum((array**2).sum() for array in gradients)
    apart = [np.abs(array.asnumpy() - expected).max() for array, expected in pairs]
    return float(np.max([abs(norm.asscalar() / squares - 1), *apart]))


def main(path: str) -> None:
    kernels.install(path)
    for case in operator_cases():
        if not differences(*case) < 1e-5:
            sys.exit(f'error: {case} differs from NumPy by {differences(*case):.1e}')
    for case in fused_cases():
        if not fused_difference(*case) < 2e-5:
            sys.exit(f'error: {case} differs from MXNet by {fused_difference(*case):.1e}')
    for case in check_convolution.OURS:
        for in_layout in (False, True):
            apart, taken = check_convolution.errors(case, in_layout)
            if not (max(apart) < check_convolution.ERROR and taken == 2):
                sys.exit(f'error: {case} differs from NumPy by {max(apart):.1e}; {taken} calls')
    for unit in UNITS:
        for in_layout in (False, True):
            if not unit_difference(*unit, in_layout) < 1e-4:
                sys.exit(f'error: ATAC {unit} differs from MXNet by {unit_difference(*unit, in_layout):.1e}')
    if not update_difference([(3,), (16, 16, 3, 3), (10, 64), (200, 200)]) < 1e-5:
        sys.exit("error: Nesterov's step differs from NumPy")
    if kernels.have('bfloat16'):
        for case in fused_cases():
            apart = fused_difference(*case, bfloat16=True)
            if not apart < narrow.TOLERANCE:
                sys.exit(f'error: {case} in bfloat16 differs from MXNet by {apart:.1e}')
        for unit in UNITS:
            apart = unit_difference(*unit, in_layout=True, bfloat16=True)
            if not apart < 4 * narrow.TOLERANCE:
                sys.exit(f'error: ATAC {unit} in bfloat16 differs from MXNet by {apart:.1e}')
    if not lacks('bfloat16'):
        for norm in narrow.NORMS:
            if not narrow.norm_difference(norm) < 4 * narrow.TOLERANCE:
                sys.exit(f'error: the norm of {norm} in bfloat16 differs by {narrow.norm_difference(norm):.1e}')
        for case in narrow.CONVOLUTIONS:
            if not narrow.convolution_difference(case) < narrow.TOLERANCE:
                sys.exit(f'error: {case} in bfloat16 differs by {narrow.convolution_difference(case):.1e}')
    mx.nd.waitall()


if __name__ == '__main__':
    main(sys.argv[1])
