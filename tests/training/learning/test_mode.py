"""The fastest way to run a network is measured, and all of them train alike."""

import time

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from inference.mode import MODES, apply_mode
from model import get_model
from training.learning.layout import settle
from training.learning.loss import Criterion
from training.learning.mode import fastest_mode, trace_for_training
from training.learning.optimizer import make_trainer
from training.learning.step import TrainingStep, build_network


def sleeper(seconds, log):
    def make_step(mode):
        log.append(mode)
        return lambda: time.sleep(seconds[mode])

    return make_step


@pytest.mark.parametrize('fast', list(MODES))
def test_the_fastest_is_taken(fast):
    built = []
    seconds = {mode: 0.001 if mode == fast else 0.01 for mode in MODES}
    mode, measured = fastest_mode(sleeper(seconds, built))
    assert mode == fast
    assert built == list(MODES)
    assert all(measured[name] >= seconds[name] for name in MODES)


def test_a_slow_network_is_measured_within_a_budget():
    start = time.perf_counter()
    _, measured = fastest_mode(sleeper(dict.fromkeys(MODES, 0.05), []), warm=5, timed=50, budget=0.06)
    assert time.perf_counter() - start < 2
    assert all(seconds >= 0.05 for seconds in measured.values())


def test_the_first_step_does_not_count():
    def make_step(mode):
        calls = iter([0.2] + [0.001] * 100)
        return lambda: time.sleep(next(calls))

    _, measured = fastest_mode(make_step, warm=2, timed=3)
    assert max(measured.values()) < 0.1


@pytest.mark.parametrize(('mode', 'active', 'flags'), [('imperative', False, {}), ('static', True, MODES['static'])])
def test_modes_are_applied(mode, active, flags):
    net = gluon.nn.Dense(2)
    apply_mode(net, mode)
    assert net._active == active
    assert flags.items() <= dict(net._flags).items()


def test_unknown_modes():
    with pytest.raises(ValueError, match='imperative, hybrid, static'):
        apply_mode(gluon.nn.Dense(2), 'graph')


@pytest.mark.parametrize('name', ['cifar_resnet8_v2', 'cifar_dca_cbam_resnet11_v1'])
@pytest.mark.parametrize('mode', MODES)
def test_what_runs_first_does_not_change_what_is_learned(name, mode):
    """A run resumed between an epoch's last step and its validation ends as one that never stopped."""
    images = np.random.RandomState(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    learned = []
    for validate_first in (False, True):
        net = build_network(lambda: get_model(name), 0, [mx.cpu()], 32)
        apply_mode(net, mode)
        trace_for_training(net, mode, 32, mx.cpu())
        step = TrainingStep(net, make_trainer(net, 0.1, 0.9, 1e-4), Criterion(10), [mx.cpu()])
        if validate_first:
            net(mx.nd.array(images)).wait_to_read()
            settle(net)
        for _ in range(2):
            step(images, np.arange(8))
        learned.append([parameter.data().asnumpy() for parameter in net.collect_params().values()])
    assert all((ours == others).all() for ours, others in zip(*learned))
