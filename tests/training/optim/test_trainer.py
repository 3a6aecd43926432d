"""A trainer that updates all parameters at once does what MXNet's does one by one."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from model import get_model
from tests.kernels.needs import needs_kernels
from tests.training.flat import trainer_of
from training.checkpoints.state import capture, restore
from training.optim.trainer import Trainer
from training.step import build_network


def network():
    return build_network(lambda: get_model('cifar_atac_resnet8_v2'), 0, [mx.cpu()], 32)


def learn(net, trainer, steps, start=0):
    """A schedule of rising rates, so that every step has its own."""
    for step in range(start, start + steps):
        data = nd.array(np.random.RandomState(step).standard_normal((4, 3, 32, 32)))
        trainer.set_learning_rate(0.01 * (1 + step))
        with autograd.record():
            loss = (net(data) ** 2).sum()
        loss.backward()
        trainer.step(4)


def values(net):
    return {name: array.data().asnumpy() for name, array in net._collect_params_with_prefix().items()}


FIXED = {'features.0.gamma', 'features.0.beta'}  # the input norm learns nothing


def unchanged(values, before):
    return {name for name, array in values.items() if np.array_equal(array, before[name])}


def one_by_one(trainer):
    """Return the same trainer as MXNet implements it."""
    trainer.__class__ = gluon.Trainer
    return trainer


@needs_kernels
@pytest.mark.parametrize('settings', [{}, {'no_wd': True}, {'momentum': 0.5, 'wd': 0.05}])
def test_the_same_network(settings):
    results = []
    for change in (lambda trainer: trainer, one_by_one):
        net = network()
        net.output.weight.lr_mult = 0.5
        net.output.bias.grad_req = 'null'
        learn(net, change(trainer_of(net, **{'lr': 0.1, 'momentum': 0.9, 'wd': 1e-3, **settings})), 4)
        results.append(values(net))
    for name, ours in results[0].items():
        np.testing.assert_array_equal(ours, results[1][name], err_msg=name)
    assert unchanged(results[0], values(network())) == {*FIXED, 'output.bias'}


@needs_kernels
def test_one_operator_from_the_first_step_on(monkeypatch):
    monkeypatch.delattr(gluon.Trainer, '_update')
    net = network()
    trainer = trainer_of(net, 0.1, 0.9, 1e-4)
    learn(net, trainer, 1)
    update = trainer._together.update
    learn(net, trainer, 2)
    assert trainer._together.update is update
    assert trainer.optimizer.num_update == 3


@needs_kernels
def test_a_state_that_is_restored_is_the_one_that_goes_on():
    """Parameters keep their arrays, and the momenta are new ones."""
    net = network()
    trainer = trainer_of(net, 0.1, 0.9, 1e-4)
    learn(net, trainer, 3)
    state = capture(net, trainer)
    learn(net, trainer, 2, start=3)
    whole = values(net)
    restore(net, trainer, state)
    learn(net, trainer, 2, start=3)
    other = network()
    fresh = trainer_of(other, 0.1, 0.9, 1e-4)
    restore(other, fresh, state)
    learn(other, fresh, 2, start=3)
    for name, expected in whole.items():
        np.testing.assert_array_equal(values(net)[name], expected, err_msg=name)
        np.testing.assert_array_equal(values(other)[name], expected, err_msg=name)


@needs_kernels
def test_parameters_that_are_loaded_or_frozen_in_between(tmp_path):
    net = network()
    trainer = trainer_of(net, 0.1, 0.9, 0.0)
    net.save_parameters(str(tmp_path / 'start.params'))
    learn(net, trainer, 3)
    net.load_parameters(str(tmp_path / 'start.params'))
    net.output.weight.grad_req = 'null'
    before = values(net)
    learn(net, trainer, 2)
    assert unchanged(values(net), before) == {*FIXED, 'output.weight'}


@needs_kernels
def test_a_momentum_that_changes():
    results = []
    for change in (lambda trainer: trainer, one_by_one):
        net = network()
        trainer = change(trainer_of(net, 0.1, 0.9, 1e-4))
        learn(net, trainer, 2)
        trainer.optimizer.momentum = 0.1
        learn(net, trainer, 2, start=2)
        results.append(values(net))
    for name, ours in results[0].items():
        np.testing.assert_array_equal(ours, results[1][name], err_msg=name)


@needs_kernels
def test_a_parameter_that_is_given_twice_is_mxnets_error():
    net = gluon.nn.Dense(3, in_units=2, use_bias=False)
    net.initialize()
    trainer = Trainer([net.weight, net.weight], 'nag', {'momentum': 0.9}, kvstore=None, update_on_kvstore=False)
    with autograd.record():
        loss = net(nd.ones((1, 2))).sum()
    loss.backward()
    with pytest.raises(UserWarning, match='has not been updated by backward'):
        trainer.step(1)


def test_a_gradient_that_is_not_new_is_an_error():
    net = network()
    trainer = trainer_of(net, 0.1, 0.9, 0.0)
    learn(net, trainer, 3)
    before = values(net)
    with pytest.raises(UserWarning, match='has not been updated by backward'):
        trainer.step(1)
    for name, array in values(net).items():
        np.testing.assert_array_equal(array, before[name])
    trainer.step(1, ignore_stale_grad=True)
    learn(net, trainer, 1)


@needs_kernels
@pytest.mark.parametrize(
    ('kind', 'settings', 'dtype'),
    [
        ('sgd', {'momentum': 0.9}, 'float32'),
        ('nag', {}, 'float32'),
        ('nag', {'momentum': 0.9, 'clip_gradient': 0.1}, 'float32'),
        ('nag', {'momentum': 0.9}, 'float64'),
        ('adam', {}, 'float32'),
    ],
)
def test_what_is_left_to_mxnet(kind, settings, dtype):
    results = []
    for make in (Trainer, gluon.Trainer):
        net = gluon.nn.Dense(3, in_units=2, use_bias=False)
        net.cast(dtype)
        net.initialize(mx.init.One())
        trainer = make(net.collect_params(), kind, settings, kvstore=None, update_on_kvstore=False)
        for _ in range(3):
            with autograd.record():
                loss = net(nd.ones((1, 2), dtype=dtype)).sum()
            loss.backward()
            trainer.step(1)
        results.append(net.weight.data().asnumpy())
    np.testing.assert_array_equal(*results)
    assert (results[0] != 1).all()


@needs_kernels
def test_with_several_devices():
    net = gluon.nn.Dense(3, in_units=2, use_bias=False)
    net.initialize(mx.init.One(), ctx=[mx.cpu(0), mx.cpu(1)])
    trainer = trainer_of(net, 0.1, 0.9, 0.0, devices=2)
    for _ in range(3):
        with autograd.record():
            losses = [net(nd.ones((1, 2), ctx=context)).sum() for context in (mx.cpu(0), mx.cpu(1))]
        autograd.backward(losses)
        trainer.step(2)
    first, second = net.weight.list_data()
    np.testing.assert_array_equal(first.asnumpy(), second.asnumpy())
    assert (first.asnumpy() != 1).all()
