"""How much a block relies on the one before it: by the learned weights, and by what they do to real signals."""

import mxnet as mx
import numpy as np
import pytest

from inference.explain.connection import reliance
from inference.explain.hooks import blocks_of
from model.attention import ATTENTIONS
from model.attention.dca import Merge
from tests.inference.explain.conftest import images, make


@pytest.mark.parametrize('unit', [unit for unit, row in ATTENTIONS.items() if row.connects])
def test_every_unit(unit):
    net = make(f'cifar_dca_{unit}_resnet20bn_v1')
    found = reliance(net, images())
    per_block = {'cbam': 2, 'sk': 2}.get(unit, 1)
    assert len(found) == 5 * per_block  # all blocks except the first
    assert [row.place for row in found[::per_block]] == ['1.1', '2.0', '2.1', '3.0', '3.1']
    parts = {'cbam': ['channel', 'spatial'], 'sk': ['branch 1', 'branch 2']}.get(unit, [''])
    assert [row.part for row in found] == 5 * parts
    assert all(0 < row.weight < 1 and 0 < row.signal < 1 for row in found)
    assert [row.weight for row in reliance(net)] == [row.weight for row in found]
    assert reliance(net)[0].signal is None


def test_the_share_of_the_weight_by_hand():
    net = make('cifar_dca_se_resnet20bn_v1')
    merges = [block for _, block in blocks_of(net) if isinstance(block, Merge)]
    for number, merge in enumerate(merges):
        merge.conv.weight.set_data(mx.nd.array([-3.0, number]).reshape((1, 2, 1, 1)))
    assert [row.weight for row in reliance(net)] == pytest.approx([0, 1 / 4, 2 / 5, 3 / 6, 4 / 7])
    net = make('cifar_dca_gc_resnet20bn_v1')
    net.layer2[0].attention.connection.beta.set_data(mx.nd.array([-4.0]))
    assert reliance(net)[1].weight == pytest.approx(4 / 5)
    net = make('cifar_dca_cbam_resnet20bn_v1')
    connection = net.layer1[1].attention.spatial.connection
    connection.p1.set_data(mx.nd.array([1.5]))
    connection.p2.set_data(mx.nd.array([-0.5]))
    assert reliance(net)[1].path == 'layer1.1.attention.spatial'
    assert (reliance(net)[1].place, reliance(net)[1].part) == ('1.1', 'spatial')
    assert reliance(net)[1].weight == pytest.approx(1 / 4)


def test_the_share_of_the_signal_by_hand():
    net, data = make('cifar_dca_se_resnet20bn_v1'), images(20)  # more than a batch
    found = reliance(net, data)
    merges = [block for _, block in blocks_of(net) if isinstance(block, Merge)]
    for row, merge in zip(found, merges):
        heard = []
        handle = merge.register_forward_hook(lambda _, inputs, out, heard=heard: heard.extend(inputs))
        net(mx.nd.array(data))
        handle.detach()
        a, b = np.abs(merge.conv.weight.data().asnumpy().ravel())
        current, previous = (vector.asnumpy().std(axis=1) for vector in heard)
        assert row.signal == pytest.approx((b * previous / (a * current + b * previous)).mean(), rel=1e-4)


def test_a_constant_previous_attention_is_no_signal():
    net = make('cifar_dca_gc_resnet20bn_v1')
    expand = net.layer1[0].attention.expand
    expand.weight.set_data(mx.nd.zeros(expand.weight.shape))
    expand.bias.set_data(mx.nd.ones(expand.bias.shape))
    first, second = reliance(net, images())[:2]
    assert first.weight > 0
    assert first.signal == pytest.approx(0, abs=1e-6)
    assert second.signal > 0.01


@pytest.mark.parametrize('name', ['cifar_se_resnet20bn_v1', 'cifar_dia_resnet20bn_v1', 'cifar_resnet14_v2'])
def test_networks_without_connections(name):
    with pytest.raises(ValueError, match='no connected units; take a network with dca_'):
        reliance(make(name))
