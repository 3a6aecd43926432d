"""Convert a graph to bfloat16: casts where they belong, and nowhere else.

MXNet's own conversion (``amp.convert_model``) gives wrong answers when a graph with batch norms is fused afterwards.
This one comes after folding, and only uses the operators that oneDNN or MXNet compute in bfloat16; all others stay in
float32.
"""

from __future__ import annotations

from typing import Dict, Set, Tuple

from inference.graph import Graph, Node, Out

__all__ = ['stored_in_bfloat16', 'to_bfloat16']

# With weights, which are stored in bfloat16 too.
_LAYERS = ('Convolution', 'FullyConnected')
# Without products: MXNet emulates bfloat16 in them, which takes three times as long as float32 with two casts.
_OPERATORS = (
    *_LAYERS,
    'Pooling',
    'elemwise_add',
    'Concat',
    'Flatten',
    'Reshape',
    'BatchNorm',
)
_ACTIVATIONS = ('relu', 'sigmoid', 'tanh')


def _computes_in_bfloat16(graph: Graph, node: Node) -> bool:
    if node.op == 'clip':  # MXNet emulates it, but not where it is fused: ReLU6 behind a convolution
        layer = node.inputs[0].node
        return layer.op == 'Convolution' and float(node.get('a_min', '-1')) == 0 and _computes_in_bfloat16(graph, layer)
    if node.op == 'Activation':
        return node.get('act_type', '') in _ACTIVATIONS
    if node.op in _LAYERS:
        return all(graph.value(out) is not None for out in node.inputs[1:])
    return node.op in _OPERATORS


def to_bfloat16(graph: Graph) -> None:
    """Rewrite the graph, float32 in and out. Its weights are to be stored as :func:`stored_in_bfloat16` says."""
    casts: Dict[Tuple[int, int, str], Out] = {}
    is_bfloat16: Dict[int, bool] = {}

    def cast(out: Out, dtype: str) -> Out:
        key = (id(out.node), out.index, dtype)
        if key not in casts:
            casts[key] = Out(Node('amp_cast', f'{out.node.name}_{out.index}_{dtype}', [out], {'dtype': dtype}))
        return casts[key]

    for node in graph.nodes():
        ours = is_bfloat16[id(node)] = node.op != 'null' and _computes_in_bfloat16(graph, node)
        if node.op == 'null':
            continue
        for place, out in enumerate(node.inputs):
            if place > 0 and node.op in _LAYERS:  # weights: stored as they are needed
                continue
            wanted = ours and not (place > 0 and node.op == 'BatchNorm')  # whose parameters are float32 always
            if is_bfloat16[id(out.node)] != wanted:
                node.inputs[place] = cast(out, 'bfloat16' if wanted else 'float32')
    graph.heads = [cast(out, 'float32') if is_bfloat16[id(out.node)] else out for out in graph.heads]


def stored_in_bfloat16(graph: Graph) -> Set[str]:
    """Return the names of the parameters that layers computing in bfloat16 read."""
    return {
        out.node.name
        for node in graph.nodes()
        if node.op in _LAYERS and _computes_in_bfloat16(graph, node)
        for out in node.inputs[1:]
    }
