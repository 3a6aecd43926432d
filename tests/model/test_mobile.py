"""MobileNetV2 and MnasNet: where their plug points are, and what their options do."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon
from mxnet.gluon import nn

from model import get_model
from model.activation import activation_factory
from model.backbone.mobilenet_v2 import MobileNetV2
from model.layers.factories import AttentionFactory

RELU = activation_factory('relu')


def _all(block):
    yield block
    for child in block._children.values():
        yield from _all(child)


class Recorder(AttentionFactory):
    """A factory of units that double their input and count the blocks before them; it records its calls."""

    def __init__(self, place):
        self.place = place
        self.calls = []

    def __call__(self, channels, stage, block, stride=1, convolution=None):
        self.calls.append((channels, stage, block, stride, convolution))
        return Counting(stride if convolution else 1)


class Counting(gluon.HybridBlock):
    def __init__(self, stride):
        super().__init__()
        self.stride = stride

    def hybrid_forward(self, F, x, number=0):
        x = x if self.stride == 1 else F.Pooling(x, kernel=(1, 1), stride=(self.stride, self.stride), pool_type='max')
        return 2 * x, number + F.ones(1)


def test_units_on_the_branch_come_in_order_also_without_a_shortcut():
    factory = Recorder('branch')
    net = MobileNetV2(RELU, RELU, attention=factory)
    widths = [16] + 2 * [24] + 3 * [32] + 4 * [64] + 3 * [96] + 3 * [160] + [320]
    assert [call[0] for call in factory.calls] == widths
    assert [call[1:3] for call in factory.calls[:4]] == [(1, 0), (2, 0), (2, 1), (3, 0)]
    assert [i for i, call in enumerate(factory.calls) if call[3] == 2] == [1, 3, 6, 13]
    assert all(call[4] is None for call in factory.calls)

    net.initialize()
    carry = ()
    x = net.stem(mx.nd.random.normal(shape=(1, 3, 64, 64)))
    for stage in net.stages:
        x, *carry = stage(x, *carry)
    assert carry[0].asscalar() == 17

    block = net.stages[1][0]
    x = mx.nd.random.normal(shape=(1, 16, 8, 8))
    expected = 2 * block.project(block.depthwise(block.expand(x)))
    np.testing.assert_array_equal(block(x)[0].asnumpy(), expected.asnumpy())
    block = net.stages[1][1]
    x = mx.nd.random.normal(shape=(1, 24, 8, 8))
    expected = x + 2 * block.project(block.depthwise(block.expand(x)))
    np.testing.assert_allclose(block(x)[0].asnumpy(), expected.asnumpy(), rtol=1e-6)


def test_units_in_place_of_the_depthwise_convolution():
    factory = Recorder('convolution')
    net = MobileNetV2(RELU, RELU, attention=factory)
    # Six times the width of the block before, except in the first.
    widths = [32, 96] + 2 * [144] + 3 * [192] + 4 * [384] + 3 * [576] + 3 * [960]
    assert [call[0] for call in factory.calls] == widths
    for channels, *_, stride, convolution in factory.calls:
        assert (convolution.in_channels, convolution.groups, convolution.stride) == (channels, channels, stride)
        assert convolution.activation is RELU
    assert all(block.depthwise is None for stage in net.stages for block in stage)
    net.initialize()
    assert net(mx.nd.ones((2, 3, 64, 64))).shape == (2, 1000)


@pytest.mark.parametrize('size', [(1, 33, 65), (2, 224, 160), (1, 448, 448), (3, 32, 32)], ids=str)
@pytest.mark.parametrize('name', ['mobilenet_v2', 'mnasnet0_5'])
def test_inputs_of_any_size(name, size):
    net = get_model(name, classes=3)
    net.initialize()
    batch, *side = size
    assert net(mx.nd.ones((batch, 3, *side))).shape == (batch, 3)


@pytest.mark.parametrize(('name', 'plain'), [('mobilenet_v2', 'ReLU6'), ('mnasnet1_0', 'Activation')])
def test_the_stem_and_the_last_convolution_keep_the_plain_activation(name, plain):
    net = get_model(f'atac_{name}')

    def kinds(block):
        return {type(child).__name__ for child in _all(block)} - {'Conv2D', 'BatchNorm', 'HybridSequential'}

    assert kinds(net.stem) == kinds(net.last) == {plain}
    assert type(net.stages[3][1].depthwise[2]).__name__ == 'ATAC'
    first = get_model(f'atac_{name}', act_layers=1)
    assert type(first.stages[0][0].depthwise[2]).__name__ == plain
    assert type(first.stages[-1][0].depthwise[2]).__name__ == 'ATAC'


def test_initial_values_are_the_published_ones():
    mx.random.seed(0)
    net = get_model('mobilenet_v2')
    net.initialize(mx.init.MSRAPrelu())
    assert net.fc.weight.data().asnumpy().std() == pytest.approx(0.01, rel=0.01)
    assert not net.fc.bias.data().asnumpy().any()
    # Fan-out is not divided by the groups of the depth-wise convolution.
    block = net.stages[5][1]
    assert block.depthwise[0].weight.data().asnumpy().std() == pytest.approx((2 / (960 * 9)) ** 0.5, rel=0.03)
    assert block.project[0].weight.data().asnumpy().std() == pytest.approx((2 / 160) ** 0.5, rel=0.01)


def test_mnasnets_classifier_starts_small_unless_the_original_is_asked_for():
    mx.random.seed(0)
    weights = {}
    for original in (False, True):
        net = get_model('mnasnet0_5', original_init=original)
        net.initialize()
        weights[original] = net.fc.weight.data().asnumpy()
    assert weights[False].std() == pytest.approx(0.01, rel=0.01)
    assert weights[True].std() == pytest.approx(1, rel=0.01)
    assert weights[True].mean() == pytest.approx(0.01, abs=4 / weights[True].size ** 0.5)


def test_mnasnets_norms_move_slowly():
    net = get_model('mnasnet0_5', use_global_stats=True)
    norms = [layer for layer in _all(net) if isinstance(layer, nn.BatchNorm)]
    assert len(norms) == 52
    assert {layer._kwargs['momentum'] for layer in norms} == {0.9997}
    assert all(layer._kwargs['use_global_stats'] for layer in norms)


@pytest.mark.parametrize('name', ['mnasnet0_6', 'mnasnet0_05', 'mnasnet1_00', 'mnasnet2_0'])
def test_other_widths_of_mnasnet_do_not_exist(name):
    with pytest.raises(ValueError, match='mnasnet1_0'):
        get_model(name)


def test_relu6():
    unit = activation_factory('relu6')(4)
    x = mx.nd.array([-1, 0.5, 5.5, 7])
    x.attach_grad()
    with mx.autograd.record():
        y = unit(x)
    y.backward()
    assert y.asnumpy().tolist() == [0, 0.5, 5.5, 6]
    assert x.grad.asnumpy().tolist() == [0, 1, 1, 0]
