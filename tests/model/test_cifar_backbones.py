"""DIANet's CIFAR backbones: widths, depths, input sizes, initial values, and where the units are."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from model import count, get_model
from model.activation import activation_factory
from model.backbone.cifar_preresnet import CifarPreResNet, CifarWideResNet
from model.backbone.cifar_resnet_v1 import CifarBasicResNet, CifarResNetV1, CifarResNeXt
from model.layers.carry import split
from model.layers.factories import AttentionFactory

RELU = activation_factory('relu')
SMALL = ('cifar_resnet11bn_v1', 'cifar_preresnet11', 'cifar_wrn10_1', 'cifar_resnext11_2x8d')


class Counter(gluon.HybridBlock):
    """A unit that passes on how many units came before it, and adds that number to its input."""

    def hybrid_forward(self, F, x, *carry):
        seen = carry[0] + 1 if carry else F.ones_like(x.mean(axis=(1, 2, 3), keepdims=True))
        return F.broadcast_add(x, seen), seen


class Recording(AttentionFactory):
    """A factory that makes counters, and notes what it was asked for."""

    def __init__(self, place='branch'):
        self.place, self.calls = place, []

    def __call__(self, channels, stage, block, stride=1, convolution=None):
        self.calls.append((channels, stage, block, stride))
        if convolution is None:
            return Counter()
        self.convolution = convolution
        unit = nn.HybridSequential()
        unit.add(nn.Conv2D(channels, 3, stride, 1, groups=convolution.groups, in_channels=convolution.in_channels))
        return unit


def networks(attention):
    arguments = {'activation': RELU, 'default_activation': RELU, 'attention': attention}
    return {
        'basic': lambda: CifarBasicResNet(2, **arguments),
        'resnet': lambda: CifarResNetV1(2, **arguments),
        'preresnet': lambda: CifarPreResNet(2, **arguments),
        'wrn': lambda: CifarWideResNet(2, 1, **arguments),
        'resnext': lambda: CifarResNeXt(2, 2, 8, **arguments),
    }


@pytest.mark.parametrize(
    ('name', 'near'),
    [
        ('cifar_resnet28bn_v1', ['cifar_resnet20bn_v1', 'cifar_resnet29bn_v1']),
        ('cifar_resnet2bn_v1', ['cifar_resnet11bn_v1']),
        ('cifar_preresnet165', ['cifar_preresnet164', 'cifar_preresnet173']),
        ('cifar_wrn28_0', ['wrn28_4']),
        ('cifar_wrn30_10', ['cifar_wrn28_10', 'cifar_wrn34_10']),
        ('cifar_wrn4_2', ['cifar_wrn10_2']),
        ('cifar_resnext100_8x32d', ['cifar_resnext92_8x32d', 'cifar_resnext101_8x32d']),
        ('cifar_resnext29_8x0d', ['resnext29_8x32d']),
        ('cifar_resnext29_0x4d', ['resnext29_8x32d']),
    ],
)
def test_other_depths_are_refused_with_the_nearest_names(name, near):
    with pytest.raises(ValueError) as caught:
        get_model(name)
    assert name[len('cifar_') :] in str(caught.value)
    for word in near:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'params', 'macs'),
    [
        # Counted on the originals without their DIA units, which take 645,120 multiply-adds in the first.
        ('cifar_resnet29bn_v1', 336_244, 47_774_720 - 645_120),
        ('cifar_preresnet29', 338_036, 47_774_720 - 645_120),
        ('cifar_wrn16_2', 704_180, None),
        ('cifar_wrn16_4', 2_773_812, None),
        ('cifar_resnext29_8x32d', 8_670_212, None),
    ],
)
def test_counts_without_units(name, params, macs):
    options = {} if 'v1' in name or 'resnext' in name else {'branch_norm': True}
    cost = count(get_model(name, classes=100, **options), (1, 3, 32, 32))
    assert cost.params == params
    assert macs in (None, cost.macs)


@pytest.mark.parametrize('name', SMALL)
@pytest.mark.parametrize('shape', [(1, 3, 33, 40), (2, 3, 40, 33), (1, 3, 5, 1)])
def test_input_sizes(name, shape):
    net = get_model(name)
    net.initialize()
    assert net(mx.nd.ones(shape)).shape == (shape[0], 10)


@pytest.mark.parametrize(
    ('cardinality', 'width', 'options', 'inner'),
    [
        (8, 32, {}, (256, 512, 1024)),  # as published: 8 C / 4
        (2, 8, {}, (16, 32, 64)),
        (1, 24, {}, (24, 48, 96)),
        (8, 64, {'channels': (64, 256, 512, 1024)}, (512, 1024, 2048)),  # Xie et al.'s
    ],
)
def test_resnext_widths(cardinality, width, options, inner):
    net = get_model(f'cifar_resnext11_{cardinality}x{width}d', **options)
    stages = (net.layer1[0], net.layer2[0], net.layer3[0])
    assert tuple(block.conv2.weight.shape[0] for block in stages) == inner
    # The weight of a grouped convolution holds one group's inputs.
    assert tuple(block.conv2.weight.shape[1] for block in stages) == tuple(n // cardinality for n in inner)
    channels = options.get('channels', (32, 128, 256, 512))
    assert tuple(block.conv3.weight.shape[0] for block in stages) == channels[1:]
    assert net.conv1.weight.shape[0] == channels[0]


def test_xies_resnext29_has_its_published_size():
    net = get_model('cifar_resnext29_8x64d', channels=(64, 256, 512, 1024))
    assert count(net, (1, 3, 32, 32)).params == pytest.approx(34.4e6, abs=0.05e6)


def test_channels_of_the_bottleneck_networks():
    for name in ('cifar_resnet11bn_v1', 'cifar_preresnet11'):
        net = get_model(name, channels=(8, 32, 32, 64))
        assert net.conv1.weight.shape[0] == 8
        assert net.layer1[0].conv2.weight.shape[0] == 8
        assert net.layer2[0].downsample is not None  # because of the stride, not of the width
        assert net.fc.weight.shape == (10, 64)


def test_wrn_drops_out_between_its_convolutions_in_training_only():
    mx.random.seed(1)
    net = get_model('cifar_wrn10_1', block_drop=0.5)
    net.initialize()
    assert net.layer1[0].drop._rate == 0.5
    assert get_model('cifar_wrn10_1').layer1[0].drop is None
    data = mx.nd.random.normal(shape=(2, 3, 32, 32))
    assert (net(data).asnumpy() == net(data).asnumpy()).all()
    with autograd.record():
        once, twice = net(data), net(data)
    assert np.abs((once - twice).asnumpy()).max() > 1e-3


@pytest.mark.parametrize('name', ['preresnet', 'wrn'])
@pytest.mark.parametrize(
    ('attention', 'branch_norm', 'there'),
    [
        ('', None, False),
        ('dia_', None, True),
        ('se_', None, True),
        ('se_', False, False),
        ('', True, True),
    ],
)
def test_the_branch_ends_in_a_norm_where_a_unit_follows(name, attention, branch_norm, there):
    backbone = {'preresnet': 'preresnet11', 'wrn': 'wrn10_1'}[name]
    net = get_model(f'cifar_{attention}{backbone}', branch_norm=branch_norm)
    blocks = (net.layer1[0], net.layer2[0], net.layer3[0])
    assert [block.branch_norm is not None for block in blocks] == [there] * 3


def test_a_unit_in_the_convolutions_place_asks_for_no_branch_norm():
    assert get_model('cifar_sk_preresnet11').layer1[0].branch_norm is None


@pytest.mark.parametrize('name', networks(None))
def test_units_on_the_branch_hand_on_their_carry(name):
    factory = Recording()
    net = networks(factory)[name]()
    widths = {'resnext': (128, 256, 512), 'wrn': (16, 32, 64), 'basic': (16, 32, 64)}.get(name, (64, 128, 256))
    expected = [(widths[s], s + 1, b, 2 if s > 0 and b == 0 else 1) for s in range(3) for b in range(2)]
    assert factory.calls == expected
    net.initialize()
    x = net.conv1(mx.nd.ones((1, 3, 8, 8)))
    carry = ()
    for stage in (net.layer1, net.layer2, net.layer3):
        x, carry = split(stage(x, *carry))
    assert carry[0].asscalar() == 6
    assert net(mx.nd.ones((1, 3, 8, 8))).shape == (1, 10)


@pytest.mark.parametrize('name', ['resnet', 'preresnet', 'resnext'])
def test_units_in_the_convolutions_place(name):
    factory = Recording('convolution')
    net = networks(factory)[name]()
    inner = (16, 32, 64)  # the same in all three: 2 x 8 in ResNeXt
    assert [call[0] for call in factory.calls] == [inner[s] for s in range(3) for _ in range(2)]
    assert factory.convolution.groups == (2 if name == 'resnext' else 1)
    assert not any('conv2' in parameter for parameter in net._collect_params_with_prefix())
    net.initialize()
    assert net(mx.nd.ones((1, 3, 32, 32))).shape == (1, 10)


def test_a_basic_block_has_no_convolution_to_stand_for():
    with pytest.raises(ValueError, match='use a bottleneck'):
        networks(Recording('convolution'))['wrn']()


@pytest.mark.parametrize('name', SMALL)
@pytest.mark.parametrize(('layers', 'order', 'plugged'), [(1, 'bac', [3]), (2, 'pre', [1, 2]), (3, 'bac', [1, 2, 3])])
def test_activation_units_by_stage(name, layers, order, plugged):
    net = get_model(name, act_type='prelu', act_layers=layers, act_order=order)
    found = {key.split('.')[0] for key in net._collect_params_with_prefix() if 'relu' in key}
    assert found == {f'layer{stage}' for stage in plugged}
    kinds = {type(block.relu1).__name__ for block in getattr(net, f'layer{plugged[0]}')}
    assert kinds == {'PReLU'}


@pytest.mark.parametrize('name', SMALL)
def test_initial_values(name):
    """Convolutions are initialised by fan-out whatever ``initialize`` says, the classifier as in each original."""
    mx.random.seed(3)
    net = get_model(name, classes=400)
    net.initialize(mx.init.One())
    weight = net.layer3[0].conv2.weight.data().asnumpy()
    assert weight.std() == pytest.approx(np.sqrt(2 / (9 * weight.shape[0])), rel=0.05)
    weight, bias = net.fc.weight.data().asnumpy(), net.fc.bias.data().asnumpy()
    width = weight.shape[1]
    if 'resnext' in name:
        assert weight.std() == pytest.approx(np.sqrt(2 / width), rel=0.02)
    else:
        assert np.abs(weight).max() == pytest.approx(width**-0.5, rel=0.01)
    if 'wrn' in name or 'resnext' in name:
        assert not bias.any()
    else:
        assert 0.9 * width**-0.5 < np.abs(bias).max() <= width**-0.5


@pytest.mark.parametrize('final_drop', [0.0, 0.4])
def test_dropout_before_the_classifier(final_drop):
    drop = get_model('cifar_resnet11bn_v1', final_drop=final_drop).drop
    assert drop is None if final_drop == 0 else drop._rate == final_drop
