"""The convolution to a single map equals nn.Conv2D, in training and in inference, gradients included."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from model.layers.single_map import SingleMapConv


def run(conv, x):
    x.attach_grad()
    with autograd.record():
        y = conv(x)
    y.backward(mx.nd.arange(y.size).reshape(y.shape) / y.size)
    return y.asnumpy(), x.grad.asnumpy(), conv.weight.grad().asnumpy(), conv(x).asnumpy()


@pytest.mark.parametrize('hybrid', [False, True])
@pytest.mark.parametrize('shape', [(2, 2, 12, 10), (1, 3, 7, 7)])
def test_answers_and_gradients_are_those_of_a_convolution(shape, hybrid):
    ours = SingleMapConv(7, padding=3, in_channels=shape[1])
    theirs = nn.Conv2D(1, 7, padding=3, use_bias=False, in_channels=shape[1])
    ours.initialize(mx.init.Normal(0.1))
    theirs.initialize()
    theirs.weight.set_data(ours.weight.data())
    if hybrid:
        ours.hybridize()
    x = mx.nd.random.normal(shape=shape)
    for mine, expected in zip(run(ours, x), run(theirs, x)):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_the_graph_of_inference_has_one_map():
    conv = SingleMapConv(7, padding=3, in_channels=2)
    conv.initialize()
    assert conv(mx.sym.var('data')).attr('num_filter') == '1'
    assert conv.weight.shape == (1, 2, 7, 7)
