"""Muon: its directions, and that all other parameters take NAG's steps."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, gluon, nd

from environment import UsageError
from model import get_model
from tests.detection.cases import small
from tests.training.flat import trainer_of
from training.checkpoints.state import capture, restore
from training.config.optimizer import OptimizerSettings
from training.optim.muon import SCALE, Muon, directions_of
from training.optim.optimizer import undecayed
from training.step import build_network

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12), st.sampled_from([1, 3])).map(lambda t: (*t, t[2]))


def matrix(array):
    return array.reshape(len(array), -1).astype(np.float64)


def directions(*arrays):
    made = directions_of(tuple(array.shape for array in arrays))(*map(nd.array, arrays))
    return [array.asnumpy() for array in made]


@given(st.lists(SHAPES, min_size=1, max_size=6), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
@settings(max_examples=40, deadline=None)
def test_singular_values_come_near_to_one_and_singular_vectors_stay(shapes, seed, size):
    random = np.random.RandomState(seed)
    arrays = [(size * random.standard_normal(shape)).astype(np.float32) for shape in shapes]
    for array, made in zip(arrays, directions(*arrays)):
        assert made.shape == array.shape
        left, values, right = np.linalg.svd(matrix(array), full_matrices=False)
        turned = left.T @ matrix(made) @ right.T / max(1, len(array) / matrix(array).shape[1]) ** 0.5
        found = np.diag(turned)
        np.testing.assert_allclose(turned, np.diag(found), atol=2e-3)
        large = values > 2e-3 * np.linalg.norm(values)
        assert (found[large] > 0.67).all()
        assert (found < 1.22).all()


def test_the_flags_default_is_the_optimizers():
    assert OptimizerSettings().muon_scale == SCALE


def test_equal_shapes_do_not_mix():
    """They are computed together, in any order."""
    random = np.random.RandomState(0)
    shapes = [(8, 8, 3, 3), (16, 8, 1, 1), (8, 16, 1, 1), (8, 8, 3, 3), (8, 72, 1, 1), (8, 8, 3, 3)]
    arrays = [random.standard_normal(shape).astype(np.float32) for shape in shapes]
    for array, made in zip(arrays, directions(*arrays)):
        np.testing.assert_allclose(made, directions(array)[0], atol=1e-5)


def test_zeros_stay_zeros():
    assert not directions(np.zeros((8, 8, 3, 3), np.float32))[0].any()


def network(name='cifar_atac_resnet8_v2', **options):
    return build_network(lambda: get_model(name, **options), 0, [mx.cpu()], 32)


def muon(net, **options):
    return trainer_of(net, **{'lr': 0.1, 'momentum': 0.9, 'wd': 0.01, 'kind': 'muon', **options})


def learn(net, trainer, steps, start=0):
    """Return the gradients and weights before each step, and the weights after the last."""
    seen = []
    for step in range(start, start + steps):
        data = nd.array(np.random.RandomState(step).standard_normal((4, 3, 32, 32)))
        with autograd.record():
            loss = (net(data) ** 2).sum()
        loss.backward()
        names = net._collect_params_with_prefix().items()
        gradients = {name: p.grad().asnumpy() for name, p in names if p.grad_req != 'null'}
        seen.append((gradients, values(net)))
        trainer.set_learning_rate(0.1 / (1 + step))
        trainer.step(4)
    return [*seen, (None, values(net))]


def values(net):
    return {name: array.data().asnumpy() for name, array in net._collect_params_with_prefix().items()}


@pytest.mark.parametrize(
    ('momentum', 'options'), [(0.9, {}), (0.0, {}), (0.5, {'muon_scale': 0.05, 'no_wd': True, 'wd': 0.1})]
)
def test_it_is_its_formula_for_convolutions_and_mxnets_nag_for_the_rest(momentum, options):
    net = network()
    trainer = muon(net, momentum=momentum, **options)
    matrices = {name for name, array in values(net).items() if array.ndim == 4 and array.shape[1] >= 8}
    assert {trainer._params[number].name for number in trainer.optimizer.matrices} == {
        net._collect_params_with_prefix()[name].name for name in matrices
    }
    seen = learn(net, trainer, 4)
    scale, wd = options.get('muon_scale', 0.2), options.get('wd', 0.01)
    state = dict.fromkeys(matrices, 0)
    spared = undecayed(net, options.get('no_wd', False))
    own = [p.name for p in trainer._params]
    others = [name for name, p in net._collect_params_with_prefix().items() if p.name in own and name not in matrices]
    mxnets = {name: mx.optimizer.NAG(momentum=momentum, wd=0.0 if name in spared else wd) for name in others}
    memories = {name: mxnets[name].create_state(0, nd.array(seen[0][1][name])) for name in others}
    for step, ((gradients, weights), (_, after)) in enumerate(zip(seen, seen[1:])):
        lr = 0.1 / (1 + step)
        for name in matrices:
            gradient, weight = gradients[name].astype(np.float64) / 4, weights[name].astype(np.float64)
            state[name] = momentum * state[name] + gradient
            ahead = gradient + momentum * state[name] if momentum else gradient
            direction = directions(ahead.astype(np.float32))[0]
            high = max(1, len(weight) / matrix(weight).shape[1]) ** 0.5
            assert np.linalg.norm(direction) == pytest.approx(high * min(matrix(weight).shape) ** 0.5, rel=0.2)
            expected = (1 - lr * wd / (1 - momentum)) * weight - lr * scale * direction
            np.testing.assert_allclose(after[name], expected, rtol=1e-4, atol=2e-5, err_msg=name)
        for name in others:
            weight = nd.array(weights[name])
            mxnets[name].lr, mxnets[name].rescale_grad = lr, 1 / 4
            mxnets[name].update(0, weight, nd.array(gradients[name]), memories[name])
            np.testing.assert_array_equal(after[name], weight.asnumpy(), err_msg=name)


def test_what_is_no_matrix_is_nags():
    """Take one step from the same weights, whose gradients are therefore the same."""
    results = []
    for kind in ('muon', 'nag'):
        net = network('cifar_resnext11_2x8d')
        learn(net, muon(net, kind=kind), 1)
        results.append(values(net))
    moved = {name for name, array in results[0].items() if not np.array_equal(array, results[1][name])}
    grouped = {name for name in moved if name.endswith('conv2.weight')}
    assert moved
    assert not grouped
    assert all(results[0][name].ndim == 4 and min(results[0][name].shape[:2]) >= 8 for name in moved)


def test_a_weight_that_two_layers_share_steps_once():
    net = gluon.nn.HybridSequential()
    first = gluon.nn.Conv2D(8, 1, in_channels=8, use_bias=False)
    net.add(first, gluon.nn.Conv2D(8, 1, in_channels=8, use_bias=False, params=first.params))
    net.initialize(mx.init.Orthogonal())
    trainer = muon(net, momentum=0.0, wd=0.0, muon_scale=0.5)
    assert trainer.optimizer.matrices == {0}
    before = first.weight.data().asnumpy()
    with autograd.record():
        loss = (net(nd.ones((1, 8, 2, 2))) * nd.arange(8).reshape((1, 8, 1, 1))).sum()
    loss.backward()
    direction = directions(first.weight.grad().asnumpy())[0]
    trainer.step(1)
    np.testing.assert_allclose(first.weight.data().asnumpy(), before - 0.1 * 0.5 * direction, atol=1e-6)


def test_what_is_frozen_shifts_the_numbers():
    net = network()
    frozen, ours = net.features[2][0].conv1.weight, net.features[2][0].conv2.weight
    net.features[1].weight.grad_req = 'null'
    frozen.lr_mult = 0.0
    trainer = muon(net)
    numbers = {trainer._params[number].name for number in trainer.optimizer.matrices}
    assert ours.name in numbers
    assert frozen.name not in numbers
    before, after = (weights for _, weights in learn(net, trainer, 1))
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name for name in still if name.endswith('weight')} == {'features.1.weight', 'features.2.0.conv1.weight'}


def test_convolutions_with_bias_are_nags():
    """They are the last layers of a detector, and those in its heads, which no norm follows."""
    net = small('retinanet')
    net(nd.zeros((1, 3, 64, 64)), nd.array([[64, 64]]))
    trainer = trainer_of(net, 0.1, 0.9, 0.0, kind='muon')
    names = {id(p): name for name, p in net._collect_params_with_prefix().items()}
    matrices = {names[id(trainer._params[number])] for number in trainer.optimizer.matrices}
    assert matrices
    assert not {name for name in matrices if name[: -len('weight')] + 'bias' in names.values()}
    assert not {name for name in matrices if 'output' in name}


def test_a_network_without_large_convolutions_is_refused():
    net = network('cifar_resnet8_v2', channels=(4, 4, 4, 4))
    with pytest.raises(UsageError, match='--optimizer muon is for convolutions of 8 filters or more, and none is'):
        muon(net)


def test_shapes_that_are_not_known_yet_are_an_error():
    layer = gluon.nn.Conv2D(16, 3, use_bias=False)
    layer.initialize()
    with pytest.raises(ValueError, match='the shape of .*weight is not known yet; run the network once'):
        trainer_of(layer, 0.1, 0.9, 0.0, kind='muon')


def test_mxnets_own_states_go_on(tmp_path):
    net = network()
    trainer = muon(net)
    learn(net, trainer, 2)
    trainer.save_states(str(tmp_path / 'states'))
    trainer.load_states(str(tmp_path / 'states'))
    before, after = (weights for _, weights in learn(net, trainer, 1))
    moved = np.linalg.norm(after['features.2.0.conv1.weight'] - before['features.2.0.conv1.weight'])
    assert moved == pytest.approx(0.1 * SCALE * 4, rel=0.2)  # 16 singular values near 1, without the decay


def test_a_state_that_is_kept_goes_on_with_the_same_bits():
    net = network()
    *_, (_, straight) = learn(net, muon(net), 4)
    net = network()
    trainer = muon(net)
    learn(net, trainer, 2)
    kept = capture(net, trainer)
    net = network()
    trainer = muon(net)
    restore(net, trainer, kept, 'a checkpoint')
    *_, (_, resumed) = learn(net, trainer, 2, start=2)
    for name, array in straight.items():
        np.testing.assert_array_equal(array, resumed[name], err_msg=name)


def test_float16_follows_float32():
    """The float32 master keeps changes that are too small for float16."""
    results = {}
    for dtype in ('float32', 'float16'):
        layer = gluon.nn.Conv2D(16, 1, in_channels=16, use_bias=False)
        layer.initialize(mx.init.One())
        layer.cast(dtype)
        trainer = trainer_of(layer, 0.1, 0.9, 0.0, kind='muon', multi_precision=True, muon_scale=0.002)
        gradient = np.random.RandomState(0).standard_normal(layer.weight.shape)
        for _ in range(20):
            layer.weight.grad()[:] = nd.array(gradient, dtype=dtype)
            layer.weight.data()._fresh_grad = True
            trainer.step(1)
        assert layer.weight.dtype == np.dtype(dtype)
        results[dtype] = layer.weight.data().asnumpy().astype(np.float64)
    assert np.abs(results['float32'] - 1).max() > 2e-3
    np.testing.assert_allclose(results['float16'], results['float32'], atol=6e-4)


@pytest.mark.parametrize(('rate', 'decay', 'momentum', 'scale'), [(0.02, 0.01, 0.95, 0.2), (0.05, 0.1, 0.9, 0.5)])
def test_the_originals_rate_and_decay_are_told_in_ours(rate, decay, momentum, scale):
    """As --wd and --muon-scale say, a step multiplies a weight without gradient by 1 - R D."""
    optimizer = Muon(
        [0],
        scale=scale,
        learning_rate=rate / scale,
        wd=decay * scale * (1 - momentum),
        momentum=momentum,
    )
    weight = mx.nd.random.normal(shape=(8, 8, 1, 1))
    before = weight.asnumpy()
    optimizer.update(0, weight, mx.nd.zeros_like(weight), optimizer.create_state(0, weight))
    assert weight.asnumpy() == pytest.approx((1 - rate * decay) * before, rel=1e-6)
