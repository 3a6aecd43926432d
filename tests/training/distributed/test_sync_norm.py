"""Norms over several ranks, simulated in one process: what they compute, and that equal ranks change nothing."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from model import get_model
from model.layers.input_norm import InputNorm
from model.layers.sample_variance import SampleVarianceNorm
from training.distributed.ranks import Ranks
from training.distributed.sync_norm import synchronise
from training.step import build_network


class Alike(Ranks):
    """Simulate several ranks, all with this one's images."""

    def __init__(self, size):
        self.size = size

    def sum_up(self, array, name):
        array *= self.size


def values(block):
    return {name: p.data().asnumpy() for name, p in block._collect_params_with_prefix().items()}


def passed(block, x, steps=2):
    """Return output, gradients and parameters after some passes, and the output of inference."""
    x.attach_grad()
    for _ in range(steps):
        with autograd.record():
            y = block(x)
            loss = (y * nd.arange(y.size).reshape(y.shape) / y.size + y**2).sum()
        loss.backward()
    found = {'out': y, 'x': x.grad, 'inferred': block(x)}
    found.update((name, p.grad()) for name, p in block._collect_params_with_prefix().items() if p.grad_req != 'null')
    return {name: array.asnumpy() for name, array in found.items()}, values(block)


@pytest.mark.parametrize('hybrid', [False, True])
@pytest.mark.parametrize('shape', [(4, 3, 5, 2), (6, 3)])
@pytest.mark.parametrize('kind', [gluon.nn.BatchNorm, InputNorm, SampleVarianceNorm])
def test_of_one_rank_or_of_equal_ranks_they_are_mxnets(kind, shape, hybrid):
    if kind is SampleVarianceNorm and len(shape) == 2:
        pytest.skip('it is of maps')
    x = nd.array(3 + np.random.RandomState(0).standard_normal(shape))

    def made():
        block = kind(3) if kind is InputNorm else kind(in_channels=3)
        block.initialize()
        if kind is not InputNorm:
            block.gamma.set_data(nd.array([0.5, 1, 2]))
        return block

    expected = passed(made(), x)
    for ranks in (Ranks(), Alike(2)):
        block = made()
        assert synchronise(block, ranks) == 1
        if hybrid:
            block.hybridize(static_alloc=True, static_shape=True)
        for found, wanted in zip(passed(block, x), expected):
            assert found.keys() == wanted.keys()
            for name, array in found.items():
                if kind is SampleVarianceNorm and ranks.size > 1 and name in ('running_var', 'inferred'):
                    continue  # there are twice as many values
                np.testing.assert_allclose(array, wanted[name], rtol=2e-4, atol=2e-4, err_msg=name)


def test_norms_of_frozen_stages_and_shared_ones():
    net = get_model('cifar_share_sk_resnet11bn_v1', classes=4)
    norms = []
    net.apply(lambda block: norms.append(block) if isinstance(block, gluon.nn.BatchNorm) else None)
    norms[0]._kwargs['use_global_stats'] = True
    assert synchronise(net, Ranks()) == len({id(norm) for norm in norms}) - 1
    assert synchronise(get_model('cifar_resnet8_v1', norm='group'), Ranks()) == 0


def test_a_network_trains_as_without():
    def trained(changed):
        net = build_network(lambda: get_model('cifar_atac_resnet8_v2', classes=4), 0, [mx.cpu()], 16)
        if changed:
            assert synchronise(net, Alike(2)) > 10
        net.hybridize()
        data = nd.array(np.random.RandomState(0).standard_normal((8, 3, 16, 16)))
        with autograd.record():
            loss = gluon.loss.SoftmaxCrossEntropyLoss()(net(data), nd.arange(8) % 4)
        loss.backward()
        names = net._collect_params_with_prefix().items()
        return net(data).asnumpy(), {n: p.grad().asnumpy() for n, p in names if p.grad_req != 'null' and p.lr_mult}

    (out, slopes), (expected, wanted) = trained(True), trained(False)
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-3)
    for name, slope in slopes.items():
        np.testing.assert_allclose(slope, wanted[name], rtol=1e-2, atol=1e-3, err_msg=name)
