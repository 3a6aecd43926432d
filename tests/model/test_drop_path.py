"""Stochastic depth: what is dropped where, what is kept, and that it has no effect outside training."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from inference.network import LoadedNetwork
from model import get_model
from model.layers.carry import split
from model.layers.drop_path import _blocks

# One of each kind of block, each with another kind of attention. Norms use their running statistics.
NETWORKS = {
    'se_resnet18_v1b': 0.5,
    'dca_se_resnet50_v1b': 0.5,
    'cifar_resnet8_v1': 0.5,
    'cifar_resnet11bn_v1': 0.5,
    'cifar_atac_resnet8_v2': 0.5,
    'cifar_aff_resnet8_v2': 0.5,
    'cifar_dia_preresnet20': 0.5,
    'cifar_wrn10_1': 0.5,
    'cifar_resnext11_2x8d': 0.5,
    'mobilenet_v2': 0.5,
    'mnasnet0_5': 0.5,
    'cifar_residual_attention56': 0.5,
}
SEEN = 64  # samples, all the same image


def built(name, rate, **options):
    net = get_model(name, drop_path=rate, use_global_stats=True, **options)
    mx.random.seed(3)
    net.initialize(mx.init.MSRAPrelu())
    return net


def blocks(net):
    return [block for stage in net.stages for block in _blocks(stage)]


def rates(net):
    return [0.0 if block.drop_path is None else block.drop_path._rate for block in blocks(net)]


def test_rates_rise_by_depth():
    np.testing.assert_allclose(rates(built('resnet18_v1b', 0.7)), [0.1 * place for place in range(8)], atol=1e-9)
    assert rates(built('cifar_resnet8_v2', 0.0)) == [0.0] * 3
    modules = rates(built('cifar_residual_attention56', 0.5))  # without the blocks in masks
    assert len(modules) == 3 + 3 * 4 + 3
    assert modules == sorted(modules)
    assert modules[-1] == 0.5


@pytest.mark.parametrize('name', NETWORKS)
def test_a_sample_has_the_shortcut_or_a_longer_branch_and_hands_on_the_same(name):
    """Tested on the last block with a shortcut, with many copies of one image."""
    net = built(name, 0.5)
    seen = {}
    last = [block for block in blocks(net) if getattr(block, 'shortcut', True) is not False][-1]
    hook = last.register_forward_hook(lambda block, inputs, out: seen.update(inputs=inputs))
    net(mx.nd.array(np.random.RandomState(0).standard_normal((1, 3, 32, 32))))
    hook.detach()
    one = [mx.nd.array(np.random.RandomState(1).standard_normal(array.shape)) for array in seen['inputs']]
    whole, handed_on = split(last(*one))
    image, *carry = (mx.nd.tile(array, (SEEN, *(1,) * (array.ndim - 1))) for array in one)
    mx.random.seed(5)
    with autograd.train_mode():
        out, others = split(last(image, *carry))
    rows = out.asnumpy().reshape(SEEN, -1)
    kinds = np.unique(rows.round(4), axis=0)
    assert len(kinds) == 2  # dropped and kept
    kept = (rows == rows[0]).all(axis=1).mean()
    assert 0.1 < kept < 0.9
    # In their mean, the branch has weight one, if no ReLU follows.
    if not hasattr(last, 'relu_out'):
        share = last.drop_path._rate
        mean = whole.asnumpy().reshape(-1)
        first, second = kinds
        spread = [share * a + (1 - share) * b for a, b in ((first, second), (second, first))]
        assert min(np.abs(each - mean).max() for each in spread) < 1e-3 * (1 + np.abs(mean).max())
    for one, all_of_them in zip(handed_on, others):
        np.testing.assert_allclose(all_of_them.asnumpy(), np.repeat(one.asnumpy(), SEEN, axis=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('name', ['cifar_aff_resnet8_v2', 'cifar_se_resnet8_v2'])
def test_a_dropped_block_is_its_shortcut(name):
    last = blocks(built(name, 0.999))[-1]  # of 32 channels in, 64 out
    x = mx.nd.array(np.random.RandomState(0).standard_normal((2, 32, 8, 8)))
    mx.random.seed(1)
    with autograd.train_mode():
        out = split(last(x))[0]
    np.testing.assert_allclose(out.asnumpy(), last.downsample(x).asnumpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('name', ['cifar_dca_se_resnet8_v1', 'mobilenet_v2'])
def test_outside_of_training_it_is_not_there(name):
    data = mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, 32, 32)))
    with_it, without = built(name, 0.5), built(name, 0.0)
    assert list(with_it._collect_params_with_prefix()) == list(without._collect_params_with_prefix())
    expected = without(data).asnumpy()
    assert (with_it(data).asnumpy() == expected).all()
    with_it.hybridize()
    np.testing.assert_allclose(with_it(data).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    # Even if it was hybridized in inference, it drops in training, depending only on the seed.
    outputs = []
    for seed in (1, 1, 2):
        mx.random.seed(seed)
        with autograd.record():
            outputs.append(with_it(data))
    assert (outputs[0].asnumpy() == outputs[1].asnumpy()).all()
    assert (outputs[0].asnumpy() != outputs[2].asnumpy()).any()
    outputs[0].backward()
    loaded = LoadedNetwork.build(name, {'drop_path': 0.5})
    assert '(1, 2, 3)' not in loaded(mx.sym.var('data')).tojson()
    assert all(block.drop_path is None for block in blocks(loaded))


def test_it_needs_shortcuts():
    with pytest.raises(ValueError, match='drop_path is 0.1, and it is for networks with shortcuts'):
        get_model('cifar_resnet8_v1', drop_path=0.1, shortcuts=False)
    with pytest.raises(ValueError, match='drop_path is 1; allowed: numbers from 0 to below 1'):
        get_model('cifar_resnet8_v1', drop_path=1)
