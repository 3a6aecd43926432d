"""Convolutions that give a single map, such as the 7x7 one of CBAM's spatial attention, in a form that has a kernel.

oneDNN computes as many output maps at once as a register holds. For one map alone it falls back to a matrix product of
copies, or to plain loops: 0.2 ms in place of 0.03 for a 7x7 convolution of 2x28x28. The map is therefore computed
beside fifteen of zeros, which are cut off.
"""

from __future__ import annotations

from typing import Dict

import numpy as np

from inference.graph import Graph, Node, Out
from model.layers.single_map import MAPS

__all__ = ['widen_single_maps']


def widen_single_maps(graph: Graph) -> int:
    """Rewrite such convolutions, those of 1x1 excepted; return their number."""
    changes: Dict[int, Out] = {}
    for node in graph.nodes():
        if node.op != 'Convolution' or node.get('num_filter', '') != '1' or set(node.numbers('kernel', '')) == {1}:
            continue
        values = [graph.value(out) for out in node.inputs[1:]]
        if any(value is None for value in values):
            continue
        names = [out.node.name for out in node.inputs[1:]]
        padded = [
            graph.variable(name, np.concatenate([value, np.zeros((MAPS - 1, *value.shape[1:]), value.dtype)]))
            for name, value in zip(names, values)
        ]
        wide = Node('Convolution', node.name, [node.inputs[0], *padded], {**node.attrs, 'num_filter': str(MAPS)})
        first = {'axis': '1', 'begin': '0', 'end': '1'}
        changes[id(node)] = Out(Node('slice_axis', f'{node.name}_first', [Out(wide)], first))
    graph.replace_all(changes)
    return len(changes)
