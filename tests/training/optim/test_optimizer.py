"""What is trained, what decays, and that a step is NAG's."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from model import get_model
from tests.training.flat import trainer_of
from training.optim.optimizer import undecayed
from training.seeds import derive, stream


def test_no_wd_spares_gammas_betas_and_biases_only():
    net = get_model('cifar_atac_resnet8_v2')
    net.initialize()
    trainer_of(net, 0.1, 0.9, 1e-4, no_wd=True)
    spared = {name for name, p in net._collect_params_with_prefix().items() if p.wd_mult == 0.0}
    assert spared == set(undecayed(net)) | {'features.0.gamma'}
    assert {'output.bias', 'features.5.gamma', 'features.5.beta'} <= spared
    assert not any(name.endswith(('weight', 'alpha')) for name in spared)


def test_convolutions_with_groups_and_layer_norms():
    net = get_model('dca_se_mobilenet_v2')
    every = net._collect_params_with_prefix()
    norms = {name for name in undecayed(net) if 'merge.norm' in name or ('adapter' in name and 'gamma' in name)}
    grouped = set(undecayed(net, no_wd=False, no_wd_depthwise=True))
    assert grouped == {name for name, p in every.items() if len(p.shape) == 4 and p.shape[1:] == (1, 3, 3)}
    assert len(grouped) == 17
    kept = set(undecayed(net)) - set(undecayed(net, wd_layer_norm=True))
    assert kept == {name for name in norms if name.endswith('gamma')}
    assert len(kept) == 16 + 6  # merges, and adapters where widths differ
    net.initialize()
    trainer_of(net, 0.1, 0.9, 1e-4, no_wd=True, no_wd_depthwise=True, wd_layer_norm=True)
    assert {name for name, p in every.items() if p.wd_mult == 0.0} == (set(undecayed(net)) | grouped) - kept


def test_decay_is_everywhere_without_no_wd():
    net = get_model('cifar_resnet8_v2')
    net.initialize()
    trainer = trainer_of(net, 0.1, 0.9, 1e-4)
    assert {p.wd_mult for p in trainer._params} == {1.0}


def test_frozen_and_shared_parameters():
    net = gluon.nn.HybridSequential()
    first = gluon.nn.Dense(3, in_units=3)
    frozen = gluon.nn.Dense(3, in_units=3)
    frozen.weight.lr_mult = 0.0
    frozen.bias.grad_req = 'null'
    net.add(first, gluon.nn.Dense(3, in_units=3, params=first.params), frozen)
    net.initialize()
    trainer = trainer_of(net, 0.1, 0.9, 0.0)
    assert [p.name for p in trainer._params] == [first.weight.name, first.bias.name]


# MXNet's momentum applies the decay to a weight that has already moved (see training.optim.layout).
@pytest.mark.parametrize(('wd', 'tolerance'), [(0.0, 1e-6), (0.01, 3e-3)])
@pytest.mark.parametrize('contexts', [[mx.cpu()], [mx.cpu(0), mx.cpu(1)]])
def test_a_step_is_nesterovs(contexts, wd, tolerance):
    net = gluon.nn.Dense(1, in_units=1, use_bias=False)
    net.initialize(mx.init.Constant(2.0), ctx=contexts)
    trainer = trainer_of(net, 0.1, 0.9, wd, devices=len(contexts))
    weight, momentum = 2.0, 0.0
    for _ in range(3):
        with autograd.record():
            losses = [3 * net(mx.nd.ones((1, 1), ctx=context)) for context in contexts]
        autograd.backward(losses)
        trainer.step(len(contexts))
        gradient = 3 + wd * weight
        momentum = 0.9 * momentum + gradient
        weight -= 0.1 * (gradient + 0.9 * momentum)
        np.testing.assert_allclose(net.weight.data(contexts[-1]).asscalar(), weight, atol=tolerance)


def test_seeds_differ_by_purpose_and_position():
    seeds = {derive(s, p, *at) for s in (0, 1) for p in ('step', 'weights') for at in ((0, 0), (0, 1), (1, 0))}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert derive(0, 'step', 3, 4) == derive(0, 'step', 3, 4)
    assert stream(0, 'a', 1).random() == stream(0, 'a', 1).random() != stream(0, 'a', 2).random()
