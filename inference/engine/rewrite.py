"""Rewrites of the folded graph that let the engine pass over maps less often."""

from __future__ import annotations

from typing import Dict

from inference.graph import Graph, Node, Out

__all__ = ['pool_before_projections']


def pool_before_projections(graph: Graph) -> None:
    """Take the mean of a 1x1 convolution's input instead of that of its output.

    The mean over space of ``W h + b`` is ``W mean(h) + b``. So the context of SE, ECA, GE, DIA and their connections is
    known before the last convolution of a block runs, and that convolution can apply the gate, add the shortcut and
    rectify as it writes its output. The cost is one matrix-vector product per image.
    """
    changes: Dict[int, Out] = {}
    for node in graph.nodes():
        if node.op != 'Pooling' or not node.true('global_pool') or node.get('pool_type', 'max') != 'avg':
            continue
        layer = node.inputs[0].node
        if layer.op != 'Convolution' or layer.numbers('kernel', '') != (1, 1) or int(layer.get('num_group', '1')) != 1:
            continue
        if (layer.numbers('stride', '') or (1, 1)) != (1, 1) or any(layer.numbers('pad', '')):
            continue
        if any(graph.value(out) is None for out in layer.inputs[1:]):
            continue
        pooled = Node('Pooling', f'{node.name}_before', [layer.inputs[0]], node.attrs)
        weights = [layer.inputs[1], *layer.inputs[2:]]
        attrs = {key: value for key, value in layer.attrs.items() if key != 'stride'}
        changes[id(node)] = Out(Node('Convolution', f'{node.name}_projected', [Out(pooled), *weights], attrs))
    graph.replace_all(changes)
