"""Gates and shifts per channel, in a form that keeps oneDNN's memory layout.

``broadcast_mul`` leaves the blocked layout of the convolutions around it: the map is copied out and back, which costs
an SE-ResNet more than the product itself. MXNet 1.9 has one operator that multiplies channels in any layout: the batch
norm. With the gate as its scale, mean 0 and variance 1 it gives the same numbers. It has one scale per channel, not per
sample, so this form is for single images.
"""

from __future__ import annotations

from typing import Dict

from inference.graph import Graph, Node, Out

__all__ = ['channels_by_batch_norm']

_VECTOR = '(0, 0, 1, 1)'  # the shape that our units give a vector (N, C) before they apply it to a map


def channels_by_batch_norm(graph: Graph) -> int:
    """Rewrite the graph for batches of one; return the number of places."""
    changes: Dict[int, Out] = {}
    readers = graph.readers()
    for node in graph.nodes():
        if node.op not in ('broadcast_mul', 'broadcast_add'):
            continue
        x, shaped = node.inputs[0], node.inputs[1].node
        if shaped.op != 'Reshape' or shaped.get('shape', '') != _VECTOR:
            continue
        # oneDNN would take the batch norm into a convolution that nothing else reads, as if its numbers were weights.
        if x.node.op == 'Convolution' and len(readers[id(x.node), x.index]) == 1:
            continue
        name = node.name
        vector = Out(Node('Reshape', f'{name}_vector', shaped.inputs, {'shape': '(-1,)'}))
        ones = Out(Node('ones_like', f'{name}_ones', [vector]))
        zeros = Out(Node('zeros_like', f'{name}_zeros', [vector]))
        scale, shift = (vector, zeros) if node.op == 'broadcast_mul' else (ones, vector)
        attrs = {'eps': '1e-20', 'fix_gamma': 'False', 'use_global_stats': 'True', 'axis': '1'}
        changes[id(node)] = Out(Node('BatchNorm', name, [x, scale, shift, zeros, ones], attrs))
    graph.replace_all(changes)
    return len(changes)
