"""A new attention unit takes one file and one registration: it then has names on all backbones, also connected."""

import re
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon import nn

from model import count, get_model, input_size, list_models, register_attention
from model.attention import ATTENTIONS
from model.attention.unit import ChannelUnit
from model.backbone.table import BACKBONES

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    'cifar_{}resnet8_v2',
    'cifar_{}resnet11bn_v1',
    'cifar_{}preresnet11',
    'cifar_{}wrn10_1',
    'cifar_{}resnext11_2x8d',
    '{}resnet18_v1b',
    '{}mobilenet_v2',
    '{}mnasnet0_5',
)


class Tilt(ChannelUnit):
    """``x * sigmoid(layer_norm(mean(x)))``."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.slope = nn.LayerNorm(in_channels=channels)

    def transform(self, F, mean):
        return F.Activation(self.slope(mean), act_type='sigmoid')


@pytest.fixture
def tilt():
    register_attention('tilt', Tilt)
    yield
    del ATTENTIONS['tilt']


def places():
    """Return every listed network without attention that takes units on its branches."""
    return [
        ('cifar_' if row.cifar else '', name)
        for row in BACKBONES.values()
        if 'branch' in row.places
        for name in row.listed
    ]


@pytest.mark.parametrize('unit', ['eca', 'tilt'])
def test_it_has_names_on_every_backbone(unit, tilt):
    expected = {
        lead + act + connection + f'{unit}_' + member
        for lead, member in places()
        for act in ('', 'atac_')
        for connection in ('', 'dca_', 'share_')
    }
    assert set(list_models(f'*{unit}_*')) == expected
    assert len(expected) > 80


def test_without_the_registration_there_are_none():
    assert list_models('*tilt_*') == []
    with pytest.raises(ValueError, match='tilt'):
        get_model('tilt_resnet50_v1b')


@pytest.mark.parametrize('pattern', SMALL)
def test_it_adds_itself_and_with_dca_a_connection(pattern, tilt):
    names = [pattern.format(part) for part in ('', 'tilt_', 'dca_tilt_')]
    side = input_size(names[0])
    plain, alone, connected = (count(get_model(name), (1, 3, side, side)) for name in names)
    assert plain.params < alone.params < connected.params
    assert plain.macs == alone.macs < connected.macs
    bottleneck = get_model(names[2], adapter='bottleneck')  # an option of every connection of a vector
    assert count(bottleneck, (1, 3, side, side)).params != connected.params


@pytest.mark.parametrize('name', ['cifar_tilt_resnet11bn_v1', 'cifar_dca_tilt_wrn10_1'])
def test_it_learns(name, tilt):
    net = get_model(name)
    mx.random.seed(0)
    net.initialize(mx.init.MSRAPrelu())
    net.hybridize()
    x = mx.nd.array(np.random.RandomState(0).standard_normal((4, 3, 32, 32)))
    with autograd.record():
        loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(x), mx.nd.arange(4))
    loss.backward()
    slopes = [p.grad().asnumpy() for key, p in net._collect_params_with_prefix().items() if key.endswith('slope.gamma')]
    assert len(slopes) == 3
    assert all(np.abs(grad).max() > 0 for grad in slopes)


def test_eca_is_one_file_and_one_registration():
    """No other module of the package knows of it, except for the names that other projects give to its parameters."""
    knowing = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / 'model').rglob('*.py'))
        if path.parent.name != 'convert' and re.search(r'\beca', path.read_text(encoding='utf-8'), re.IGNORECASE)
    ]
    assert knowing == ['model/attention/eca.py', 'model/attention/factory.py']
    factory = (ROOT / 'model/attention/factory.py').read_text(encoding='utf-8')
    assert (
        sum(bool(re.search(r'\beca', line, re.IGNORECASE)) for line in factory.splitlines()) == 2
    )  # its import and its registration
