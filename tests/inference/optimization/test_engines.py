"""Which engine `optimize` takes: the requested one, or the fastest that gives the same outputs, measured once."""

import numpy as np
import pytest
from mxnet import gluon

from environment import UserError
from inference import optimize
from inference.optimization import optimizer, runtimes
from inference.optimization.proof import difference
from tests.inference.networks import images, make

SHAPE = (2, 3, 32, 24)


@pytest.fixture(scope='module')
def net():
    return make('cifar_se_resnet11bn_v1', SHAPE)


class Runtime(gluon.Block):
    """Run the network itself, with an error of a given size."""

    away, made, note = 0.0, 0, None

    def __init__(self, net, input_shape, precision, engine):
        super().__init__()
        type(self).made += 1
        self.net, self.engine = net, engine

    def forward(self, x):
        return self.net(x) + self.away


@pytest.fixture
def runtime(monkeypatch):
    """Stand in for ONNX Runtime: it takes no time, and its outputs are off by `Runtime.away`."""
    monkeypatch.setattr(Runtime, 'made', 0)
    monkeypatch.setattr(optimizer, 'RuntimeNetwork', Runtime)
    monkeypatch.setattr(optimizer, 'installed', lambda: ['onnxruntime'])
    seconds = optimizer._seconds
    monkeypatch.setattr(optimizer, '_seconds', lambda run, data: 0 if isinstance(run, Runtime) else seconds(run, data))


def test_auto_takes_the_fastest_and_remembers_it(net, runtime, monkeypatch):
    assert optimize(net, SHAPE).engine == 'onnxruntime'
    monkeypatch.setattr(optimizer, '_seconds', None)  # nothing may be timed again
    assert optimize(net, SHAPE).engine == 'onnxruntime'
    assert Runtime.made == 2


def test_what_is_remembered_is_proved_again(net, runtime, monkeypatch):
    assert optimize(net, SHAPE).engine == 'onnxruntime'
    monkeypatch.setattr(Runtime, 'away', 1.0)
    assert optimize(net, SHAPE).engine in ('own', 'mxnet')
    assert optimize(net, SHAPE).engine in ('own', 'mxnet')
    assert Runtime.made == 3


def test_wrong_answers_are_not_taken(net, runtime, monkeypatch):
    monkeypatch.setattr(Runtime, 'away', 1.0)
    with pytest.raises(UserError, match=r"engine 'onnxruntime' cannot run this network: .* differs by .* allowed"):
        optimize(net, SHAPE, engine='onnxruntime')


def test_a_runtime_that_is_missing_is_named(net, monkeypatch):
    monkeypatch.setattr(runtimes.importlib.util, 'find_spec', lambda name: None if name == 'openvino' else object())
    with pytest.raises(UserError, match='the package openvino is not installed .* pip install openvino'):
        optimize(net, SHAPE, engine='openvino')
    monkeypatch.setattr(runtimes.importlib.util, 'find_spec', lambda name: None if name == 'onnx' else object())
    with pytest.raises(UserError, match='the package onnx is not installed .* --onnx'):
        optimize(net, SHAPE, engine='onnxruntime')


@pytest.mark.parametrize('engine', runtimes.RUNTIMES)
def test_a_runtime_answers_the_same(net, engine):
    if engine not in runtimes.installed():
        pytest.skip(f'{engine} is not installed')
    fast = optimize(net, SHAPE, engine=engine)
    assert fast.engine == engine
    for count in (1, 2, 5):
        data = images((count, *SHAPE[1:]), count)
        assert difference(fast(data), net(data)) <= 1e-4
    assert fast.run(np.zeros((0, *SHAPE[1:]), np.float32)).shape == (0, 10)
    with pytest.raises(ValueError, match='was made for'):
        fast(images((2, 3, 40, 40)))


def test_one_sound_engine_is_enough(net, runtime, monkeypatch):
    """MXNet's own form is refused, like those of a network whose statistics overflow when they are folded."""

    def refused(*arguments):
        raise UserError('the float32 form of this network differs')

    monkeypatch.setattr(optimizer, 'program_of', refused)
    fast = optimize(net, SHAPE)
    assert fast.engine == 'onnxruntime'
    assert fast.note == 'MXNet was refused, as the float32 form of this network differs'
    assert optimize(net, SHAPE).note == fast.note  # remembered
    with pytest.raises(UserError, match='^the float32 form of this network differs'):
        optimize(net, SHAPE, engine='mxnet')
    monkeypatch.setattr(optimizer, 'why_not', lambda precision: 'it is not there')
    monkeypatch.setattr(Runtime, 'away', 1.0)
    with pytest.raises(UserError, match='^the float32 form of this network differs'):
        optimize(net, (1, *SHAPE[1:]))
