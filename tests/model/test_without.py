"""Networks without norms and without shortcuts, on which DIANet's stability trials are run."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from model import count, get_model
from model.layers.no_norm import NoNorm

NAMES = [
    'cifar_resnet8_v2',
    'cifar_resnet8_v1',
    'cifar_resnet11bn_v1',
    'cifar_preresnet11',
    'cifar_wrn10_1',
    'cifar_resnext11_2x8d',
    'resnet18_v1b',
    'resnet26_v1',
]


def layers_of(net, kind):
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, kind) else None)
    return found


@pytest.mark.parametrize('name', NAMES)
def test_no_norms_and_no_shortcuts(name):
    side = 32 if name.startswith('cifar') else 64
    plain, without = get_model(name), get_model(name, norm='none', shortcuts=False)
    norms = layers_of(plain, gluon.nn.BatchNorm)
    assert layers_of(without, gluon.nn.BatchNorm) == []
    shortcuts = [child for child in plain._collect_params_with_prefix() if 'downsample' in child]
    assert shortcuts
    assert not [child for child in without._collect_params_with_prefix() if 'downsample' in child]
    sizes = {key: int(np.prod(p.shape)) for key, p in plain._collect_params_with_prefix().items()}
    gone = sum(sizes[key] for key in shortcuts if key.endswith('weight') and 'running' not in key)
    gone += 2 * sum(norm.gamma.shape[0] for norm in norms)
    shape = (1, 3, side, side)
    assert count(plain, shape).params - count(without, shape).params == gone
    assert len(layers_of(get_model(name, norm='none'), NoNorm)) == len(norms)


@pytest.mark.parametrize('name', NAMES)
def test_a_block_without_a_shortcut_is_its_branch(name):
    """If a branch gives zeros, nothing is left unless there is a shortcut."""
    for there in (True, False):
        net = get_model(name, shortcuts=there)
        net.initialize(mx.init.Xavier())
        block = net.stages[-1][0]
        last = getattr(block, 'conv3', block.conv2)
        last.weight.set_data(mx.nd.zeros(last.weight.shape))
        out = block(mx.nd.random.normal(shape=(2, block.conv1.weight.shape[1], 4, 4)))
        assert out.shape[2:] == (2, 2)
        assert bool(out.asnumpy().any()) == there


@pytest.mark.parametrize(
    ('name', 'options', 'words'),
    [
        ('aff_resnet18_v1b', {'shortcuts': False}, ['shortcuts is False', 'fuse a branch with its shortcut']),
        ('resnet18_v1b', {'norm': 'none', 'last_gamma': True}, ['last_gamma is True', 'no gamma']),
        ('cifar_preresnet11', {'norm': 'none', 'branch_norm': True}, ['branch_norm is True', 'no norm']),
        ('cifar_cbam_resnet11bn_v1', {'norm': 'none', 'original_init': True}, ["norm is 'none'"]),
        ('cifar_resnet11bn_v1', {'norm': 'none', 'norm_momentum': 0.5}, ['no batch norms']),
        ('cifar_resnet11bn_v1', {'norm': 'nothing'}, ["'nothing'", 'batch, group, none']),
        ('mobilenet_v2', {'shortcuts': False}, ["no argument 'shortcuts'"]),
    ],
)
def test_what_makes_no_sense_beside_it(name, options, words):
    with pytest.raises(ValueError) as caught:
        get_model(name, **options)
    assert [word for word in words if word not in str(caught.value)] == []
