"""The shape of every value in a graph."""

from __future__ import annotations

from typing import Dict, Mapping, Sequence, Tuple

from inference.graph import Graph

__all__ = ['Shapes', 'shapes_of']

Shapes = Dict[Tuple[int, int], Tuple[int, ...]]


def shapes_of(graph: Graph, inputs: Mapping[str, Sequence[int]]) -> Shapes:
    """Return ``{(id of node, output): shape}`` for inputs of these shapes, by their names."""
    names = [node.name for node in graph.nodes()]
    if len(set(names)) < len(names):  # outputs are distinguished by their names
        for number, node in enumerate(graph.nodes()):
            if node.op != 'null':
                node.name = f'{node.name}_{number}'
    symbol = graph.symbol()
    known = {name: value.shape for name, value in graph.params.items()}
    internals = symbol.get_internals()
    _, found, _ = internals.infer_shape_partial(**{name: tuple(shape) for name, shape in inputs.items()}, **known)
    names = dict(zip(internals.list_outputs(), found))
    shapes: Shapes = {}
    for node in graph.nodes():
        if node.op == 'null':
            shapes[id(node), 0] = names[node.name]
            continue
        single = names.get(f'{node.name}_output')
        if single is not None:
            shapes[id(node), 0] = single
        for index in range(64):
            shape = names.get(f'{node.name}_output{index}')
            if shape is None:
                break
            shapes[id(node), index] = shape
    return shapes
