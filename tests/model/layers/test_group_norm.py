"""Group normalisation: the paper's formula, its place in networks, and who accepts its name."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from model import get_model
from model.attention.sk import SK
from model.layers.group_norm import GroupNorm, group_norm


def test_it_is_the_papers_formula():
    norm = GroupNorm(6, 3)
    norm.initialize()
    random = np.random.RandomState(0)
    x, gamma, beta = random.randn(2, 6, 4, 5), random.randn(6), random.randn(6)
    norm.gamma.set_data(mx.nd.array(gamma))
    norm.beta.set_data(mx.nd.array(beta))
    groups = x.reshape(2, 3, -1)
    centred = groups - groups.mean(-1, keepdims=True)
    expected = (centred / np.sqrt(centred.var(-1, keepdims=True) + 1e-5)).reshape(x.shape)
    expected = expected * gamma.reshape(1, 6, 1, 1) + beta.reshape(1, 6, 1, 1)
    for hybridized in (False, True):
        norm.hybridize(hybridized)
        np.testing.assert_allclose(norm(mx.nd.array(x)).asnumpy(), expected, rtol=1e-4, atol=1e-5)


def test_groups_divide_the_channels():
    assert group_norm(64)._groups == 32
    assert group_norm(24)._groups == 8
    with pytest.raises(ValueError, match='4 groups do not divide 6 channels'):
        GroupNorm(6, 4)


@pytest.mark.parametrize('name', ['sk_resnet50_v1b', 'dca_sk_mnasnet0_5', 'cifar_sk_resnet11bn_v1'])
def test_vectors_have_one_group(name):
    """SK's hidden layer has no positions, so a group of one channel would be a single value."""
    net = get_model(name, norm='group', classes=3)
    net.initialize()
    size = 32 if name.startswith('cifar') else 64
    x = mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, size, size)))
    with autograd.record():
        loss = (net(x) ** 2).sum()
    loss.backward()
    norms = [block.norm for block in _blocks(net) if isinstance(block, SK)]
    assert norms
    assert all(isinstance(norm, nn.LayerNorm) for norm in norms)
    assert all(norm.gamma.grad().norm().asscalar() > 0 for norm in norms)


def _blocks(net):
    yield net
    for child in net._children.values():
        yield from _blocks(child)


def test_a_network_has_it_by_name_outside_the_activation_units():
    net = get_model('atac_resnet18_v1b', norm='group', classes=3)
    net.initialize()
    names = set(net._collect_params_with_prefix())
    assert {'bn1.gamma', 'bn1.beta', 'layer4.0.relu1.module.1.running_mean'} <= names
    assert 'bn1.running_mean' not in names
    assert net(mx.nd.zeros((1, 3, 64, 64))).shape == (1, 3)
    with pytest.raises(ValueError, match="norm is 'layer'; allowed: batch, group"):
        get_model('resnet18_v1b', norm='layer')
