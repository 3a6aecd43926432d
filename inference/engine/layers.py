"""Convolutions and dense layers."""

from __future__ import annotations

from typing import Any, List, Optional, Sequence

import numpy as np

from inference.engine.elementwise import Elementwise
from inference.engine.operators import Operator, Producer, Tensor, View
from inference.engine.values import Unsupported, Value
from inference.graph import Node

__all__ = ['Layers']


class Layers(Elementwise):
    """Operators with weights."""

    def _do_convolution(self, node: Node, x: Value, weight: Value, bias: Optional[Value] = None) -> Value:
        if not isinstance(weight, np.ndarray) or not (bias is None or isinstance(bias, np.ndarray)):
            raise Unsupported(f'a convolution with computed weights ({node.name})')
        out_shape = self.shapes[id(node), 0]
        if weight.ndim == 3:  # along one axis
            weight = weight[:, :, None, :]
        rank = len(x.shape) - 2
        stride, dilation, pad = (
            (default,) * (2 - rank) + (node.numbers(key, '') or (default,) * rank)
            for key, default in (('stride', 1), ('dilate', 1), ('pad', 0))
        )
        groups = int(node.get('num_group', '1'))
        bias = np.zeros(len(weight), np.float32) if bias is None else bias
        view = x if isinstance(x, View) else None
        channels = x.shape[1]
        if view is not None and groups == 1 and stride == (1, 1) and dilation == (1, 1):
            kernel = weight.shape[2:]
            if x.shape[2:] == (1, 1) and kernel == (1, 1) and pad == (0, 0):
                flat = self.contiguous(view).reshaped((1, channels))
                return self.dense(flat, weight[:, :, 0, 0], bias).reshaped(out_shape)
            odd = all(k % 2 and p == k // 2 for k, p in zip(kernel, pad))
            if odd and channels <= 64 and len(weight) <= 8 and view is not self.result.input:
                return self.planes(self.own(view), weight, bias, out_shape)
        if rank != 2:
            raise Unsupported(f'a convolution along one axis ({node.name})')
        if stride[0] != stride[1] or dilation[0] != dilation[1]:
            raise Unsupported(f'a convolution with stride {stride} and dilation {dilation} ({node.name})')
        out = self.result.new_map(*out_shape[1:])
        detail = {
            'weight': weight,
            'bias': bias,
            'stride': stride[0],
            'dilation': dilation[0],
            'pad': pad,
            'groups': groups,
            'x': x,
            'method': None,
        }
        if (
            view is not None
            and channels <= 4
            and groups == 1
            and dilation == (1, 1)
            and pad[0] == pad[1]
            and weight.shape[2] == weight.shape[3]
        ):
            image = self.own(view)
            detail['x'] = image
            return self.result.add(Producer('stem', [image.tensor], [out.tensor], out=out, detail=detail))
        x = detail['x'] = self.map(x)
        depthwise = groups == channels == len(weight)
        kind = 'depthwise' if depthwise else 'convolution'
        return self.result.add(Producer(kind, [x.tensor], [out.tensor], out=out, detail=detail))

    def planes(self, view: View, weight: np.ndarray, bias: np.ndarray, out_shape: Sequence[int]) -> View:
        out = self.result.new_view(out_shape)
        shape4 = (
            (1,) * (4 - len(view.shape)) + view.shape if len(view.shape) == 4 else (1, view.shape[1], 1, view.shape[2])
        )
        _, channels, height, width = shape4
        count, _, kernel_h, kernel_w = weight.shape

        def numbers(plan: Any) -> List[int]:
            return [
                channels, count, height, width, kernel_h, kernel_w, min(4, height), plan.tensor(view.tensor),
                plan.tensor(out.tensor), plan.weights(weight), plan.weights(bias),
            ]  # fmt: skip

        self.result.add(Operator('planes', [view.tensor], [out.tensor], numbers))
        return out

    def dense(self, x: View, weight: np.ndarray, bias: np.ndarray) -> View:
        """Return a dense layer on (rows, inputs), where rows are a fixed stride apart."""
        rows, inputs = (int(n) for n in x.shape)
        outputs = len(weight)
        if x.strides[1] != 1 and inputs > 1:
            x = self.contiguous(x)
        padded = self.result.padded(outputs)
        tensor = Tensor(rows * padded)
        out = View(tensor, (rows, outputs), (padded, 1))
        detail = {
            'weight': weight,
            'bias': bias,
            'x': x,
            'rows': rows,
            'inputs': inputs,
            'pitch': x.strides[0] if rows > 1 else inputs,
            'offset': x.offset,
        }
        if x.offset:
            x = self.own(self.contiguous(x))
            detail.update(x=x, pitch=inputs, offset=0)
        return self.result.add(Producer('dense', [x.tensor], [tensor], out=out, detail=detail))

    def _do_fullyconnected(self, node: Node, x: Value, weight: np.ndarray, bias: Optional[np.ndarray] = None) -> Value:
        if not isinstance(weight, np.ndarray):
            raise Unsupported(f'a dense layer with computed weights ({node.name})')
        view = self.plain(x)
        if node.true('flatten', True):
            view = self.contiguous(view).reshaped((view.shape[0], int(np.prod(view.shape[1:]))))
            shape = None
        else:
            shape = self.shapes[id(node), 0]
            view = self.contiguous(view).reshaped((int(np.prod(view.shape[:-1])), view.shape[-1]))
        bias = np.zeros(len(weight), np.float32) if bias is None else bias
        out = self.dense(view, weight, bias)
        return out if shape is None else self.contiguous(out).reshaped(shape)
