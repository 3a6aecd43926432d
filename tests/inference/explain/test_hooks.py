"""Hooks into a network: gradients of what they see, through layers that behave differently in training."""

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from inference.explain.hooks import ActivationHooks, hooked
from tests.inference.explain.conftest import images


def network():
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, padding=1, in_channels=3))  # the hooked layer; no two of its outputs are equal
    net.add(nn.MaxPool2D(3, 2, 1), nn.Conv2D(16, 1, in_channels=16), nn.BatchNorm(in_channels=16), nn.Dropout(0.5))
    net.add(nn.MaxPool2D(2), nn.GlobalAvgPool2D(), nn.Dense(4, in_units=16))
    net.initialize(mx.init.Normal(0.5))
    random = np.random.RandomState(0)
    net[3].running_mean.set_data(mx.nd.array(random.normal(size=16)))
    net[3].running_var.set_data(mx.nd.array(random.uniform(0.5, 2, 16)))
    return net


@pytest.mark.parametrize('side', [14, 9])
def test_gradients_through_max_pools_norms_and_dropout(side):
    net, data, classes = network(), images(2, side), [3, 0]

    def attach(stack, taps):
        stack.enter_context(hooked(net[0], lambda _, out: taps.append(('conv', out))))

    hooks = ActivationHooks(net, attach, differentiable=True)
    answer, (maps,), (gradient,) = hooks.differentiate(data, classes)
    np.testing.assert_allclose(answer, net(mx.nd.array(data)).asnumpy(), rtol=1e-4, atol=1e-5)

    def rest(features):
        x = mx.nd.array(features)
        for layer in list(net)[1:]:
            x = layer(x)
        return x.asnumpy()[[0, 1], classes].astype(float)

    # Small steps do not move the maximum, and what follows is linear between kinks.
    steps = 1e-4 * np.random.RandomState(1).standard_normal((20, *maps.shape)).astype('float32')
    for step in steps:
        found = (rest(maps + step) - rest(maps - step)) / 2
        np.testing.assert_allclose((gradient * step).sum(axis=(1, 2, 3)), found, rtol=0.02, atol=1e-5)
    again = hooks.differentiate(data, classes)[2][0]
    np.testing.assert_array_equal(again, gradient)
    statistics = net[3].running_mean.data().asnumpy()
    assert statistics.any()
    np.testing.assert_array_equal(statistics, np.random.RandomState(0).normal(size=16).astype('float32'))
