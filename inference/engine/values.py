"""Values in a graph being lowered: feature maps, arrays and constants, and conversions between them."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from inference.engine.operators import Folded, Map, Operator, Tensor, View, row_major
from inference.graph import Graph, Out

__all__ = ['Lowered', 'Unsupported', 'Value', 'Values', 'broadcast_strides']

Value = Union[Map, Folded, View, np.ndarray]


class Unsupported(ValueError):
    """A graph contains something that the engine does not know."""


class Lowered:
    """Operators in an order in which they can run, with the tensors of image and answer.

    ``rewrites`` are applied to them after fusion.
    """

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        self.operators: List[Operator] = []
        self.rewrites: List[Callable[[Lowered], None]] = []
        self.input: Optional[View] = None
        self.output: Optional[View] = None

    def padded(self, channels: int) -> int:
        return -(-channels // self.lanes) * self.lanes

    def new_map(self, channels: int, height: int, width: int) -> Map:
        return Map(Tensor(self.padded(channels) * height * width), channels, height, width)

    def new_view(self, shape: Sequence[int]) -> View:
        """Return a new array, with room for whole vectors of lanes and some padding."""
        return View.whole(Tensor(self.padded(int(np.prod(shape, dtype=np.int64)))), shape)

    def add(self, operator: Operator) -> Any:
        self.operators.append(operator)
        return getattr(operator, 'out', None)


class Values:
    """The values of a graph being lowered, and the operators that convert one form into another."""

    def __init__(self, graph: Graph, shapes: Dict[Tuple[int, int], Tuple[int, ...]], lanes: int) -> None:
        self.graph, self.shapes, self.lanes = graph, shapes, lanes
        self.result = Lowered(lanes)
        self.values: Dict[Tuple[int, int], Value] = {}
        self.means: Dict[int, View] = {}  # of the tensors of maps
        self.plains: Dict[int, View] = {}

    def value(self, out: Out) -> Value:
        return self.values[id(out.node), out.index]

    def constant(self, array: np.ndarray, channels: bool = False) -> View:
        """Return a constant as a tensor, for operators that only read tensors."""
        array = np.ascontiguousarray(array, np.float32)
        view = self.result.new_view(array.shape)

        def numbers(plan: Any) -> List[int]:
            padded = np.zeros(view.tensor.size, np.float32)
            padded[: array.size] = array.ravel()
            return [padded.size, plan.tensor(view.tensor), plan.weights(padded)]

        self.result.add(Operator('constant', [], [view.tensor], numbers))
        return view

    def copy(
        self, from_: Tuple[Tensor, int, Sequence[int]], to: Tuple[Tensor, int, Sequence[int]], shape: Sequence[int]
    ) -> None:
        """Copy an array: both sides are a tensor, an offset and strides."""
        shape = [int(n) for n in shape]
        shape, from_strides, to_strides = _merged(shape, list(from_[2]), list(to[2]))

        def numbers(plan: Any) -> List[int]:
            return [
                len(shape), *shape,
                to[1], *to_strides, plan.tensor(to[0]),
                from_[1], *from_strides, plan.tensor(from_[0]),
            ]  # fmt: skip

        # A tensor written in parts is read as well, so that its lifetime begins with the first part.
        self.result.add(Operator('copy', [from_[0]], [to[0]], numbers))

    def plain(self, value: Value) -> View:
        """Return the value as an array in plain order."""
        if isinstance(value, View):
            return value
        if isinstance(value, np.ndarray):
            return self.constant(value)
        if isinstance(value, Folded):
            return self.plain(value.map).reshaped(value.shape)
        known = self.plains.get(id(value.tensor))
        if known is not None:
            return known
        view = self.result.new_view(value.shape)
        self.unblock(value, view.tensor, 0)
        self.plains[id(value.tensor)] = view
        return view

    def unblock(self, value: Map, tensor: Tensor, offset: int) -> None:
        """Copy a map in plain order to a place in a tensor."""
        L, P = self.lanes, value.positions
        whole, rest = divmod(value.channels, L)
        if whole:
            self.copy((value.tensor, 0, (P * L, 1, L)), (tensor, offset, (L * P, P, 1)), (whole, L, P))
        if rest:
            at = whole * L * P
            self.copy((value.tensor, at, (1, L)), (tensor, offset + at, (P, 1)), (rest, P))

    def in_a_row(self, values: Sequence[Value]) -> View:
        """Return the values concatenated, (1, all their numbers)."""
        sizes = [int(np.prod(value.shape, dtype=np.int64)) for value in values]
        out, at = self.result.new_view((1, sum(sizes))), 0
        for value, size in zip(values, sizes):
            whole = value.map if isinstance(value, Folded) else value
            if isinstance(whole, Map) and id(whole.tensor) not in self.plains:
                self.unblock(whole, out.tensor, at)
            else:
                view = self.plain(value)
                to = (out.tensor, at, row_major(view.shape))
                self.copy((view.tensor, view.offset, view.strides), to, view.shape)
            at += size
        return out

    def map(self, value: Value) -> Map:
        """Return the value, (1, C, H, W), as a map."""
        if isinstance(value, Map):
            return value
        view = self.plain(value)
        if len(view.shape) != 4 or view.shape[0] != 1:
            raise Unsupported(f'a map of shape {view.shape}')
        _, channels, height, width = view.shape
        made = self.result.new_map(channels, height, width)
        L, P = self.lanes, height * width
        whole, rest = divmod(channels, L)
        sc, sh, sw = view.strides[1:]
        if rest:
            zeros = np.zeros(made.tensor.size, np.float32)

            def numbers(plan: Any) -> List[int]:
                return [zeros.size, plan.tensor(made.tensor), plan.weights(zeros)]

            self.result.add(Operator('constant', [], [made.tensor], numbers))
        if whole:
            self.copy(
                (view.tensor, view.offset, (L * sc, sc, sh, sw)),
                (made.tensor, 0, (P * L, 1, width * L, L)),
                (whole, L, height, width),
            )
        if rest:
            self.copy(
                (view.tensor, view.offset + whole * L * sc, (sc, sh, sw)),
                (made.tensor, whole * P * L, (1, width * L, L)),
                (rest, height, width),
            )
        return made

    def contiguous(self, view: View) -> View:
        if view.contiguous:
            return view
        made = self.result.new_view(view.shape)
        self.copy((view.tensor, view.offset, view.strides), (made.tensor, 0, made.strides), view.shape)
        return made

    def own(self, view: View) -> View:
        """Return the view as a whole tensor of its own, at offset 0."""
        if view.contiguous and view.offset == 0 and view.tensor.size >= self.result.padded(view.size):
            return view
        made = self.result.new_view(view.shape)
        self.copy((view.tensor, view.offset, view.strides), (made.tensor, 0, made.strides), view.shape)
        return made


def broadcast_strides(view: View, shape: Sequence[int]) -> List[int]:
    """Return the strides of a view within a larger shape: 0 where it is broadcast."""
    missing = len(shape) - len(view.shape)
    return [0] * missing + [
        0 if n == 1 and wanted != 1 else s for n, s, wanted in zip(view.shape, view.strides, shape[missing:])
    ]


def _merged(shape: List[int], one: List[int], two: List[int]) -> Tuple[List[int], List[int], List[int]]:
    """Return the same loop with as few axes as its strides allow."""
    axes = [(n, a, b) for n, a, b in zip(shape, one, two) if n != 1] or [(1, 1, 1)]
    merged = [axes[0]]
    for n, a, b in axes[1:]:
        m, c, d = merged[-1]
        if c == a * n and d == b * n:
            merged[-1] = (m * n, a, b)
        else:
            merged.append((n, a, b))
    if len(merged) > 6:
        raise Unsupported(f'an array of {len(merged)} axes')
    return [m[0] for m in merged], [m[1] for m in merged], [m[2] for m in merged]
