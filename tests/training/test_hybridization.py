"""The fastest way to run a network is measured, and all of them train in the same way."""

from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from model import get_model
from model.hybridization import MODES, apply_mode
from tests.training.flat import trainer_of
from training import hybridization as module
from training.hybridization import fastest_mode, trace_for_training
from training.loss import Criterion
from training.optim.layout import restore_plain_layout
from training.step import TrainingStep, build_network


class Clock:
    """A clock that advances by what steps claim to take."""

    def __init__(self):
        self.now = 0.0

    def take(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, 'time', SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


@pytest.mark.parametrize('fast', list(MODES))
def test_the_fastest_is_taken(clock, fast):
    built = []
    seconds = {mode: 1.0 if mode == fast else 2.0 for mode in MODES}

    def make_step(mode):
        built.append(mode)
        clock.take(100)  # this does not count
        return lambda: clock.take(seconds[mode])

    mode, measured = fastest_mode(make_step)
    assert mode == fast
    assert built == list(MODES)
    assert measured == seconds


def test_a_slow_network_is_measured_within_a_budget(clock):
    _, measured = fastest_mode(lambda mode: lambda: clock.take(8.0), warm=5, timed=50, budget=10)
    assert measured == dict.fromkeys(MODES, 8.0)
    assert clock.now == 2 * 8 * len(MODES)


def test_the_first_steps_do_not_count(clock):
    def make_step(mode):
        calls = iter([200.0, 100.0] + [1.0] * 3)
        return lambda: clock.take(next(calls))

    _, measured = fastest_mode(make_step, warm=2, timed=3, budget=1e9)
    assert measured == dict.fromkeys(MODES, 1.0)


@pytest.mark.parametrize(('mode', 'active', 'flags'), [('imperative', False, {}), ('static', True, MODES['static'])])
def test_modes_are_applied(mode, active, flags):
    net = gluon.nn.Dense(2)
    apply_mode(net, mode)
    assert net._active == active
    assert flags.items() <= dict(net._flags).items()


def test_unknown_modes():
    with pytest.raises(ValueError, match='imperative, hybrid, static'):
        apply_mode(gluon.nn.Dense(2), 'graph')


@pytest.mark.parametrize('name', ['cifar_resnet8_v2', 'cifar_dca_cbam_resnet11bn_v1'])
@pytest.mark.parametrize('mode', MODES)
def test_what_runs_first_does_not_change_what_is_learned(name, mode):
    """A run that resumes between an epoch's last step and its validation ends like one that never stopped."""
    images = np.random.RandomState(0).standard_normal((8, 3, 32, 32)).astype(np.float32)
    learned = []
    for validate_first in (False, True):
        net = build_network(lambda: get_model(name), 0, [mx.cpu()], 32)
        apply_mode(net, mode)
        trace_for_training(net, mode, 32, mx.cpu())
        step = TrainingStep(net, trainer_of(net, 0.1, 0.9, 1e-4), Criterion(10), [mx.cpu()])
        if validate_first:
            net(mx.nd.array(images)).wait_to_read()
            restore_plain_layout(net)
        for _ in range(2):
            step(images, np.arange(8))
        learned.append([parameter.data().asnumpy() for parameter in net.collect_params().values()])
    assert all((ours == others).all() for ours, others in zip(*learned))
