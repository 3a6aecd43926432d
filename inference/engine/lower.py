"""From a folded graph to operators on tensors, without a thought to speed: `fuse` joins them afterwards.

Every value is a `Map` in blocks of lanes, perhaps `Folded` into another shape, a `View` of an array in plain order, or
a constant. Shapes are those of one image, with its leading axis of 1.
"""

from __future__ import annotations

from typing import Any, Callable, Optional, Sequence

from inference.engine.arrays import Arrays
from inference.engine.elementwise import BINARY
from inference.engine.operators import View
from inference.engine.shapes import shapes_of
from inference.engine.values import Lowered, Unsupported
from inference.graph import INPUT, Graph, Node

__all__ = ['Lowered', 'Unsupported', 'lower']


def lower(graph: Graph, input_shape: Sequence[int], lanes: int) -> Lowered:
    """Lower a graph for images (C, H, W) of ``input_shape`` (N, C, H, W); `Unsupported` with what is not known."""
    shape = (1, *input_shape[1:])
    lowering = _Lowering(graph, shapes_of(graph, shape), lanes)
    result = lowering.result
    result.input = result.new_view(shape)
    nodes = graph.nodes()
    for node in nodes:
        lowering.node(node, result.input)
    if len(graph.heads) != 1:
        raise Unsupported(f'the network returns {len(graph.heads)} arrays')
    result.output = lowering.plain(lowering.value(graph.heads[0]))
    if not result.output.contiguous:
        result.output = lowering.contiguous(result.output)
    return result


class _Lowering(Arrays):
    def node(self, node: Node, image: View) -> None:
        if node.op == 'null':
            self.values[id(node), 0] = image if node.name == INPUT else self.graph.params[node.name]
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
                raise Unsupported(f'{node.op} ({node.name}) gives {tuple(one.shape)} in place of {tuple(expected)}')
            self.values[id(node), index] = one
