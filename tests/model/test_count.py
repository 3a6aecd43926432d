"""Counts against cases computed by hand."""

import mxnet as mx
from mxnet import gluon
from mxnet.gluon import nn

from model import count, get_model
from model.count import count_params


def test_convolutions_dense_and_deconvolution():
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(8, 3, 2, 1, groups=2, in_channels=4),  # 8*2*9 weights at 8x8 positions
        nn.Conv2DTranspose(6, 2, 2, in_channels=8),  # 8*6*4 weights at 8x8 input positions
        nn.GlobalAvgPool2D(),
        nn.Dense(5, in_units=6),  # 30
    )
    macs = 8 * 2 * 9 * 64 + 8 * 6 * 4 * 64 + 30
    params = (8 * 2 * 9 + 8) + (8 * 6 * 4 + 6) + (30 + 5)
    assert count(net, (1, 4, 16, 16)) == (params, macs)
    assert count(net, (7, 4, 16, 16)) == (params, macs)


def test_shared_units_count_parameters_once_and_macs_twice():
    class Twice(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            unit = nn.Conv2D(3, 1, use_bias=False, in_channels=3)
            self.first, self.second = unit, unit

        def hybrid_forward(self, F, x):
            return self.second(self.first(x))

    assert count(Twice(), (1, 3, 4, 4)) == (9, 2 * 9 * 16)


def test_a_layer_applied_to_maps_of_two_sizes_counts_each():
    class Pyramid(gluon.HybridBlock):
        def __init__(self):
            super().__init__()
            self.unit = nn.Conv2D(3, 1, use_bias=False, in_channels=3)
            self.pool = nn.MaxPool2D(2)

        def hybrid_forward(self, F, x):
            return self.pool(self.unit(x)) + self.unit(self.pool(x))

    assert count(Pyramid(), (1, 3, 8, 8)) == (9, 9 * (64 + 16))


def test_frozen_parameters_do_not_count():
    net = get_model('cifar_resnet8_v2')
    everything = count_params(net)
    net.output.weight.grad_req = 'null'
    assert count_params(net) == everything - 64 * 10


def test_nothing_is_computed_or_initialised():
    net = get_model('resnet18_v1b')
    count(net, (1, 3, 224, 224))
    assert all(parameter._data is None for parameter in net.collect_params().values())
    assert mx.nd.zeros(1).asscalar() == 0
