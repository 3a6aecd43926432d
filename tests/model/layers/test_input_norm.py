"""The image norm only learns its running statistics, on every device and in every mode."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import get_model


def train(net, steps, hybridize=None):
    mx.random.seed(4)
    net.initialize(mx.init.MSRAPrelu())
    if hybridize is not None:
        net.hybridize(**hybridize)
    trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.1, 'momentum': 0.9, 'wd': 0.01})
    rng = np.random.RandomState(0)
    batches = rng.normal([[[[2.0]], [[0.0]], [[-1.0]]]], 3, (steps, 8, 3, 32, 32)).astype('float32')
    for batch in batches:
        with autograd.record():
            loss = net(mx.nd.array(batch)).mean()
        loss.backward()
        trainer.step(1)
    return batches


@pytest.mark.parametrize('hybridize', [None, {}, {'static_alloc': True, 'static_shape': True}])
def test_running_statistics_follow_the_images(hybridize):
    net = get_model('cifar_resnet8_v2')
    batches = train(net, 3, hybridize)
    mean, var = np.zeros(3), np.ones(3)
    for batch in batches:
        mean = 0.9 * mean + 0.1 * batch.mean((0, 2, 3))
        var = 0.9 * var + 0.1 * batch.var((0, 2, 3))
    norm = net.features[0]
    np.testing.assert_allclose(norm.running_mean.data().asnumpy(), mean, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(norm.running_var.data().asnumpy(), var, rtol=1e-3)
    assert (norm.gamma.data().asnumpy() == 1).all()
    assert (norm.beta.data().asnumpy() == 0).all()


def test_the_originals_behaviour_by_option():
    net = get_model('cifar_resnet8_v2', update_input_norm=False)
    train(net, 3)
    norm = net.features[0]
    assert (norm.running_mean.data().asnumpy() == 0).all()
    assert (norm.running_var.data().asnumpy() == 1).all()


@pytest.mark.parametrize('act_type', ['relu', 'atac'])
def test_by_running_statistics_training_sees_what_inference_sees(act_type):
    net = get_model('cifar_resnet8_v2', act_type=act_type, use_global_stats=True)
    net.initialize(mx.init.MSRAPrelu())
    norm = net.features[0]
    norm.running_mean.set_data(mx.nd.array([2, 0, -1]))
    norm.running_var.set_data(mx.nd.array([9, 9, 9]))
    batch = mx.nd.array(np.random.RandomState(0).normal(2, 3, (4, 3, 32, 32)))
    with autograd.record():
        trained = net(batch)
    trained.backward()
    np.testing.assert_allclose(trained.asnumpy(), net(batch).asnumpy(), rtol=1e-4, atol=1e-5)
    assert norm.running_mean.data().asnumpy().tolist() == [2, 0, -1]


def test_scale_in_a_file_is_ignored():
    net = get_model('cifar_resnet8_v2')
    net.initialize(mx.init.MSRAPrelu())
    data = mx.nd.random.normal(shape=(2, 3, 32, 32))
    before = net(data).asnumpy()
    net.features[0].gamma.set_data(mx.nd.array([3, 4, 5]))
    assert (net(data).asnumpy() == before).all()


def test_float16_keeps_the_statistics_in_float32():
    net = get_model('cifar_atac_resnet8_v2')
    net.cast('float16')
    kinds = {name: p.dtype for name, p in net._collect_params_with_prefix().items()}
    assert np.dtype(kinds['features.0.running_mean']) == np.float32
    assert np.dtype(kinds['features.1.weight']) == np.float16
