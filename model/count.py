"""Count what a network costs: trainable parameters and multiply-accumulates."""

from __future__ import annotations

import json
from typing import NamedTuple, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

__all__ = ['Cost', 'count', 'count_params', 'is_trainable', 'macs_of_graph']


class Cost(NamedTuple):
    """Trainable parameters, and multiply-accumulates of one sample (convolutions and fully connected layers only)."""

    params: int
    macs: int


def is_trainable(parameter: gluon.Parameter) -> bool:
    """Return whether an optimizer changes this parameter: it gets a gradient, and a learning rate that is not 0."""
    return parameter.grad_req != 'null' and parameter.lr_mult != 0


def count_params(net: gluon.HybridBlock) -> int:
    """Return the number of trainable parameters, shared ones once."""
    unique = {id(p): p for p in net.collect_params().values() if is_trainable(p)}
    return int(sum(np.prod(p.shape, dtype=np.int64) for p in unique.values()))


def macs_of_graph(out: mx.sym.Symbol, **inputs: Sequence[int]) -> int:
    """Return the MACs of one sample in a graph whose inputs have these shapes; see :class:`Cost`."""
    internals = out.get_internals()
    _, shapes, _ = internals.infer_shape(**{name: tuple(shape) for name, shape in inputs.items()})
    table = json.loads(internals.tojson())
    graph = table['nodes']
    # By place, not by name: a layer that is applied several times, to maps of several sizes, has one name.
    shape_of = {tuple(head[:2]): shape for head, shape in zip(table['heads'], shapes)}

    def shape(entry: Sequence[int]) -> Tuple[int, ...]:
        return shape_of[tuple(entry[:2])]

    total = 0
    for index, node in enumerate(graph):
        if node['op'] not in ('Convolution', 'FullyConnected', 'Deconvolution'):
            continue
        weight = shape(node['inputs'][1])
        # A convolution's weight is applied at each output position, a deconvolution's at each input position.
        at = shape(node['inputs'][0]) if node['op'] == 'Deconvolution' else shape([index, 0])
        positions = (
            np.prod(at[2:], dtype=np.int64) if node['op'] != 'FullyConnected' else np.prod(at[1:-1], dtype=np.int64)
        )
        total += int(np.prod(weight, dtype=np.int64) * positions)
    return total


def count(net: gluon.HybridBlock, input_shape: Sequence[int]) -> Cost:
    """Count parameters and MACs of ``net`` for inputs ``(N, 3, H, W)``; N does not matter.

    Works on the symbolic graph: no weights are needed and nothing is computed. A unit that several blocks share counts
    its parameters once and its MACs each time it is applied.
    """
    out = net(mx.sym.var('data'))
    return Cost(count_params(net), macs_of_graph(out, data=(1, *input_shape[1:])))
