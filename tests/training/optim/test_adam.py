"""AdamW and LAMB against the numbers of torch 2.13 and timm 1.0.31, and in runs."""

import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon, nd

from tests.training.flat import trainer_of
from training.checkpoints.state import capture, restore
from training.optim.adam import AdamW, TimmLamb

# Three parameters over five steps, with a learning rate for each step and a weight decay for each parameter.
REFERENCE = json.loads((Path(__file__).parent / 'adam.json').read_text())
MAKERS = {
    'adamw': lambda **more: AdamW(beta2=0.99, **more),
    'lamb': lambda **more: TimmLamb(beta2=0.99, **more),
    'lamb clipped': lambda **more: TimmLamb(trust_clip=True, beta2=0.99, **more),
}


def updated(optimizer, dtype='float32', rescale=1.0, scale=1.0):
    """Take the reference's steps with one of Gluon's updaters, and return the parameters after each."""
    optimizer.rescale_grad = rescale
    weights = [nd.array(value, dtype=dtype) for value in REFERENCE['weights']]
    for number, decay in enumerate(REFERENCE['decays']):
        optimizer.wd_mult[number] = decay
    updater, seen = mx.optimizer.get_updater(optimizer), []
    for rate, gradients in zip(REFERENCE['rates'], REFERENCE['gradients']):
        optimizer.set_learning_rate(rate)
        arrays = [nd.array(np.asarray(value) * scale, dtype=dtype) for value in gradients]
        updater(list(range(len(weights))), arrays, weights)
        seen.append([weight.asnumpy().ravel() for weight in weights])
    return seen, updater


@pytest.mark.parametrize('case', MAKERS)
def test_each_step_is_the_references(case):
    seen, _ = updated(MAKERS[case](wd=1.0), rescale=1 / 64, scale=64)
    for arrays, expected in zip(seen, REFERENCE['cases'][case]):
        for array, values in zip(arrays, expected):
            np.testing.assert_allclose(array, values, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize('case', MAKERS)
def test_of_float16_a_float32_master_takes_the_steps(case):
    _, updater = updated(MAKERS[case](wd=1.0, multi_precision=True), 'float16')
    for number, values in enumerate(REFERENCE['cases'][case][-1]):
        *moments, master = updater.states[number]
        assert {array.dtype for array in (*moments, master)} == {np.float32}
        np.testing.assert_allclose(master.asnumpy().ravel(), values, rtol=1e-2, atol=1e-2)  # of rounded gradients


def test_lamb_shortens_only_where_it_is_told_to():
    free, clipped = (REFERENCE['cases'][case] for case in ('lamb', 'lamb clipped'))
    assert not np.allclose(np.concatenate(free[-1]), np.concatenate(clipped[-1]))


@pytest.mark.parametrize('kind', ['adamw', 'lamb'])
def test_flags_reach_the_optimizer(kind):
    net = gluon.nn.Dense(2, in_units=3)
    net.initialize()
    trainer = trainer_of(net, 0.1, 0.8, 0.05, kind, beta2=0.9, epsilon=1e-3, no_wd=True)
    optimizer = trainer.optimizer
    assert (optimizer.beta1, optimizer.beta2, optimizer.epsilon, optimizer.wd) == (0.8, 0.9, 1e-3, 0.05)
    assert {p.name.rsplit('_', 1)[1]: p.wd_mult for p in trainer._params} == {'weight': 1.0, 'bias': 0.0}
    assert trainer_of(net, 0.1, 0.9, 0.0, kind).optimizer.epsilon == {'adamw': 1e-8, 'lamb': 1e-6}[kind]


@pytest.mark.parametrize('kind', ['adamw', 'lamb'])
def test_it_goes_on_with_the_same_bits(kind):
    def learn(net, trainer, steps):
        for step in steps:
            data = nd.array(np.random.RandomState(step).standard_normal((4, 3)))
            with mx.autograd.record():
                loss = (net(data) ** 2).sum()
            loss.backward()
            trainer.step(4)

    def made():
        net = gluon.nn.Dense(2, in_units=3)
        net.initialize(mx.init.Constant(0.5))
        return net, trainer_of(net, 0.1, 0.9, 0.05, kind)

    whole, trainer = made()
    learn(whole, trainer, range(3))
    state = capture(whole, trainer)
    learn(whole, trainer, range(3, 6))
    again, trainer = made()
    restore(again, trainer, state)
    learn(again, trainer, range(3, 6))
    for name, parameter in whole._collect_params_with_prefix().items():
        assert (
            parameter.data().asnumpy().tobytes() == again._collect_params_with_prefix()[name].data().asnumpy().tobytes()
        )
