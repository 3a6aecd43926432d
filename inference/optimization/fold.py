"""Fold batch norms into the layers before them, and remove what inference does not need."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np

from inference.graph import Graph, Node, Out

__all__ = ['affine_of', 'fold']

LAYERS = ('Convolution', 'FullyConnected')


def affine_of(graph: Graph, norm: Node) -> Tuple[np.ndarray, np.ndarray]:
    """Return the scale and shift (float64, one each per channel) that a batch norm is in inference."""
    gamma, beta, mean, variance = (graph.value(out).astype(np.float64) for out in norm.inputs[1:5])
    if norm.true('fix_gamma', True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(variance + float(norm.get('eps', '1e-3')))
    return scale, beta - mean * scale


def _is_affine(graph: Graph, node: Node) -> bool:
    return (
        node.op == 'BatchNorm'
        and node.get('axis', '1') == '1'
        and all(graph.value(o) is not None for o in node.inputs[1:])
    )


class _Scaling:
    """Layers whose outputs are multiplied, channel by channel, by a norm behind them.

    The parameters of each only once.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.done: Dict[Tuple[int, ...], List[Out]] = {}

    def __call__(self, layer: Node, norm: Node) -> Node:
        """Return the layer and the norm as one layer, named after the former, whose place it takes."""
        # Blocks that share a layer and its norm share what becomes of them.
        key = tuple(id(out.node) for out in (*layer.inputs[1:], *norm.inputs[1:5]))
        if key not in self.done:
            self.done[key] = self._parameters(layer, *affine_of(self.graph, norm))
        inputs = [layer.inputs[0], *self.done[key]]
        return Node(layer.op, layer.name, inputs, {**layer.attrs, 'no_bias': 'False'})

    def _parameters(self, layer: Node, scale: np.ndarray, shift: np.ndarray) -> List[Out]:
        graph, name = self.graph, layer.name
        weight = graph.value(layer.inputs[1]).astype(np.float64)
        bias = 0.0 if layer.true('no_bias') else graph.value(layer.inputs[2]).astype(np.float64)
        weight = (weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1))).astype(np.float32)
        bias = (bias * scale + shift).astype(np.float32)
        return [graph.variable(f'{name}_weight', weight), graph.variable(f'{name}_bias', bias)]


def _as_convolution(graph: Graph, norm: Node) -> Node:
    """Return the norm as a depth-wise 1x1 convolution."""
    scale, shift = (values.astype(np.float32) for values in affine_of(graph, norm))
    channels = str(len(scale))
    weight = graph.variable(f'{norm.name}_weight', scale.reshape(-1, 1, 1, 1))
    bias = graph.variable(f'{norm.name}_bias', shift)
    attrs = {'kernel': '(1, 1)', 'num_filter': channels, 'num_group': channels, 'no_bias': 'False'}
    return Node('Convolution', norm.name, [norm.inputs[0], weight, bias], attrs)


def _use_ones(graph: Graph, norm: Node) -> None:
    """Write out ``fix_gamma``, which means a scale of 1 whatever the parameter is, and which ONNX lacks."""
    if norm.true('fix_gamma', True):
        ones = np.ones_like(graph.value(norm.inputs[1]))
        norm.inputs[1] = graph.variable(f'{norm.name}_ones', ones)
        norm.attrs['fix_gamma'] = 'False'


def _is_vector_as_map(node: Node) -> bool:
    """Return whether it turns (N, C) into (N, C, 1, 1), which has the same channels."""
    return node.op == 'Reshape' and node.get('shape', '').replace(' ', '') == '(0,0,1,1)'


def fold(graph: Graph) -> None:
    """Rewrite ``graph`` so that no batch norm is left behind a convolution or a dense layer.

    Computed in float64 and rounded once. A norm of a pre-activation network whose layer has other readers becomes a
    layer of its own: MXNet's fusion takes it for the only reader, and the graph is then wrong (there is a switch for
    that, but it is read when MXNet is loaded). Norms behind something else stay. Dropout and identities go.
    """
    readers = graph.readers()
    changes: Dict[int, Out] = {}
    scaling = _Scaling(graph)
    for node in graph.nodes():
        if node.op in ('Dropout', '_copy', 'identity', 'BlockGrad'):
            changes[id(node)] = node.inputs[0]
        elif _is_affine(graph, node):
            before = node.inputs[0]
            alone = len(readers[(id(before.node), before.index)]) == 1
            between = before.node if _is_vector_as_map(before.node) and alone else None
            if between is not None:
                before = between.inputs[0]
                alone = len(readers[(id(before.node), before.index)]) == 1
            layer = before.node
            folded = changes.get(id(layer))
            if folded is not None and folded.node.op == 'Convolution':  # that norm is gone, and the same holds as below
                changes[id(node)] = Out(_as_convolution(graph, node))
                continue
            if layer.op not in LAYERS:
                _use_ones(graph, node)
                continue
            if alone and all(graph.value(out) is not None for out in layer.inputs[1:]):
                scaled = Out(scaling(layer, node))
                changes[id(node)] = scaled
                if between is not None:
                    changes[id(node)] = Out(Node(between.op, between.name, [scaled], between.attrs))
                    # Back to a vector is where the layer is already.
                    back = [
                        reader for reader in readers[(id(node), 0)] if reader is not None and reader.op == 'Flatten'
                    ]
                    changes.update((id(reader), scaled) for reader in back)
            elif layer.op == 'Convolution':
                changes[id(node)] = Out(_as_convolution(graph, node))
    graph.replace_all(changes)
