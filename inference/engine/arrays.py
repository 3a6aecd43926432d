"""Reshape, slice and join arrays: as views where possible, as copies elsewhere."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from inference.engine.operators import Folded, Map, View, row_major
from inference.engine.reductions import Reductions
from inference.engine.values import Unsupported, Value, broadcast_strides
from inference.graph import Node

__all__ = ['Arrays']


class Arrays(Reductions):
    """Operators that move numbers without changing them."""

    def _reshaped(self, node: Node, x: Value) -> Value:
        shape = tuple(int(n) for n in self.shapes[id(node), 0])
        if isinstance(x, np.ndarray):
            return x.reshape(shape)
        whole = x.map if isinstance(x, Folded) else x
        if isinstance(whole, Map):
            return whole if shape == whole.shape else Folded(whole, shape)
        return self.contiguous(self.plain(x)).reshaped(shape)

    def _do_reshape(self, node: Node, x: Value) -> Value:
        return self._reshaped(node, x)

    def _do_flatten(self, node: Node, x: Value) -> Value:
        return self._reshaped(node, x)

    def _do_expand_dims(self, node: Node, x: Value) -> Value:
        return self._reshaped(node, x)

    def _do_squeeze(self, node: Node, x: Value) -> Value:
        return self._reshaped(node, x)

    def _do_reshape_like(self, node: Node, x: Value, like: Value) -> Value:
        return self._reshaped(node, x)

    def _do_broadcast_like(self, node: Node, x: Value, like: Value) -> Value:
        shape = self.shapes[id(node), 0]
        if isinstance(x, np.ndarray):
            return np.ascontiguousarray(np.broadcast_to(x, shape))
        view = self.plain(x)
        return View(view.tensor, tuple(shape), tuple(broadcast_strides(view, shape)), view.offset)

    def _do_transpose(self, node: Node, x: Value) -> Value:
        axes = node.numbers('axes', '') or tuple(reversed(range(len(x.shape))))
        if isinstance(x, np.ndarray):
            return x.transpose(axes)
        view = self.plain(x)
        return View(view.tensor, tuple(view.shape[a] for a in axes), tuple(view.strides[a] for a in axes), view.offset)

    def _do_slicechannel(self, node: Node, x: Value) -> Value:
        count, axis = int(node.get('num_outputs', '1')), int(node.get('axis', '1'))
        axis %= len(x.shape)
        size = x.shape[axis] // count
        made = [self._cut(x, axis, k * size, (k + 1) * size) for k in range(count)]
        if node.true('squeeze_axis'):
            made = [self._without(one, axis) for one in made]
        return made

    def _without(self, x: Value, axis: int) -> Value:
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        if isinstance(x, np.ndarray):
            return x.reshape(shape)
        return View(x.tensor, shape, (*x.strides[:axis], *x.strides[axis + 1 :]), x.offset)

    def _cut(self, x: Value, axis: int, begin: int, end: int) -> Value:
        if isinstance(x, np.ndarray):
            return x[(slice(None),) * axis + (slice(begin, end),)]
        if isinstance(x, Map) and axis == 0 and (begin, end) == (0, 1):
            return x
        view = self.plain(x)
        shape = (*view.shape[:axis], end - begin, *view.shape[axis + 1 :])
        return View(view.tensor, shape, view.strides, view.offset + begin * view.strides[axis])

    def _do_slice_axis(self, node: Node, x: Value) -> Value:
        axis = int(node.get('axis', '0')) % len(x.shape)
        end = node.get('end', 'None')
        size = x.shape[axis]
        begin, end = int(node.get('begin', '0')), size if end == 'None' else int(end)
        return self._cut(x, axis, begin % size if begin < 0 else begin, end % size if end < 0 else end)

    def _do_slice_like(self, node: Node, x: Value, like: Value) -> Value:
        for axis in node.numbers('axes', '') or range(len(x.shape)):
            axis %= len(x.shape)
            if like.shape[axis] < x.shape[axis]:
                x = self._cut(x, axis, 0, int(like.shape[axis]))
        return x

    def _do_upsampling(self, node: Node, *parts: Value) -> Value:
        scale = int(node.get('scale', '1'))
        if node.get('sample_type', '') != 'nearest' or len(parts) != 1:
            raise Unsupported(f'up-sampling other than nearest ({node.name})')
        x = self.map(parts[0])
        made = self.result.new_map(x.channels, x.height * scale, x.width * scale)
        L, row = self.lanes, x.width * self.lanes
        shape = (self.result.padded(x.channels) // L, x.height, scale, x.width, scale, L)
        self.copy((x.tensor, 0, (x.height * row, row, 0, L, 0, 1)), (made.tensor, 0, row_major(shape)), shape)
        return made

    def _do_reverse(self, node: Node, x: Value) -> Value:
        axes = {axis % len(x.shape) for axis in node.numbers('axis', '')}
        if isinstance(x, np.ndarray):
            return np.flip(x, tuple(axes))
        view = self.plain(x)
        strides = [-step if axis in axes else step for axis, step in enumerate(view.strides)]
        offset = view.offset + sum((view.shape[axis] - 1) * view.strides[axis] for axis in axes)
        return View(view.tensor, view.shape, tuple(strides), offset)

    def _do_concat(self, node: Node, *parts: Value) -> Value:
        axis = int(node.get('dim', '1'))
        return self._joined(parts, axis, self.shapes[id(node), 0])

    def _do_stack(self, node: Node, *parts: Value) -> Value:
        shape = self.shapes[id(node), 0]
        axis = int(node.get('axis', '0')) % len(shape)
        wide = []
        for part in parts:
            view = self.plain(part)
            wide.append(
                View(
                    view.tensor,
                    (*view.shape[:axis], 1, *view.shape[axis:]),
                    (*view.strides[:axis], 0, *view.strides[axis:]),
                    view.offset,
                )
            )
        return self._joined(wide, axis, shape)

    def _joined(self, parts: Sequence[Value], axis: int, shape: Sequence[int]) -> Value:
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts, axis=axis)
        if all(int(n) == 1 for n in shape[:axis]) and any(isinstance(part, (Map, Folded)) for part in parts):
            return self.in_a_row(parts).reshaped(tuple(int(n) for n in shape))
        views = [self.plain(part) for part in parts]
        first = views[0]
        if axis == 1 and len(views) == 2 and all(v.tensor is first.tensor and v.contiguous for v in views):
            if views[1].offset == first.offset + first.size:  # the two halves of one array
                return View(first.tensor, tuple(shape), row_major(shape), first.offset)
        out = self.result.new_view(shape)
        at = 0
        for view in views:
            self.copy(
                (view.tensor, view.offset, view.strides), (out.tensor, at * out.strides[axis], out.strides), view.shape
            )
            at += view.shape[axis]
        return out
