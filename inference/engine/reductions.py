"""Pooling, means and maxima, softmax, norms and products of matrices."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from inference.engine.layers import Layers
from inference.engine.operators import Folded, Map, Operator, Step, Tensor, View, bits, row_major
from inference.engine.values import Unsupported, Value
from inference.graph import Node

__all__ = ['Reductions']


class Reductions(Layers):
    """Operators that reduce many numbers to fewer."""

    def pooled(self, x: Map, maximum: bool) -> View:
        """Return the mean, or maximum, over space of each channel: (1, C, 1, 1)."""
        known = self.means.get((id(x.tensor), maximum))
        if known is not None:
            return known
        padded = self.result.padded(x.channels)
        made = View.whole(Tensor(padded), (1, x.channels, 1, 1))
        operator = Operator('join', [x.tensor], [made.tensor])
        operator.pool = (x, maximum, made)  # `fuse` gives it the sums of what makes the map
        self.result.add(operator)
        self.means[id(x.tensor), maximum] = made
        return made

    def _do_pooling(self, node: Node, x: Value) -> Value:
        kind = node.get('pool_type', 'max')
        if kind not in ('max', 'avg'):
            raise Unsupported(f'{kind} pooling')
        if node.true('global_pool'):
            if isinstance(x, View) and x.shape[2:] == (1, 1):
                return x
            if isinstance(x, View):
                flat = self.contiguous(x).reshaped((x.shape[1], x.shape[2] * x.shape[3]))
                return self.along(flat, 1, 3 if kind == 'max' else 2, (1, x.shape[1], 1, 1))
            return self.pooled(x, kind == 'max')
        x = self.map(x)
        kernel = node.numbers('kernel', '')
        stride = node.numbers('stride', '') or (1, 1)
        pad = node.numbers('pad', '') or (0, 0)
        oh, ow = self.shapes[id(node), 0][2:]
        how = 0 if kind == 'max' else 2 if node.true('count_include_pad', True) else 1
        out = self.result.new_map(x.channels, oh, ow)
        blocks = self.result.padded(x.channels) // self.lanes

        def numbers(plan: Any) -> List[int]:
            return [
                blocks, x.height, x.width, *kernel, *stride, *pad, oh, ow, how, plan.tensor(x.tensor),
                plan.tensor(out.tensor),
            ]  # fmt: skip

        operator = Operator('pool', [x.tensor], [out.tensor], numbers)
        operator.window = (how, x, out, (*kernel, *stride, *pad))  # for `narrow`
        self.result.add(operator)
        return out

    def _do_contrib_adaptiveavgpooling2d(self, node: Node, x: Value) -> Value:
        if (node.numbers('output_size', '1') or (1,))[0] != 1:
            raise Unsupported('adaptive pooling to more than one position')
        return self.pooled(self.map(x), False)

    def _do_contrib_bilinearresize2d(self, node: Node, x: Value, like: Any = None) -> Value:
        if not node.true('align_corners', True):
            raise Unsupported('scaling without aligned corners')
        x = self.map(x)
        oh, ow = self.shapes[id(node), 0][2:]
        out = self.result.new_map(x.channels, oh, ow)
        blocks = self.result.padded(x.channels) // self.lanes

        def numbers(plan: Any) -> List[int]:
            return [blocks, x.height, x.width, oh, ow, plan.tensor(x.tensor), plan.tensor(out.tensor)]

        operator = Operator('resize', [x.tensor], [out.tensor], numbers)
        operator.maps = (x, out)  # for `narrow`
        self.result.add(operator)
        return out

    def along(self, view: View, axis: int, how: int, shape: Sequence[int]) -> View:
        """Return the softmax (0), sum (1), mean (2) or maximum (3) along an axis of an array.

        The result has ``shape``.
        """
        view = self.own(self.contiguous(view))
        rows, length = int(np.prod(view.shape[:axis], dtype=np.int64)), int(view.shape[axis])
        stride = int(np.prod(view.shape[axis + 1 :], dtype=np.int64))
        out = self.result.new_view(shape)

        def numbers(plan: Any) -> List[int]:
            return [rows, length, stride, how, plan.tensor(view.tensor), plan.tensor(out.tensor)]

        self.result.add(Operator('along', [view.tensor], [out.tensor], numbers))
        return out

    def _do_softmax(self, node: Node, x: Value) -> Value:
        if node.get('temperature', 'None') not in ('None', '1.0', '1'):
            raise Unsupported('a softmax with a temperature')
        view = self.contiguous(self.plain(x))
        axis = int(node.get('axis', '-1')) % len(view.shape)
        return self.along(view, axis, 0, view.shape)

    def _reduce(self, node: Node, x: Value, how: int) -> Value:
        axes = node.numbers('axis', '') or tuple(range(len(x.shape)))
        if node.true('exclude'):
            raise Unsupported(f'{node.op} with exclude')
        axes = sorted(axis % len(x.shape) for axis in axes)
        if isinstance(x, np.ndarray):
            function = {1: np.sum, 2: np.mean, 3: np.max}[how]
            out = function(x, axis=tuple(axes), keepdims=node.true('keepdims'))
            return np.asarray(out, np.float32).reshape(self.shapes[id(node), 0])
        if isinstance(x, Map) and axes == [1] and how in (2, 3) and node.true('keepdims'):
            planes = self.over_channels(x)
            at = 0 if how == 3 else x.positions
            return View(planes.tensor, (1, 1, x.height, x.width), row_major((1, 1, x.height, x.width)), at)
        if isinstance(x, Map) and axes == [2, 3] and how in (2, 3):
            return self.pooled(x, how == 3).reshaped(self.shapes[id(node), 0])
        view = self.contiguous(self.plain(x))
        if axes != list(range(axes[0], axes[-1] + 1)):
            raise Unsupported(f'{node.op} over the axes {axes}')
        length = int(np.prod(view.shape[axes[0] : axes[-1] + 1]))
        merged = view.reshaped((*view.shape[: axes[0]], length, *view.shape[axes[-1] + 1 :]))
        return self.along(merged, axes[0], how, self.shapes[id(node), 0] or (1,))

    def _do_sum(self, node: Node, x: Value) -> Value:
        return self._reduce(node, x, 1)

    def _do_mean(self, node: Node, x: Value) -> Value:
        return self._reduce(node, x, 2)

    def _do_max(self, node: Node, x: Value) -> Value:
        return self._reduce(node, x, 3)

    def over_channels(self, x: Map) -> View:
        """Return the maximum and the mean over channels: (1, 2, H, W)."""
        known = self.means.get((id(x.tensor), 'channels'))
        if known is not None:
            return known
        out = self.result.new_view((1, 2, x.height, x.width))

        def numbers(plan: Any) -> List[int]:
            return [x.channels, x.positions, min(8, x.positions), plan.tensor(x.tensor), plan.tensor(out.tensor)]

        self.result.add(Operator('over_channels', [x.tensor], [out.tensor], numbers))
        self.means[id(x.tensor), 'channels'] = out
        return out

    def _do_layernorm(self, node: Node, x: Value, gamma: np.ndarray, beta: np.ndarray) -> Value:
        view = self.own(self.contiguous(self.plain(x)))
        if int(node.get('axis', '-1')) % len(view.shape) != len(view.shape) - 1:
            raise Unsupported('a layer norm along another axis than the last')
        rows, length = view.size // view.shape[-1], int(view.shape[-1])
        out = self.result.new_view(view.shape)
        epsilon = float(node.get('eps', '1e-5'))

        def numbers(plan: Any) -> List[int]:
            return [
                rows, length, bits(epsilon), plan.tensor(view.tensor), plan.tensor(out.tensor), plan.weights(gamma),
                plan.weights(beta),
            ]  # fmt: skip

        self.result.add(Operator('layer_norm', [view.tensor], [out.tensor], numbers))
        return out

    def _do_groupnorm(self, node: Node, x: Value, gamma: Value, beta: Value) -> Value:
        if not isinstance(gamma, np.ndarray) or not isinstance(beta, np.ndarray):
            raise Unsupported(f'a group norm with a computed scale ({node.name})')
        if not isinstance(x, Map):  # of a vector, say
            view = self.contiguous(self.plain(x))
            channels = view.shape[1]
            whole = self.map(view.reshaped((1, channels, 1, view.size // channels)))
        else:
            whole = x
        groups = int(node.get('num_groups', '1'))
        scale, shift = (self.result.new_view((1, whole.channels, 1, 1)) for _ in range(2))
        epsilon = float(node.get('eps', '1e-5'))

        def numbers(plan: Any) -> List[int]:
            return [
                whole.channels, groups, whole.positions, bits(epsilon), plan.tensor(whole.tensor),
                plan.tensor(scale.tensor), plan.tensor(shift.tensor),
            ]  # fmt: skip

        self.result.add(Operator('group_norm', [whole.tensor], [scale.tensor, shift.tensor], numbers))
        # MXNet's scale and shift are one number for each group.
        each = [np.repeat(values.ravel(), whole.channels // values.size) for values in (gamma, beta)]
        normed = self.step(
            whole, Step('mul_channel', scale), Step('add_channel', shift), Step('affine', np.stack(each))
        )
        return normed if isinstance(x, Map) else self.plain(normed).reshaped(x.shape)

    def _do_batch_dot(self, node: Node, x: Value, y: Value) -> Value:
        shape = self.shapes[id(node), 0]
        made = self.map_products(node, x, y, shape)
        if made is not None:
            return made
        x, y = self.plain(x), self.plain(y)
        if node.true('transpose_a'):
            x = _turned(x)
        if node.true('transpose_b'):
            y = _turned(y)
        out = self.result.new_view(shape)
        counts = [int(n) for n in (*shape, x.shape[-1])]

        def numbers(plan: Any) -> List[int]:
            return [
                *counts,
                0, *out.strides, plan.tensor(out.tensor),
                x.offset, *x.strides, plan.tensor(x.tensor),
                y.offset, *y.strides, plan.tensor(y.tensor),
            ]  # fmt: skip

        self.result.add(Operator('products', [x.tensor, y.tensor], [out.tensor], numbers))
        return out

    def map_products(self, node: Node, x: Value, y: Value, shape: Sequence[int]) -> Optional[View]:
        """Return products with a map in other shapes: GC's weighted means, and the importance maps of SGE."""
        a, b = node.true('transpose_a'), node.true('transpose_b')
        if isinstance(x, Folded) and b and not a:
            whole = x.map
            if x.shape == (1, whole.channels, whole.positions) and tuple(y.shape) == (1, 1, whole.positions):
                by = self.own(self.contiguous(self.plain(y)))
                out = View.whole(Tensor(self.result.padded(whole.channels)), tuple(shape))

                def numbers(plan: Any) -> List[int]:
                    return [
                        whole.channels, whole.positions, plan.tensor(whole.tensor), plan.tensor(by.tensor),
                        plan.tensor(out.tensor),
                    ]  # fmt: skip

                self.result.add(Operator('weighted', [whole.tensor, by.tensor], [out.tensor], numbers))
                return out
        if isinstance(y, Folded) and a and not b:
            whole, groups = y.map, y.shape[0]
            size = whole.channels // groups
            if y.shape == (groups, size, whole.positions) and tuple(x.shape) == (groups, size, 1):
                vector = self.own(self.contiguous(self.plain(x)))
                made = self.result.new_view(shape)

                def numbers(plan: Any) -> List[int]:
                    return [
                        whole.channels, groups, whole.positions, min(8, whole.positions), plan.tensor(whole.tensor),
                        plan.tensor(vector.tensor), plan.tensor(made.tensor),
                    ]  # fmt: skip

                self.result.add(Operator('group_dot', [whole.tensor, vector.tensor], [made.tensor], numbers))
                return made
        return None


def _turned(view: View) -> View:
    """Return the view with its last two axes exchanged."""
    (*lead, a, b), (*steps, s, t) = view.shape, view.strides
    return View(view.tensor, (*lead, b, a), (*steps, t, s), view.offset)
