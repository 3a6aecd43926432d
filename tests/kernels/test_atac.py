"""The ATAC unit as one operator gives the same numbers as the unit of MXNet's operators, in networks too."""

import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, gluon, nd

import kernels
from environment.cpu import lacks
from kernels import check_atac as check
from kernels.check_bfloat16 import narrow, wide
from model import get_model
from model.activation.atac import ATAC
from model.hybridization import apply_mode
from training.step import build_network

from .needs import needs_kernels

pytestmark = needs_kernels
needs_bfloat16 = pytest.mark.skipif(bool(lacks('bfloat16')), reason='this CPU has no bfloat16')

REPEATED = """
import environment, hashlib, mxnet as mx, numpy as np, kernels
from kernels import fused
from mxnet import autograd, nd
kernels.load()
random = np.random.RandomState(0)
shapes = [(5, 16, 9, 9), (8, 16, 1, 1), *[(8,)] * 4, (16, 8, 1, 1), *[(16,)] * 4]
arrays = [nd.array(np.abs(random.randn(*shape)) + 0.1) for shape in shapes]
for array in arrays:
    array.attach_grad()
with autograd.record():
    y = fused.atac(nd, *arrays, width=8, relu=True, epsilon=1e-5, momentum=0.9)
y.backward(nd.array(random.randn(*shapes[0])))
for some in ([y, *arrays], [arrays[k].grad for k in (0, 1, 2, 3, 6, 7, 8)]):
    print(hashlib.sha256(b''.join(array.asnumpy().tobytes() for array in some)).hexdigest())
"""


def operators(net, **options):
    """Return the names of the operators in a network's training graph."""
    with autograd.record(), kernels.fusing(**options):
        graph = net(mx.sym.var('data'))
    return [node['op'] for node in json.loads(graph.tojson())['nodes']]


@pytest.mark.parametrize('in_layout', [False, True])
@pytest.mark.parametrize('unit', check.UNITS)
def test_as_the_unit_of_mxnets_operators(unit, in_layout):
    assert check.unit_difference(*unit, in_layout) < 1e-5


@pytest.mark.parametrize('unit', check.UNITS)
def test_gradients_of_inference(unit):
    assert check.unit_difference(*unit, in_layout=True, train=False) < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    channels=st.sampled_from([8, 16, 24, 32, 48, 64]),
    width=st.sampled_from([8, 16, 24, 32]),
    side=st.integers(2, 40),
    samples=st.integers(1, 5),
    in_layout=st.booleans(),
)
def test_any_size(channels, width, side, samples, in_layout):
    assert check.unit_difference(channels, width, side, in_layout, samples) < 3e-5


def trained(name, fuse, mode, steps=2, **options):
    """Return a network's logits at every step and in inference afterwards, and all parameters, from fixed values."""
    net = build_network(lambda: get_model(name, **options), 0, [mx.cpu()], 32)
    random = np.random.RandomState(0)
    data, labels = nd.array(random.randn(4, 3, 32, 32)), nd.array(random.randint(0, 10, 4))
    loss, seen = gluon.loss.SoftmaxCrossEntropyLoss(), []
    with kernels.fusing(fuse):
        apply_mode(net, mode)
        trainer = gluon.Trainer(net.collect_params(), 'nag', {'learning_rate': 0.01, 'momentum': 0.9})
        for _ in range(steps):
            with autograd.record():
                logits = net(data)
                mean = loss(logits, labels).mean()
            mean.backward()
            trainer.step(1)
            seen.append(logits.asnumpy())
        seen.append(net(data).asnumpy())
    return seen, [parameter.data().asnumpy() for parameter in net.collect_params().values()]


@pytest.mark.parametrize('mode', ['imperative', 'hybrid', 'static'])
@pytest.mark.parametrize('options', [{}, {'act_relu': False}, {'act_reduction': 1}, {'act_layers': 4}])
def test_networks_learn_the_same(mode, options):
    """After two steps, compare the gradients of all parameters, and the running statistics that inference uses."""
    ours, theirs = (trained('cifar_atac_resnet8_v2', fuse, mode, **options) for fuse in (True, False))
    for one, other in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]]):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


def test_which_units_are_one_operator():
    net = get_model('cifar_atac_resnet8_v2')
    assert operators(net).count('_atac') == 7
    assert operators(net, wanted=False).count('_atac') == 0
    assert operators(get_model('cifar_atac_resnet8_v2', act_global=True)).count('_atac') == 0
    assert operators(get_model('cifar_atac_resnet8_v2', use_global_stats=True)).count('_atac') == 0
    assert operators(get_model('cifar_atac_resnet8_v2', channels=(12, 20, 36, 68))).count('_atac') == 0
    assert operators(ATAC(256, 2)).count('_atac') == 0  # mostly the arithmetic of convolutions


def test_without_being_asked_nothing_is_fused():
    """A network that a user trains and exports runs in a plain MXNet."""
    with autograd.record():
        graph = get_model('cifar_atac_resnet8_v2')(mx.sym.var('data'))
    assert '_atac' not in graph.tojson()


@pytest.mark.parametrize('request_', ['null', 'add'])
def test_gradients_that_are_not_overwritten(request_):
    unit = ATAC(16, 2)
    unit.initialize(mx.init.Normal(0.3))
    x, above = (nd.array(np.random.RandomState(seed).randn(2, 16, 5, 5)) for seed in (0, 1))
    unit(x)
    frozen = unit.module[0].weight
    results = []
    for fuse in (True, False):
        frozen.grad_req = request_
        x.attach_grad('add')
        if request_ == 'add':
            frozen.zero_grad()
        for _ in range(2):
            with autograd.record(), kernels.fusing(fuse):
                y = unit(x)
            y.backward(above)
        results.append([x.grad.asnumpy(), unit.module[4].gamma.grad().asnumpy()])
        if request_ == 'add':
            results[-1].append(frozen.grad().asnumpy())
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_wrong_inputs():
    unit = ATAC(16, 2)
    unit.initialize()
    with autograd.record(), kernels.fusing(), pytest.raises(mx.MXNetError, match='input 1 is'):
        unit(nd.zeros((2, 24, 4, 4)))
    unit.cast('float64')
    with autograd.record(), kernels.fusing(), pytest.raises(mx.MXNetError, match='float32'):
        unit(nd.zeros((2, 16, 4, 4), dtype='float64')).wait_to_read()


@pytest.mark.parametrize('mode', ['imperative', 'hybrid', 'static'])
def test_statistics_of_the_batch_without_a_record(mode):
    """If no gradients are requested, what they would need takes no memory."""
    unit, x = ATAC(16, 2), nd.array(np.random.RandomState(0).randn(2, 16, 5, 5))
    unit.initialize(mx.init.Normal(0.3))
    with autograd.train_mode():
        expected = unit(x).asnumpy()
        apply_mode(unit, mode)
        for _ in range(2):
            with kernels.fusing():
                np.testing.assert_allclose(unit(x).asnumpy(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('bfloat16', [False, pytest.param(True, marks=needs_bfloat16)])
def test_what_is_not_finite_is_seen(bfloat16):
    unit = ATAC(16, 2)
    unit.initialize()
    x = nd.ones((2, 16, 4, 4))
    x[0, 3, 1, 1] = np.nan
    with autograd.record(), kernels.fusing():
        y = wide(unit(narrow(x))) if bfloat16 else unit(x)
    assert np.isnan(y.asnumpy()).any()


def test_the_numbers_do_not_depend_on_a_race():
    """Output and statistics are the same for any number of threads, and gradients for equal numbers of threads."""
    seen = []
    for threads in (1, 3, 3, 3):
        environment = {**os.environ, 'OMP_NUM_THREADS': str(threads), 'OMP_WAIT_POLICY': 'passive'}
        run = subprocess.run([sys.executable, '-c', REPEATED], env=environment, stdout=subprocess.PIPE, check=True)
        seen.append(run.stdout.decode().split())
    assert len({values for values, _ in seen}) == 1
    assert len({gradients for _, gradients in seen[1:]}) == 1
