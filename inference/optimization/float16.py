"""The graph in float16, for GPUs."""

from __future__ import annotations

from typing import Set

from inference.graph import INPUT, Graph, Node, Out

__all__ = ['stored_in_float16', 'to_float16']


def to_float16(graph: Graph) -> None:
    """Rewrite the graph: float32 in and out, float16 between. Store its weights as :func:`stored_in_float16` says."""
    data = next(node for node in graph.nodes() if node.op == 'null' and node.name == INPUT)
    narrow = Out(Node('Cast', f'{INPUT}_float16', [Out(data)], {'dtype': 'float16'}))
    for node in graph.nodes():
        node.inputs = [narrow if out.node is data else out for out in node.inputs]
    graph.heads = [Out(Node('Cast', 'logits_float32', [out], {'dtype': 'float32'})) for out in graph.heads]


def stored_in_float16(graph: Graph) -> Set[str]:
    """Return the names of the parameters to store in float16: all but those of batch norms."""
    norms = {out.node.name for node in graph.nodes() if node.op == 'BatchNorm' for out in node.inputs[1:]}
    return set(graph.params) - norms
