"""Inference between two training steps does not affect the second."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from training.optim.layout import restore_plain_layout

SHAPE = (4, 3, 16, 16)


def build(hybrid):
    mx.random.seed(0)
    net = gluon.nn.HybridSequential()
    for groups in (1, 1, 2, 16):
        net.add(
            gluon.nn.Conv2D(16, 3, padding=1, groups=groups, use_bias=False),
            gluon.nn.BatchNorm(),
            gluon.nn.Activation('relu'),
        )
    net.add(gluon.nn.Dense(5))
    net.initialize()
    if hybrid:
        net.hybridize(static_alloc=True, static_shape=True)
    net(mx.nd.zeros(SHAPE))
    restore_plain_layout(net)
    settings = {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 1e-2}
    return net, gluon.Trainer(net.collect_params(), 'nag', settings, kvstore=None)


def trained(hybrid, infer):
    """Return the parameters after steps with an inference pass before each."""
    net, trainer = build(hybrid)
    for number in range(6):
        if infer:
            net(mx.nd.ones(SHAPE)).wait_to_read()
            restore_plain_layout(net)
        images = mx.nd.array(np.random.RandomState(number).rand(*SHAPE))
        with autograd.record():
            loss = net(images).square().mean(axis=1)
        loss.backward()
        trainer.step(SHAPE[0])
    return [p.data().asnumpy().tobytes() for p in net.collect_params().values()]


def is_plain(array):
    """Return whether MXNet accepts NumPy's data, which it refuses for arrays in oneDNN's layouts."""
    values = array.asnumpy()
    try:
        array._sync_copyfrom(values)
    except mx.MXNetError:
        return False
    return True


@pytest.mark.parametrize('hybrid', [False, True])
def test_training_does_not_notice_inference(hybrid):
    assert trained(hybrid, infer=True) == trained(hybrid, infer=False)


@pytest.mark.skipif(not mx.runtime.Features().is_enabled('MKLDNN'), reason='MXNet without oneDNN')
def test_only_the_layout_changes():
    net, _ = build(hybrid=False)
    values = [p.data().asnumpy().tobytes() for p in net.collect_params().values()]
    net(mx.nd.ones(SHAPE)).wait_to_read()
    assert not all(is_plain(p.data()) for p in net.collect_params().values()), 'inference left everything plain'
    restore_plain_layout(net)
    assert all(is_plain(p.data()) for p in net.collect_params().values())
    assert [p.data().asnumpy().tobytes() for p in net.collect_params().values()] == values


def test_parameters_without_values_are_left_alone():
    net = gluon.nn.Dense(3)
    net.initialize()
    restore_plain_layout(net)
    assert net.weight._data is None
