"""Muon: momentum that steps in orthogonal directions.

The momentum of a convolution's weights, as a matrix with a row for each filter, is dominated by a few directions. Muon
steps along the orthogonal matrix next to it, U V' of its singular value decomposition U S V', so that the others learn
as fast. A polynomial, applied over and over, brings the singular values near to 1 with nothing but products of
matrices. From K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024
(https://kellerjordan.github.io/posts/muon/), which also gives the polynomial's coefficients.
"""

import sys
from functools import lru_cache
from typing import Any, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np

__all__ = ['LEAST', 'SCALE', 'Muon', 'directions_of']

SCALE = 0.2  # of the learning rate, for the orthogonal steps
# Of x, x^3 and x^5, which in so many rounds bring what is from 0.002 to 1 to between 0.68 and 1.21.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
LEAST = 8  # filters, and channels that each reads: with fewer there is little to gain, and the image has three
TINY = 1e-20  # added to a sum of squares, so that zeros give zeros


def _rows_and_columns(shape: Sequence[int]) -> Tuple[int, int]:
    """Return the rows and columns of a weight's matrix, transposed if it is higher than wide."""
    rows, columns = shape[0], int(np.prod(shape[1:]))
    return min(rows, columns), max(rows, columns)


def _near_orthogonal(matrices: Any) -> Any:
    """Symbol of matrices (K, rows, columns), rows <= columns, with singular values near 1 in place of their own."""
    squares = mx.sym.sum(mx.sym.square(matrices), axis=(1, 2), keepdims=True)
    matrices = mx.sym.broadcast_mul(matrices, mx.sym.rsqrt(squares + TINY))
    first, third, fifth = COEFFICIENTS
    for _ in range(ROUNDS):
        square = mx.sym.batch_dot(matrices, matrices, transpose_b=True)
        factor = third * square + fifth * mx.sym.batch_dot(square, square)
        matrices = first * matrices + mx.sym.batch_dot(factor, matrices)
    return matrices


@lru_cache(maxsize=16)
def directions_of(shapes: Tuple[Tuple[int, ...], ...]) -> Any:
    """Return what maps weights' momenta of these shapes (filters, ...) to the directions of their steps.

    A function of as many float32 arrays, which returns as many, in their shapes. Of each, as a matrix, singular vectors
    stay and singular values become 0.68 to 1.21, times the square root of rows / columns where it is higher than wide;
    those below some 1/600 of the root of the sum of all squared become less. All of one shape go through together.
    """
    groups: Dict[Tuple[int, int], List[int]] = {}
    for place, shape in enumerate(shapes):
        groups.setdefault(_rows_and_columns(shape), []).append(place)
    directions: List[Any] = [None] * len(shapes)
    for (rows, columns), places in groups.items():
        parts = []
        for place in places:
            matrix = mx.sym.reshape(mx.sym.var(f'momentum{place}'), shape=(1, shapes[place][0], -1))
            high = shapes[place][0] > rows
            parts.append(mx.sym.transpose(matrix, axes=(0, 2, 1)) if high else matrix)
        near = _near_orthogonal(mx.sym.concat(*parts, dim=0))
        for i, place in enumerate(places):
            matrix = mx.sym.slice_axis(near, axis=0, begin=i, end=i + 1)
            if shapes[place][0] > rows:
                matrix = mx.sym.transpose(matrix, axes=(0, 2, 1)) * (columns / rows) ** 0.5
            directions[place] = mx.sym.reshape(matrix, shape=shapes[place])
    graph = mx.sym.Group(directions)
    order = [int(name[len('momentum') :]) for name in graph.list_inputs()]
    operator = mx.nd.CachedOp(graph)

    def run(*momenta: Any) -> List[Any]:
        out = operator(*(momenta[place] for place in order))
        return out if isinstance(out, list) else [out]

    return run


@mx.optimizer.register
class Muon(mx.optimizer.NAG):
    """Nesterov's momentum in orthogonal directions for the parameters numbered in `matrices`, and NAG for the others.

    With gradient g, momentum M, rate lr = `learning_rate`, m = `momentum`, and g + m M = U S V' as a matrix:

        M <- m M + g
        W <- (1 - lr wd / (1 - m)) W - lr `scale` sqrt(max(1, rows / columns)) U V'

    M is without the rate, which MXNet's NAG has in its momentum. The decay is what NAG's amounts to, as there it goes
    through the momentum. The original multiplies by `1 - R D` with a rate and a decay of its own; here they are
    lr = R / `scale` and wd = D `scale` (1 - m). A step is as long whatever the gradient's size, so that neither its
    scale nor the clipping of its norm matters to the length; and it goes on for a while in the old direction where
    gradients become zero. Parameters of lower precision have a float32 master with `multi_precision`.

    Products of matrices differ in their last bits between processors and numbers of threads.
    """

    def __init__(self, matrices: Sequence[int], scale: float = SCALE, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.matrices, self.scale = frozenset(matrices), scale
        self.aggregate_num = sys.maxsize  # all parameters of a precision in one call

    def update(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        self.update_multi_precision(index, weight, grad, state)

    def update_multi_precision(self, index: Any, weight: Any, grad: Any, state: Any) -> None:
        if not isinstance(index, (list, tuple)):
            index, weight, grad, state = [index], [weight], [grad], [state]
        matrices = []
        for row in zip(index, weight, grad, state):
            if row[0] in self.matrices:
                matrices.append(row)
            else:
                super().update_multi_precision(*row)
        if matrices:
            self._step(*zip(*matrices))

    def _step(self, indices: Sequence[int], weights: Sequence[Any], gradients: Sequence[Any], states: Any) -> None:
        self._update_count(list(indices))
        rates, decays = self._get_lrs(indices), self._get_wds(indices)
        masters, ahead = [], []
        for weight, gradient, state in zip(weights, gradients, states):
            momentum, master = state if isinstance(state, (tuple, list)) else (state, weight)
            gradient = gradient.astype(master.dtype, copy=False) * self.rescale_grad
            if self.clip_gradient:
                gradient = mx.nd.clip(gradient, -self.clip_gradient, self.clip_gradient)
            if momentum is not None:
                # In place: what undoes a step, and what saves it, hold these arrays.
                momentum *= self.momentum
                momentum += gradient
                gradient = gradient + self.momentum * momentum
            masters.append(master)
            ahead.append(gradient.astype('float32', copy=False))
        directions = directions_of(tuple(array.shape for array in ahead))(*ahead)
        for weight, master, rate, decay, direction in zip(weights, masters, rates, decays, directions):
            # The operator multiplies the decay by the rate.
            wd = decay / (self.scale * (1 - self.momentum))
            direction = direction.astype(master.dtype, copy=False)
            mx.nd.sgd_update(master, direction, out=master, lr=rate * self.scale, wd=wd)
            if master is not weight:
                mx.nd.cast(master, dtype=weight.dtype, out=weight)
