"""Freed memory stays with the process unless the user tunes the allocator; nothing else stays without a bound."""

import copy
import gc
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from environment import memory
from inference import optimize
from model import get_model
from model.hybridization import MODES, apply_mode
from tests.detection.cases import KINDS, rectangles, small
from tests.training.flat import trainer_of
from training.hybridization import trace_for_training
from training.loss import Criterion
from training.step import TrainingStep

ROOT = Path(__file__).parents[2]
linux = pytest.mark.skipif(not sys.platform.startswith('linux'), reason='needs /proc or the GNU C library')

# Page faults of the second round: pages that were given back to the system fault again when they are used anew.
PROGRAM = """
import ctypes, resource
from environment import memory
told = memory.keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
def use():
    block = libc.malloc(16 << 20)
    ctypes.memset(block, 1, 16 << 20)
    libc.free(block)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**variables):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(('MALLOC_', 'GLIBC_'))}
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM], env={**clean, **variables}, capture_output=True, text=True, check=True
    )
    told, count = done.stdout.split()
    return told == 'True', int(count)


@linux
def test_freed_pages_are_used_again():
    told, count = faults()
    assert told
    assert count < 100


@linux
def test_the_users_tuning_wins():
    told, count = faults(MALLOC_TRIM_THRESHOLD_='131072')
    assert not told
    assert count > 1000


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(memory.sys, 'platform', 'darwin')
    assert not memory.keep_freed_memory()


def everything_of(net):
    """Return weak references to a network's blocks and parameters, by name."""
    found = {name: weakref.ref(parameter) for name, parameter in net.collect_params().items()}
    blocks = [net]
    while blocks:
        block = blocks.pop()
        found[block.name] = weakref.ref(block)
        blocks += block._children.values()
    return found


def trained(name, mode, kind='nag'):
    net = get_model(name)
    net.initialize(mx.init.MSRAPrelu())
    apply_mode(net, mode)
    trace_for_training(net, mode, 32, mx.cpu())
    trainer = trainer_of(net, 0.1, 0.9, 1e-4, kind=kind)
    TrainingStep(net, trainer, Criterion(10), [mx.cpu()])(np.zeros((4, 3, 32, 32), np.float32), np.arange(4))
    net(mx.nd.zeros((4, 3, 32, 32)))
    return net


def trained_detector(kind, hybrid):
    det = small(kind)
    det.hybridize(active=hybrid)
    trainer = gluon.Trainer(det.collect_params(), 'sgd')
    random = np.random.RandomState(0)
    with autograd.record():
        total = sum(det.losses(*rectangles(random), random).values())
    total.backward()
    trainer.step(1)
    det(mx.nd.zeros((1, 3, 64, 64)), mx.nd.array([[64, 64]]))
    return det


def optimized():
    net = get_model('cifar_atac_resnet8_v2')
    net.initialize()
    data = mx.nd.ones((1, 3, 32, 32))
    optimize(net, data.shape)(data).wait_to_read()
    return net


NETWORKS = [
    *[
        (trained, name, mode)
        for name in ('cifar_atac_resnet8_v2', 'cifar_dca_cbam_resnet11bn_v1', 'cifar_dia_resnet11bn_v1')
        for mode in MODES
    ],
    (trained, 'cifar_resnet8_v2', 'static', 'muon'),
    *[(trained_detector, kind, hybrid) for kind in KINDS for hybrid in (False, True)],
    (optimized,),
]


@pytest.mark.parametrize('recipe', NETWORKS, ids=lambda recipe: '-'.join(map(str, recipe[1:])) or 'optimized')
def test_a_network_goes_when_its_last_name_does(recipe):
    """Arrays, graphs and all are freed at once: the cycle collector comes late, as it counts objects, not bytes."""
    make, *arguments = recipe
    gc.collect()
    gc.disable()
    try:
        net = make(*arguments)
        parts = everything_of(net)
        assert all(part() is not None for part in parts.values())
        del net
        mx.nd.waitall()
        assert [name for name, part in parts.items() if part() is not None] == []
    finally:
        gc.enable()


def test_blocks_are_copied_and_pickled_as_ever():
    block = gluon.data.vision.transforms.Resize(4)
    for other in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert other._scope._block is other
        with other.name_scope():
            assert gluon.nn.Dense(1).prefix.startswith(other.prefix)


def test_blocks_in_containers_are_still_told():
    net = get_model('cifar_resnet8_v2')
    net.others = {'more': [(gluon.nn.Dense(1),)]}
    with pytest.warns(UserWarning, match='unregistered container'):
        net.collect_params()


GROWTH = """
import gc, sys
import environment, mxnet as mx
from mxnet import autograd, gluon

def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * 4096 >> 20

def networks():  # 16 MB each, trained for a step
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(2000, in_units=1000), gluon.nn.Dense(1000, in_units=2000))
    net.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'momentum': 0.9})
    with autograd.record():
        loss = net(mx.nd.ones((1, 1000))).sum()
    loss.backward()
    trainer.step(1)
    mx.nd.waitall()

layer = gluon.nn.Conv2D(16, 3, in_channels=16)
layer.initialize()
heights = iter(range(3, 1000))

def shapes():  # 40 new ones
    height = next(heights)
    for width in range(3, 43):
        with autograd.record():
            out = layer(mx.nd.zeros((1, 16, height, width)))
        out.backward()
        mx.nd.waitall()

gc.disable()
turn, turns = globals()[sys.argv[1]], int(sys.argv[2])
for _ in range(turns):
    turn()
before = resident()
for _ in range(turns):
    turn()
print(resident() - before)
"""


@linux
@pytest.mark.parametrize(
    ('what', 'turns', 'allowed'),
    [
        ('networks', 10, 200),  # 10 x 48 MB without the mended references
        ('shapes', 16, 40),  # 16 x 4.5 MB without a bound for compiled forms
    ],
)
def test_memory_stays_where_it_is(what, turns, allowed):
    environment = {name: value for name, value in os.environ.items() if name != memory.PRIMITIVES}
    command = [sys.executable, '-c', GROWTH, what, str(turns)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < allowed
