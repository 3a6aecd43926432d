"""Maps in bfloat16: convolutions, batch norms and what is between them, against NumPy and float32."""

import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, nd

import kernels
from environment.cpu import lacks, processor
from kernels import check_bfloat16 as check
from kernels.check_atac import UNITS, unit_difference
from kernels.check_bfloat16 import Convolution, rounded
from kernels.check_fused import FUSED, fused_cases, fused_difference
from model.activation.atac import ATAC

from .needs import needs_kernels

pytestmark = [needs_kernels, pytest.mark.skipif(bool(lacks('bfloat16')), reason='this CPU has no bfloat16')]

TILES = 'amx_bf16' in processor().instructions


@pytest.mark.parametrize('case', check.CONVOLUTIONS)
def test_convolutions(case):
    before = kernels.calls()
    assert check.convolution_difference(case) < check.TOLERANCE
    nd.waitall()
    if kernels.loaded() and TILES:
        assert kernels.calls() - before >= 2


@pytest.mark.parametrize('shape', check.NORMS)
def test_norms(shape):
    assert check.norm_difference(shape) < 4 * check.TOLERANCE


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_convolution(data):
    kernel = data.draw(st.integers(1, 5))
    pad = data.draw(st.integers(0, kernel - 1))
    numbers = [data.draw(st.integers(1, most)) for most in (4, 40, 12, 12, 40)]
    samples, channels, height, width, outputs = numbers
    height, width = max(height, kernel), max(width, kernel)
    stride, bias, depthwise = data.draw(st.integers(1, 3)), data.draw(st.booleans()), data.draw(st.booleans())
    outputs = channels if depthwise else outputs
    case = Convolution(samples, channels, height, width, outputs, kernel, stride, pad, bias, depthwise)
    assert check.convolution_difference(case) < check.TOLERANCE


def test_bits_repeat():
    case, random = Convolution(5, 32, 12, 12, 32, 3, 1, 1), np.random.RandomState(0)
    data = [random.standard_normal(shape) for shape in ((5, 32, 12, 12), (32, 32, 3, 3))]

    def run():
        given = [nd.array(array) for array in data]
        for array in given:
            array.attach_grad()
        with autograd.record():
            narrow = [nd.amp_cast(array, dtype=check.TYPE) for array in given]
            y = nd.Convolution(*narrow, kernel=(3, 3), pad=(1, 1), num_filter=case.outputs, no_bias=True)
            loss = nd.amp_cast(y, dtype='float32').square().sum()
        loss.backward()
        return [array.grad.asnumpy() for array in given]

    for one, other in zip(run(), run()):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(('name', 'shape', 'in_layout'), list(fused_cases()))
def test_operators_of_our_own(name, shape, in_layout):
    assert fused_difference(name, shape, in_layout, bfloat16=True) < check.TOLERANCE


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(name for name in FUSED if 'ReLU' not in name)),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 72), st.integers(1, 9), st.integers(1, 20)),
    in_layout=st.booleans(),
)
def test_operators_of_our_own_of_any_shape(name, shape, in_layout):
    assert fused_difference(name, shape, in_layout, bfloat16=True) < 2 * check.TOLERANCE


@pytest.mark.parametrize('in_layout', [False, True])
@pytest.mark.parametrize('unit', UNITS)
def test_the_atac_unit(unit, in_layout):
    assert unit_difference(*unit, in_layout, bfloat16=True) < 4 * check.TOLERANCE


@pytest.mark.parametrize('unit', UNITS)
def test_the_atac_units_gradients_of_inference(unit):
    assert unit_difference(*unit, in_layout=True, train=False, bfloat16=True) < 4 * check.TOLERANCE


@settings(max_examples=30, deadline=None)
@given(
    channels=st.sampled_from([8, 16, 24, 32, 40, 48, 64]),
    width=st.sampled_from([8, 16, 24, 32, 40]),
    side=st.integers(4, 20),
    samples=st.integers(2, 5),
    in_layout=st.booleans(),
)
def test_the_atac_unit_of_any_size(channels, width, side, samples, in_layout):
    assert unit_difference(channels, width, side, in_layout, samples, bfloat16=True) < 8 * check.TOLERANCE


@pytest.mark.parametrize('request_', ['null', 'add'])
def test_the_atac_units_gradients_that_are_not_overwritten(request_):
    unit = ATAC(16, 2)
    unit.initialize(mx.init.Normal(0.3))
    x, above = (nd.array(rounded(np.random.RandomState(seed).randn(2, 16, 5, 5))) for seed in (0, 1))
    unit(x)
    results = []
    for enter, leave in ((check.narrow, check.wide), (lambda one: one, lambda one: one)):
        given_, frozen = enter(x), unit.module[0].weight
        frozen.grad_req = request_
        given_.attach_grad('add')
        if request_ == 'add':
            frozen.zero_grad()
        for _ in range(2):
            with autograd.record(), kernels.fusing():
                y = leave(unit(given_))
            y.backward(above)
        results.append([leave(given_.grad).asnumpy(), unit.module[4].gamma.grad().asnumpy()])
        if request_ == 'add':
            results[-1].append(frozen.grad().asnumpy())
    for ours, theirs in zip(*results):
        assert np.linalg.norm(ours - theirs) < 0.05 * np.linalg.norm(theirs)


OPERATORS = {
    'relu': lambda x, gate: nd.Activation(x, act_type='relu'),
    'sigmoid': lambda x, gate: nd.Activation(x, act_type='sigmoid'),
    'clip': lambda x, gate: nd.clip(x, -0.5, 0.75),
    'sum': lambda x, gate: nd.elemwise_add(x, x),
    'sum of two': lambda x, gate: nd.add_n(x, x),
    'product': lambda x, gate: nd.elemwise_mul(x, x),
    'scaled channels': nd.broadcast_mul,
    'shifted channels': nd.broadcast_add,
    'scaled positions': nd.broadcast_mul,
    'mean over space': lambda x, gate: nd.contrib.AdaptiveAvgPooling2D(x, output_size=1),
}


@pytest.mark.parametrize('shape', [(2, 16, 5, 7), (3, 24, 4, 4), (1, 5, 3, 3)])
@pytest.mark.parametrize('name', OPERATORS)
def test_operators_between_convolutions(name, shape):
    """As in float32, on maps that a convolution made."""
    random, channels = np.random.RandomState(0), shape[1]
    factor = (shape[0], 1, *shape[2:]) if 'positions' in name else (*shape[:2], 1, 1)
    data = [rounded(random.standard_normal(one)) for one in (shape, factor)]
    above = random.standard_normal(shape)
    identity = nd.array(np.eye(channels)[:, :, None, None])

    def run(enter, leave):
        given = [nd.array(array) for array in data]
        for array in given:
            array.attach_grad()
        with autograd.record():
            x, gate = (enter(array) for array in given)
            x = nd.Convolution(x, enter(identity), kernel=(1, 1), num_filter=channels, no_bias=True)
            out = leave(OPERATORS[name](x, gate))
        out.backward(nd.array(rounded(above)).reshape(shape) if out.shape == shape else nd.ones(out.shape))
        used = given if OPERATORS[name] in (nd.broadcast_mul, nd.broadcast_add) else given[:1]
        return [out.asnumpy(), *(array.grad.asnumpy() for array in used)]

    before = kernels.calls()
    ours = run(lambda x: nd.amp_cast(x, dtype=check.TYPE), lambda x: nd.amp_cast(x, dtype='float32'))
    if kernels.loaded():
        assert kernels.calls() > before
    for found, expected in zip(ours, run(lambda x: x, lambda x: x)):
        np.testing.assert_allclose(found, expected, atol=check.TOLERANCE * np.abs(expected).max())


# In a process of its own, because the casts are permanent.
NETWORKS = """
import environment
import json
from collections import Counter

import mxnet as mx
import numpy as np
from mxnet import autograd

import kernels
from model import get_model
from model.hybridization import apply_mode
from training.precision import Precision

precision = Precision('bfloat16')


def learned(name, fuse):
    mx.random.seed(0)
    net = get_model(f'cifar_{name}')
    net.initialize(mx.init.Xavier())
    net(mx.nd.zeros((1, 3, 32, 32)))
    program = precision.program(net)
    apply_mode(program, 'static')
    random = np.random.RandomState(0)
    data, above = mx.nd.array(random.randn(8, 3, 32, 32)), mx.nd.array(random.randn(8, 10))
    with autograd.record(), kernels.fusing(fuse):
        logits = program(data)
        graph = program._get_graph(data)[1]
    logits.backward(above)
    arrays = [logits, *(p.grad() for p in net.collect_params().values() if p.grad_req != 'null')]
    nodes = json.loads(graph.tojson(remove_amp_cast=False))['nodes']
    _, outputs, _ = graph.get_internals().infer_type(data='float32')
    narrow = [np.dtype(t).itemsize == 2 for t in outputs]
    types = dict(zip(graph.get_internals().list_outputs(), narrow))
    maps = [one for one in types if 'conv' in one and one.endswith('_fwd_output') or fuse and 'broadcast_mul' in one]
    assert all(types[one] for one in maps), [one for one in maps if not types[one]]
    return np.concatenate([one.asnumpy().ravel() for one in arrays]), Counter(node['op'] for node in nodes)


for name, expected in {
    'resnet8_v1': {'_norm_enter': 6, '_norm_leave': 3, '_norm_leave_sum': 3},
    'se_resnet8_v1': {'_norm_enter': 6, '_norm_leave': 3, '_norm_leave_gate_sum': 3, '_pool_space': 0},
    'dia_resnet8_v1': {'_norm_leave_gate_sum': 3},
    'dca_se_resnet8_v1': {'_norm_leave_gate_sum': 3},
    'cbam_resnet8_v1': {
        '_norm_leave': 3,
        '_norm_leave_sum': 2,
        '_pool_space_max': 3,
        '_pool_channels': 3,
        '_single_map': 3,
        'broadcast_mul': 6,
    },
    'gc_resnet8_v1': {'_attend': 3},
    'sge_resnet8_v1': {'_sge': 3},
    'atac_resnet8_v2': {'_atac': 7},
}.items():
    ours, operators = learned(name, True)
    theirs, _ = learned(name, False)
    assert {op: operators[op] for op in expected} == expected, (name, operators)
    # bfloat16 rounds the two differently, and a number near 0 to the other side of a ReLU.
    assert ours @ theirs / np.sqrt((ours @ ours) * (theirs @ theirs)) > 0.98, name
"""


@pytest.mark.skipif(not TILES, reason='this CPU has no AMX')
def test_networks_have_the_operators():
    run = subprocess.run([sys.executable, '-c', NETWORKS], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
