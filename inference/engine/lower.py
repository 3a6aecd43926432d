"""Turn a folded graph into operators on tensors, without regard to speed: `fuse` joins them afterwards.

Every value is a `Map` in blocks of lanes, possibly `Folded` into another shape, a `View` of an array in plain order, or
a constant. Shapes are those of one image, with a leading axis of 1.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Mapping, Optional, Sequence

import numpy as np

from inference.engine.arrays import Arrays
from inference.engine.elementwise import BINARY
from inference.engine.operators import View, row_major
from inference.engine.shapes import Shapes, shapes_of
from inference.engine.values import Lowered, Unsupported
from inference.graph import INPUT, Graph, Node

__all__ = ['Inputs', 'Lowered', 'Unsupported', 'lower', 'lower_part', 'unknown']

Inputs = Mapping[str, Sequence[int]]


def lower(graph: Graph, input_shape: Sequence[int], lanes: int) -> Lowered:
    """Lower a graph for images (C, H, W) of ``input_shape`` (N, C, H, W); `Unsupported` names what is unknown."""
    return lower_part(graph, {INPUT: (1, *input_shape[1:])}, lanes)


def lower_part(graph: Graph, inputs: Inputs, lanes: int) -> Lowered:
    """Lower a graph whose variables ``inputs`` have these shapes, for one image.

    `Unsupported` names what is unknown. Several inputs lie one after another in the tensor that the plan reads, in the
    order of ``inputs``, and so do the outputs of a graph with several heads.
    """
    lowering = _Lowering(graph, shapes_of(graph, inputs), lanes)
    entries = lowering.enter(inputs)
    for node in graph.nodes():
        lowering.node(node, entries)
    result = lowering.result
    heads = [lowering.value(out) for out in graph.heads]
    result.output = lowering.plain(heads[0]) if len(heads) == 1 else lowering.in_a_row(heads)
    result.output = lowering.own(result.output)
    return result


def unknown(graph: Graph, shapes: Shapes, inputs: Inputs, lanes: int) -> Dict[int, str]:
    """Return what the engine does not know in a graph: the reasons, by the ids of nodes."""
    lowering = _Lowering(graph, shapes, lanes)
    entries = lowering.enter(inputs)
    reasons: Dict[int, str] = {}
    for node in graph.nodes():
        try:
            lowering.node(node, entries)
        except Unsupported as error:
            reasons[id(node)] = str(error)
            for key in [key for key in shapes if key[0] == id(node)]:
                lowering.values[key] = lowering.result.new_view(shapes[key])
    return reasons


class _Lowering(Arrays):
    def enter(self, inputs: Inputs) -> Dict[str, View]:
        """Return the inputs as views of one tensor."""
        shapes = {name: tuple(map(int, shape)) for name, shape in inputs.items()}
        if len(shapes) == 1:
            ((name, shape),) = shapes.items()
            self.result.input = self.result.new_view(shape)
            return {name: self.result.input}
        sizes = [int(np.prod(shape, dtype=np.int64)) for shape in shapes.values()]
        self.result.input = self.result.new_view((1, sum(sizes)))
        tensor, at, views = self.result.input.tensor, 0, {}
        for (name, shape), size in zip(shapes.items(), sizes):
            views[name] = View(tensor, shape, row_major(shape), at)
            at += size
        return views

    def node(self, node: Node, entries: Mapping[str, View]) -> None:
        if node.op == 'null':
            self.values[id(node), 0] = entries[node.name] if node.name in entries else self.graph.params[node.name]
            return
        inputs = [self.value(out) for out in node.inputs]
        handler: Optional[Callable[..., Any]] = getattr(self, f'_do_{node.op.lstrip("_").lower()}', None)
        if node.op in BINARY:
            made = self.binary(BINARY[node.op], *inputs)
        elif node.op.endswith('_scalar'):
            made = self.scalar(node, inputs[0])
        elif handler is not None:
            made = handler(node, *inputs)
        else:
            raise Unsupported(f'the operator {node.op} ({node.name})')
        made = made if isinstance(made, list) else [made]
        for index, one in enumerate(made):
            expected = self.shapes.get((id(node), index))
            if expected and tuple(one.shape) != tuple(expected):
                raise Unsupported(f'{node.op} ({node.name}) gives {tuple(one.shape)} instead of {tuple(expected)}')
            self.values[id(node), index] = one
