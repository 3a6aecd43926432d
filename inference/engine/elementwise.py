"""Functions of single numbers, sums and products: steps of chains on maps, loops on arrays."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from inference.engine.operators import Folded, Map, Operator, Producer, Step, View, bits, row_major
from inference.engine.values import Unsupported, Value, Values, broadcast_strides
from inference.graph import Node

__all__ = ['BINARY', 'Elementwise']

_ONE = {
    'relu': 'relu',
    'sigmoid': 'sigmoid',
    'tanh': 'tanh',
}
# Functions of `kernels/engine/plain.h`, in its order.
FUNCTIONS = (
    'add sub mul div max min affine relu clip sigmoid tanh exp sqrt rsqrt square max_number reciprocal'
).split()
BINARY = {
    'elemwise_add': 'add', '_plus': 'add', '_Plus': 'add', 'broadcast_add': 'add', 'broadcast_plus': 'add',
    'elemwise_sub': 'sub', '_minus': 'sub', 'broadcast_sub': 'sub', 'broadcast_minus': 'sub',
    'elemwise_mul': 'mul', '_mul': 'mul', 'broadcast_mul': 'mul',
    'elemwise_div': 'div', '_div': 'div', 'broadcast_div': 'div',
    '_maximum': 'max', 'broadcast_maximum': 'max', '_minimum': 'min', 'broadcast_minimum': 'min',
}  # fmt: skip
_NUMPY = {
    'add': np.add, 'sub': np.subtract, 'mul': np.multiply, 'div': np.divide, 'max': np.maximum, 'min': np.minimum,
}  # fmt: skip


class Elementwise(Values):
    """Operators that work on each number by itself, or on pairs of numbers."""

    def step(self, value: Map, *steps: Step) -> Map:
        """Return a map after the given steps of a chain."""
        out = self.result.new_map(value.channels, value.height, value.width)
        return self.result.add(
            Producer('elementwise', [value.tensor], [out.tensor], out=out, chain=list(steps), detail=value)
        )

    def function(self, name: str, one: View, two: Optional[View] = None, a: float = 0.0, b: float = 0.0) -> View:
        """Return a function of one array, or of two that are broadcast together."""
        shape = one.shape if two is None else tuple(np.broadcast_shapes(one.shape, two.shape))
        if len(shape) > 6:
            raise Unsupported(f'an array of {len(shape)} axes')
        out = self.result.new_view(shape)
        shape_ = [int(n) for n in shape]
        places = [broadcast_strides(view, shape_) for view in (one, two) if view is not None]

        def numbers(plan: Any) -> List[int]:
            row = [
                len(shape_),
                *shape_,
                FUNCTIONS.index(name),
                bits(a),
                bits(b),
                0,
                *row_major(shape_),
                plan.tensor(out.tensor),
            ]
            for view, strides in zip((one, two), places):
                row += [view.offset, *strides, plan.tensor(view.tensor)]
            return row

        reads = [one.tensor] + ([] if two is None else [two.tensor])
        operator = Operator('plain', reads, [out.tensor], numbers)
        operator.function = (name, one, two, a, b, out)  # for `fuse`
        self.result.add(operator)
        return out

    def one(
        self, value: Value, steps: Sequence[Step], name: Optional[str] = None, a: float = 0.0, b: float = 0.0
    ) -> Value:
        """Return a function of one value: as steps of a chain on maps, by name on arrays."""
        if isinstance(value, Map):
            return self.step(value, *steps)
        if name is None:
            if len(value.shape) == 4 and value.shape[0] == 1:
                return self.step(self.map(value), *steps)
            raise Unsupported(f'{steps[0].kind} of an array of shape {value.shape}')
        return self.function(name, self.plain(value), a=a, b=b)

    def binary(self, name: str, x: Value, y: Value) -> Value:
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray):
            return _NUMPY[name](x, y).astype(np.float32)
        for one, other in ((x, y), (y, x)):
            if name == 'mul' and isinstance(one, Folded):
                made = self.scaled_groups(one, other)
                if made is not None:
                    return made
        if isinstance(x, Map) or isinstance(y, Map):
            made = self.map_binary(name, x, y)
            if made is not None:
                return made
        return self.function(name, self.plain(x), self.plain(y))

    def map_binary(self, name: str, x: Value, y: Value) -> Optional[Map]:
        """Return a sum or product of a map and something that is broadcast to it; None if there is no such step."""
        if name not in ('add', 'mul', 'sub', 'div'):
            return None
        if name == 'div':
            if not isinstance(y, np.ndarray):
                return None
            return self.map_binary('mul', x, (1.0 / y).astype(np.float32))
        if name == 'sub':
            if isinstance(y, np.ndarray):
                return self.map_binary('add', x, -y)
            if not isinstance(x, Map) and not isinstance(y, Map):
                return None
            negative = (
                self.step(y, Step('mul_number', -1.0)) if isinstance(y, Map) else self.function('affine', y, a=-1.0)
            )
            return self.map_binary('add', x, negative)
        if not isinstance(x, Map):
            x, y = y, x
        assert isinstance(x, Map)
        if isinstance(y, Map) and y.shape != x.shape and x.channels == 1 and x.positions == y.positions:
            x, y = y, x
        return self.joined(name, x, y)

    def joined(self, name: str, x: Map, y: Value) -> Optional[Map]:
        shape = tuple(y.shape)
        shape = (1,) * (4 - len(shape)) + shape if len(shape) <= 4 else shape
        if isinstance(y, np.ndarray):
            if y.size == 1:
                return self.step(x, Step(f'{name}_number', float(y.ravel()[0])))
            if shape == (1, x.channels, 1, 1):
                scale = y.ravel() if name == 'mul' else np.ones(x.channels)
                shift = y.ravel() if name == 'add' else np.zeros(x.channels)
                return self.step(x, Step('affine', np.stack([scale, shift]).astype(np.float32)))
            return self.joined(name, x, self.constant(y))
        if shape == x.shape:
            return self.step(x, Step(f'{name}_map', self.map(y)))
        if shape == (1, x.channels, 1, 1):
            return self.step(
                x,
                Step(
                    f'{name}_channel',
                    self.own(
                        self.plain(y).reshaped(shape)
                        if isinstance(y, View) and y.contiguous
                        else self.contiguous(self.plain(y)).reshaped(shape)
                    ),
                ),
            )
        if shape == (1, 1, x.height, x.width):
            return self.step(x, Step(f'{name}_plane', self.own(self.plain(y))))
        if shape == (1, 1, 1, 1):
            view = self.plain(y)
            wide = View(view.tensor, (1, x.channels, 1, 1), (0, 0, 0, 0), view.offset)
            return self.step(x, Step(f'{name}_channel', self.spread(wide)))
        return None

    def scaled_groups(self, x: Folded, gate: Value) -> Optional[Folded]:
        """Return a map as (G, C / G, H, W) times gates (G, 1, H, W); None for other shapes."""
        whole, L = x.map, self.lanes
        if len(x.shape) != 4 or x.shape[2:] != whole.shape[2:] or tuple(gate.shape) != (x.shape[0], 1, *x.shape[2:]):
            return None
        groups, size = x.shape[:2]
        if whole.channels % L or (size % L and L % size):
            return None
        view, P = self.contiguous(self.plain(gate)), whole.positions
        spread = self.result.new_map(*whole.shape[1:])
        if size % L:  # several groups in a block
            shape, from_, to = (whole.channels // L, L // size, size, P), (L // size * P, P, 0, 1), (P * L, size, 1, L)
        else:
            shape, from_, to = (groups, size // L, L, P), (P, 0, 0, 1), (size // L * P * L, P * L, 1, L)
        self.copy((view.tensor, view.offset, from_), (spread.tensor, 0, to), shape)
        return Folded(self.step(whole, Step('mul_map', spread)), x.shape)

    def spread(self, view: View) -> View:
        made = self.result.new_view(view.shape)
        self.copy((view.tensor, view.offset, view.strides), (made.tensor, 0, made.strides), view.shape)
        return made

    def scalar(self, node: Node, x: Value) -> Value:
        number = float(node.get('scalar', '0'))
        name = node.op.strip('_')[: -len('_scalar')]
        if isinstance(x, np.ndarray):
            table = {
                'plus': x + number, 'minus': x - number, 'rminus': number - x, 'mul': x * number, 'div': x / number,
                'maximum': np.maximum(x, number), 'minimum': np.minimum(x, number),
            }  # fmt: skip
            if name in table:
                return table[name].astype(np.float32)
        elif name in ('plus', 'minus'):
            number = number if name == 'plus' else -number
            return self.one(x, [Step('add_number', number)], 'affine', 1.0, number)
        elif name in ('mul', 'div'):
            number = number if name == 'mul' else 1.0 / number
            return self.one(x, [Step('mul_number', number)], 'affine', number, 0.0)
        elif name == 'rminus':
            return self.one(x, [Step('mul_number', -1.0), Step('add_number', number)], 'affine', -1.0, number)
        elif name == 'maximum':
            return self.one(x, [Step('clip', (number, float('inf')))], 'max_number', number)
        elif name == 'rdiv' and not isinstance(x, Map):
            return self.function('affine', self.function('reciprocal', self.plain(x)), a=number)
        raise Unsupported(f'the operator {node.op} ({node.name})')

    def _do_activation(self, node: Node, x: Value) -> Value:
        kind = node.get('act_type', '')
        if kind not in _ONE:
            raise Unsupported(f'the activation {kind}')
        return self.one(x, [Step(_ONE[kind])], _ONE[kind])

    def _do_relu(self, node: Node, x: Value) -> Value:
        return self.one(x, [Step('relu')], 'relu')

    def _do_sigmoid(self, node: Node, x: Value) -> Value:
        return self.one(x, [Step('sigmoid')], 'sigmoid')

    def _do_tanh(self, node: Node, x: Value) -> Value:
        return self.one(x, [Step('tanh')], 'tanh')

    def _do_hard_sigmoid(self, node: Node, x: Value) -> Value:
        alpha, beta = float(node.get('alpha', '0.2')), float(node.get('beta', '0.5'))
        if not isinstance(x, Map):
            return self.function('clip', self.function('affine', self.plain(x), a=alpha, b=beta), a=0.0, b=1.0)
        return self.step(x, Step('mul_number', alpha), Step('add_number', beta), Step('clip', (0.0, 1.0)))

    def _do_negative(self, node: Node, x: Value) -> Value:
        return self.one(x, [Step('mul_number', -1.0)], 'affine', -1.0, 0.0)

    def _do_clip(self, node: Node, x: Value) -> Value:
        low, high = float(node.get('a_min', '0')), float(node.get('a_max', '0'))
        return self.one(x, [Step('clip', (low, high))], 'clip', low, high)

    def _do_leakyrelu(self, node: Node, x: Value, gamma: Optional[np.ndarray] = None) -> Value:
        kind = node.get('act_type', 'leaky')
        channels = x.shape[1]
        if kind == 'leaky':
            step = Step('leaky', np.full(channels, float(node.get('slope', '0.25')), np.float32))
        elif kind == 'prelu':
            step = Step('leaky', np.broadcast_to(gamma.ravel(), (channels,)).astype(np.float32))
        elif kind == 'elu':
            step = Step('elu', float(node.get('slope', '0.25')))
        elif kind in ('selu', 'gelu'):
            step = Step(kind)
        else:
            raise Unsupported(f'the activation {kind}')
        return self.one(x, [step])

    def _do_square(self, node: Node, x: Value) -> Value:
        return np.square(x) if isinstance(x, np.ndarray) else self.one(x, [Step('square')], 'square')

    def _do_sqrt(self, node: Node, x: Value) -> Value:
        return np.sqrt(x) if isinstance(x, np.ndarray) else self.function('sqrt', self.plain(x))

    def _do_rsqrt(self, node: Node, x: Value) -> Value:
        return 1 / np.sqrt(x) if isinstance(x, np.ndarray) else self.function('rsqrt', self.plain(x))

    def _do_exp(self, node: Node, x: Value) -> Value:
        return np.exp(x) if isinstance(x, np.ndarray) else self.function('exp', self.plain(x))

    def _do_batchnorm(self, node: Node, x: Value, *statistics: np.ndarray) -> Value:
        from inference.optimization.fold import affine_of

        scale, shift = affine_of(self.graph, node)
        if isinstance(x, Map):
            return self.step(x, Step('affine', np.stack([scale, shift]).astype(np.float32)))
        shape = (1, -1) + (1,) * (len(x.shape) - 2)
        scaled = self.function('mul', self.plain(x), self.constant(scale.reshape(shape)))
        return self.function('add', scaled, self.constant(shift.reshape(shape)))

    def _do_ones_like(self, node: Node, x: Value) -> Value:
        return np.ones(x.shape, np.float32)

    def _do_zeros_like(self, node: Node, x: Value) -> Value:
        return np.zeros(x.shape, np.float32)
