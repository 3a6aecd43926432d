"""The momentum of running statistics, as an option and as training chooses it."""

import mxnet as mx
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from model import get_model
from model.layers.input_norm import InputNorm
from model.layers.norm_momentum import limit_norm_momentum
from tests.model.cases import BACKBONES
from training.running_statistics import fit_norm_momentum, fitting_momentum


def momenta(net):
    found = []
    net.apply(
        lambda block: found.append(block._kwargs['momentum']) if isinstance(block, (nn.BatchNorm, InputNorm)) else None
    )
    return found


@pytest.mark.parametrize('name', BACKBONES)
def test_every_backbone_takes_it(name):
    net = get_model(name, norm_momentum=0.75)
    assert set(momenta(net)) == {0.75}


@pytest.mark.parametrize('name', ['atac_se_mnasnet0_5', 'cbam_mnasnet0_5', 'cifar_atac_resnet8_v2'])
def test_units_too(name):
    assert set(momenta(get_model(name, norm_momentum=0.75))) == {0.75}


def test_published_defaults_stay():
    assert set(momenta(get_model('mnasnet0_5'))) == {0.9997}
    assert set(momenta(get_model('cbam_resnet18_v1b'))) == {0.9, 0.99}


@pytest.mark.parametrize('name', ['cifar_resnet8_v2', 'cifar_wrn10_1'])
def test_it_is_what_the_statistics_move_by(name):
    net = get_model(name, norm_momentum=0.75)
    net.initialize(mx.init.MSRAPrelu())
    x = mx.nd.random.uniform(1, 2, (4, 3, 8, 8))
    net(x)
    norm = next(p for key, p in net._collect_params_with_prefix().items() if key.endswith('running_var'))
    with autograd.record():
        loss = net(x).sum()
    loss.backward()
    mx.nd.waitall()
    # A quarter of the way from one to the batch's variance.
    other = get_model(name, norm_momentum=0.0)
    other.initialize(mx.init.MSRAPrelu())
    other(x)
    for key, parameter in other._collect_params_with_prefix().items():
        parameter.set_data(net._collect_params_with_prefix()[key].data())
    before = norm.data().asnumpy()
    with autograd.record():
        loss = net(x).sum()
    loss.backward()
    with autograd.record():
        loss = other(x).sum()
    loss.backward()
    mx.nd.waitall()
    batch = other._collect_params_with_prefix()[
        next(key for key in other._collect_params_with_prefix() if key.endswith('running_var'))
    ]
    expected = 0.75 * before + 0.25 * batch.data().asnumpy()
    assert norm.data().asnumpy() == pytest.approx(expected, rel=1e-4)


def test_a_network_without_batch_norms_refuses_it():
    with pytest.raises(ValueError, match='no batch norms'):
        get_model('resnet18_v1b', norm='group', norm_momentum=0.5)


def test_limits_lower_and_never_raise():
    net = get_model('cbam_resnet18_v1b')
    assert limit_norm_momentum(net, 0.95) == 0.99
    assert set(momenta(net)) == {0.9, 0.95}
    assert limit_norm_momentum(net, 0.99) == 0.95
    assert set(momenta(net)) == {0.9, 0.95}


@pytest.mark.parametrize(('steps', 'left'), [(70, None), (1_000, 0.01), (100_000, 0.01)])
def test_a_tenth_of_a_run_forgets_the_initial_values(steps, left):
    momentum = fitting_momentum(steps)
    assert 0.9 <= momentum < 1
    if left is None:
        assert momentum == 0.9
    else:
        assert momentum ** (steps / 10) == pytest.approx(left)


def test_published_runs_keep_the_published_momentum_and_short_ones_are_told():
    net = get_model('mnasnet0_5')
    assert fit_norm_momentum(net, {}, 150 * 2502) is None
    assert set(momenta(net)) == {0.9997}
    note = fit_norm_momentum(net, {}, 70)
    assert 'momentum 0.9 in place of 0.9997' in note
    assert 'norm_momentum' in note
    assert set(momenta(net)) == {0.9}


def test_what_the_user_says_stays():
    net = get_model('mnasnet0_5', norm_momentum=0.9997)
    assert fit_norm_momentum(net, {'norm_momentum': 0.9997}, 70) is None
    assert set(momenta(net)) == {0.9997}
