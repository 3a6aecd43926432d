"""Reduce a graph to operators that all readers of ONNX support: shapes as numbers, constants computed, nothing exotic.

All sizes except the number of images are known when a file is written. What a graph computes from its own shapes, so as
to serve any size, becomes constant then, because readers other than ONNX Runtime often do not support it.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Set, Tuple

import mxnet as mx
import numpy as np

from inference.graph import Graph, Node, Out

__all__ = ['ANY', 'Shape', 'Shapes', 'plain_operators', 'shapes_of']

#: In a shape: an extent that depends on the number of images.
ANY = -1
Shape = Tuple[int, ...]
Shapes = Dict[Tuple[int, int], Shape]


def _named_apart(graph: Graph) -> None:
    """Give each node a unique name: a block that is called twice has two nodes of the same name."""
    taken: Set[str] = {node.name for node in graph.nodes() if node.op == 'null'}
    for node in graph.nodes():
        if node.op == 'null':
            continue
        name, number = node.name, 1
        while name in taken:
            name, number = f'{node.name}_{number}', number + 1
        taken.add(name)
        node.name = name


def _internal_shapes(graph: Graph, inputs: Mapping[str, Shape]) -> Dict[str, Shape]:
    internals = graph.symbol().get_internals()
    given = {**{name: value.shape for name, value in graph.params.items()}, **inputs}
    known = set(internals.list_inputs())
    _, shapes, _ = internals.infer_shape(**{name: shape for name, shape in given.items() if name in known})
    return dict(zip(internals.list_outputs(), shapes))


def shapes_of(graph: Graph, inputs: Mapping[str, Shape]) -> Shapes:
    """Return the shape of each output, by the node's id and the output's number, ``ANY`` for what varies with N.

    ``inputs`` are the shapes of the inputs without their first extent, which is N. Names are made unique on the way.
    """
    _named_apart(graph)
    few, many = (_internal_shapes(graph, {name: (n, *rest) for name, rest in inputs.items()}) for n in (2, 3))
    shapes: Shapes = {}
    for node in graph.nodes():
        names = [node.name] if node.op == 'null' else [f'{node.name}_output']
        if names[0] not in few:
            names = [f'{node.name}_output{index}' for index in range(64) if f'{node.name}_output{index}' in few]
        for index, name in enumerate(names):
            sides = zip(few[name], many[name])
            shapes[id(node), index] = tuple(one if one == other else ANY for one, other in sides)
    return shapes


def _computed(node: Node, values: Sequence[np.ndarray]) -> Optional[np.ndarray]:
    """Return the result of a node with one output for constants; None if MXNet cannot compute it."""
    names = [f'constant{place}' for place in range(len(values))]
    alone = Node(node.op, 'constant', [Out(Node('null', name)) for name in names], node.attrs)
    symbol = Graph([Out(alone)], {}).symbol()
    given = {name: mx.nd.array(value, dtype=value.dtype) for name, value in zip(names, values)}
    try:
        return mx.nd.CachedOp(symbol)(*(given[name] for name in symbol.list_inputs())).asnumpy()
    except mx.MXNetError:
        return None


_FILLED = {'ones_like': np.ones, 'zeros_like': np.zeros}
_RESHAPED = ('Reshape', 'reshape', 'reshape_like')
# What is cheap to compute, and worth knowing.
_NOT_FOLDED = ('null', 'Convolution', 'Deconvolution', 'FullyConnected', 'BatchNorm', 'Dropout', 'SliceChannel', 'RNN')


class _Plain:
    def __init__(self, graph: Graph, shapes: Shapes) -> None:
        self.graph, self.shapes = graph, shapes
        self.changes: Dict[int, Out] = {}

    def shape(self, out: Out) -> Shape:
        return self.shapes[id(out.node), out.index]

    def replace(self, node: Node, out: Out) -> None:
        self.changes[id(node)] = out
        self.shapes.setdefault((id(out.node), out.index), self.shapes[id(node), 0])

    def current(self, out: Out) -> Out:
        while out.index == 0 and id(out.node) in self.changes:
            out = self.changes[id(out.node)]
        return out

    def constant(self, node: Node, value: np.ndarray) -> None:
        self.replace(node, self.graph.variable(f'{node.name}_constant', value))

    def run(self) -> None:
        for node in self.graph.nodes():
            node.inputs = [self.current(out) for out in node.inputs]
            if node.op == 'null' or (id(node), 0) not in self.shapes:
                continue
            shape = self.shapes[id(node), 0]
            fixed = ANY not in shape
            if fixed and node.op in _FILLED:
                self.constant(node, _FILLED[node.op](shape, np.float32))
            elif fixed and node.op == '_contrib_arange_like' and self._ranged(node, shape):
                continue
            elif node.op not in _NOT_FOLDED and self._folded(node):
                continue
            elif node.op in _FORMS:
                _FORMS[node.op](self, node)
        self.graph.replace_all(self.changes)

    def _ranged(self, node: Node, shape: Shape) -> bool:
        value = (
            _computed(node, [np.zeros(self.shape(node.inputs[0]), np.float32)])
            if (ANY not in self.shape(node.inputs[0]))
            else None
        )
        if value is None and 'axis' in node.attrs and node.attrs['axis'] != 'None':
            start, step = (float(node.get(key, default)) for key, default in (('start', '0'), ('step', '1')))
            value = start + step * np.arange(shape[0], dtype=np.float32)
        if value is not None:
            self.constant(node, value)
        return value is not None

    def _folded(self, node: Node) -> bool:
        values = [self.graph.value(out) for out in node.inputs]
        if not values or any(value is None for value in values):
            return False
        if (id(node), 1) in self.shapes:
            return False
        value = _computed(node, values)
        if value is not None:
            self.constant(node, value.astype(np.float32))
        return value is not None

    def new(self, op: str, name: str, inputs: Sequence[Out], gives: Shape, **attrs: Any) -> Out:
        node = Node(op, name, inputs, {key: str(value) for key, value in attrs.items()})
        self.shapes[id(node), 0] = gives
        return Out(node)

    def reshaped(self, node: Node) -> None:
        shape = self.shapes[id(node), 0]
        if shape.count(ANY) <= 1 and 0 not in shape:
            self.replace(node, self.new('Reshape', node.name, node.inputs[:1], shape, shape=shape))

    def sliced(self, node: Node) -> None:
        """Translate ``slice_like`` to known lengths."""
        data, like = node.inputs
        axes = node.numbers('axes', '()') or tuple(range(len(self.shape(like))))
        ends = [(axis, self.shape(like)[axis]) for axis in axes]
        if any(end == ANY for _, end in ends):
            return
        shape = list(self.shape(data))
        for axis, end in ends:
            shape[axis] = end
            data = self.new('slice_axis', f'{node.name}_{axis}', [data], tuple(shape), axis=axis, begin=0, end=end)
        self.replace(node, data)

    def reversed(self, node: Node) -> None:
        """Rewrite a cut from the end of an axis as one from the start of the reversed axis."""
        cut = node.inputs[0].node
        axis = node.numbers('axis', '')
        if cut.op != 'slice_axis' or (int(cut.get('axis', '')),) != axis or cut.get('begin', '') != '0':
            return
        inner = cut.inputs[0].node
        length = self.shape(inner.inputs[0])[axis[0]] if inner.op == 'reverse' else ANY
        if inner.op == 'reverse' and inner.numbers('axis', '') == axis and length != ANY:
            begin = length - int(cut.get('end', ''))
            cut_off = {'axis': axis[0], 'begin': begin, 'end': length}
            self.replace(node, self.new('slice_axis', node.name, inner.inputs, self.shapes[id(node), 0], **cut_off))

    def pooled(self, node: Node) -> None:
        """Rewrite a maximum over a whole map as a reduction."""
        if node.true('global_pool') and node.get('pool_type', 'max') == 'max':
            shape = self.shapes[id(node), 0]
            self.replace(node, self.new('max', node.name, node.inputs, shape, axis=(2, 3), keepdims=True))

    def reduced(self, node: Node) -> None:
        """Rewrite a reduction so that it keeps its axes, which are removed afterwards."""
        shape, axes = self.shape(node.inputs[0]), node.numbers('axis', '()')
        if node.true('keepdims') or node.true('exclude') or not axes or self.shapes[id(node), 0].count(ANY) > 1:
            return
        axes = tuple(axis % len(shape) for axis in axes)
        kept = tuple(1 if place in axes else side for place, side in enumerate(shape))
        whole = self.new(node.op, f'{node.name}_kept', node.inputs, kept, axis=axes, keepdims=True)
        final = self.shapes[id(node), 0]
        self.replace(node, self.new('Reshape', node.name, [whole], final, shape=final))

    def multiplied(self, node: Node) -> None:
        """Rewrite a product of matrices with explicit transpositions."""
        inputs = list(node.inputs)
        for place, flag in enumerate(('transpose_a', 'transpose_b')):
            shape = self.shape(inputs[place])
            if node.true(flag) and len(shape) == 3:
                turned = (shape[0], shape[2], shape[1])
                inputs[place] = self.new(
                    'transpose', f'{node.name}_turned{place}', [inputs[place]], turned, axes=(0, 2, 1)
                )
        if inputs != node.inputs:
            self.replace(node, self.new('batch_dot', node.name, inputs, self.shapes[id(node), 0]))

    def normed(self, node: Node) -> None:
        """Rewrite a layer norm in small operators; the single operator is newer than many readers."""
        data, gamma, beta = node.inputs
        shape, name = self.shape(data), node.name
        axis = int(node.get('axis', '-1'))
        if axis not in (-1, len(shape) - 1):
            return
        line = (*shape[:-1], 1)
        mean = self.new('mean', f'{name}_mean', [data], line, axis=-1, keepdims=True)
        centred = self.new('broadcast_sub', f'{name}_centred', [data, mean], shape)
        squares = self.new('elemwise_mul', f'{name}_squares', [centred, centred], shape)
        variance = self.new('mean', f'{name}_variance', [squares], line, axis=-1, keepdims=True)
        safe = self.new('_plus_scalar', f'{name}_safe', [variance], line, scalar=node.get('eps', '1e-5'))
        deviation = self.new('sqrt', f'{name}_deviation', [safe], line)
        normed = self.new('broadcast_div', f'{name}_normed', [centred, deviation], shape)
        scaled = self.new('broadcast_mul', f'{name}_scaled', [normed, gamma], shape)
        self.replace(node, self.new('broadcast_add', f'{name}_shifted', [scaled, beta], shape))


_FORMS: Dict[str, Callable[[_Plain, Node], None]] = {
    **dict.fromkeys(_RESHAPED, _Plain.reshaped),
    **dict.fromkeys(('mean', 'sum', 'max', 'min', 'prod'), _Plain.reduced),
    'slice_like': _Plain.sliced,
    'reverse': _Plain.reversed,
    'Pooling': _Plain.pooled,
    'batch_dot': _Plain.multiplied,
    'LayerNorm': _Plain.normed,
}


def plain_operators(graph: Graph, inputs: Mapping[str, Shape]) -> None:
    """Rewrite a graph for inputs of these shapes, given without their first extent, which stays open."""
    _Plain(graph, shapes_of(graph, inputs)).run()
