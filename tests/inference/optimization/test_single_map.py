"""Convolutions to a single map are computed beside maps of zeros, with the same results."""

import mxnet as mx
import numpy as np
from mxnet.gluon import nn

from inference.graph import trace
from inference.optimization.single_map import widen_single_maps


def network():
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(4, 1, in_channels=3),
        nn.Conv2D(1, 7, padding=3, in_channels=4),
        nn.Conv2D(1, 1, in_channels=1),
        nn.Conv2D(1, 3, strides=2, use_bias=False, in_channels=1),
    )
    net.initialize(mx.init.Normal(0.1))
    return net


def run(graph, x):
    symbol = graph.symbol()
    arrays = {name: mx.nd.array(value) for name, value in graph.params.items()}
    return symbol.eval(ctx=mx.cpu(), data=x, **arrays)[0].asnumpy()


def test_answers_stay_and_those_of_1x1_are_left_alone():
    net, x = network(), mx.nd.random.normal(shape=(2, 3, 12, 9))
    graph = trace(net)
    assert widen_single_maps(graph) == 2
    assert [node.get('num_filter', '') for node in graph.nodes() if node.op == 'Convolution'] == ['4', '16', '1', '16']
    np.testing.assert_allclose(run(graph, x), net(x).asnumpy(), rtol=1e-5, atol=1e-6)
    assert widen_single_maps(graph) == 0  # nothing is left to do
