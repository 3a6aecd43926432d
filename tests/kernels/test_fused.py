"""Our own operators give what the same operators of MXNet's give, in networks too, and pass maps on without a copy."""

import hashlib
import json

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, gluon, nd

import kernels
from kernels import check_fused as check
from kernels import fused
from model import get_model
from model.attention.cbam import CBAM
from model.attention.dca import ChannelMapConnection
from model.attention.gc import GC
from model.attention.se import SE
from model.attention.sge import SGE
from model.hybridization import apply_mode

from .needs import needs_kernels

pytestmark = needs_kernels

UNITS = {'SE': SE, 'CBAM': CBAM, 'GC': GC, 'SGE': SGE}


@pytest.mark.parametrize(('name', 'shape', 'in_layout'), list(check.fused_cases()))
def test_values_and_gradients(name, shape, in_layout):
    assert check.fused_difference(name, shape, in_layout) < 1e-5


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(name for name in check.FUSED if 'ReLU' not in name)),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 72), st.integers(1, 9), st.integers(1, 40)),
    in_layout=st.booleans(),
)
def test_any_shape(name, shape, in_layout):
    assert check.fused_difference(name, shape, in_layout) < 2e-5


def initialized(unit):
    unit.initialize(mx.init.Normal(0.3))
    for parameter in unit.collect_params().values():
        if 'running' not in parameter.name:
            parameter.set_data(nd.array(np.random.RandomState(1).uniform(-0.5, 0.5, parameter.shape)))
    return unit


def outcome(unit, x, fuse, request='write'):
    """What the unit gives for x, behind a convolution so that it comes in oneDNN's layout, and all gradients."""
    identity = nd.array(np.eye(x.shape[1])[:, :, None, None])
    trained = [one for one in unit.collect_params().values() if one.grad_req != 'null']
    for parameter in trained:
        parameter.grad_req = request
        parameter.zero_grad()
    x.attach_grad(request)
    for _ in range(2):
        with autograd.record(), kernels.fusing(fuse):
            entered = nd.Convolution(x, identity, kernel=(1, 1), num_filter=x.shape[1], no_bias=True)
            y = unit(entered)
        y.backward(nd.array(np.random.RandomState(2).randn(*y.shape)))
    return [array.asnumpy() for array in (y, x.grad, *(one.grad() for one in trained))]


@pytest.mark.parametrize('request_', ['write', 'add'])
@pytest.mark.parametrize('mode', ['imperative', 'hybrid', 'static'])
@pytest.mark.parametrize('name', sorted(UNITS))
def test_units(name, mode, request_):
    x = nd.array(np.random.RandomState(0).randn(2, 64, 7, 9))
    results = []
    for fuse in (True, False):
        unit = initialized(UNITS[name](64))
        apply_mode(unit, mode)
        results.append(outcome(unit, x, fuse, request_))
    for ours, theirs in zip(*results):
        scale = max(1, np.abs(theirs).max())
        np.testing.assert_allclose(ours / scale, theirs / scale, atol=2e-5)


@pytest.mark.filterwarnings('ignore:The 3-th, 4-th input to HybridBlock is not used')
@pytest.mark.parametrize('mode', ['imperative', 'static'])
def test_a_connection_behind_an_adapter(mode):
    """Its adapter's map is pooled, and not used otherwise."""
    random = np.random.RandomState(0)
    inputs = [nd.array(random.randn(*shape)) for shape in ((2, 32), (2, 32), (2, 16, 5, 5), (2, 16), (2, 16))]
    results = []
    for fuse in (True, False):
        unit = initialized(ChannelMapConnection(16, 32))
        apply_mode(unit, mode)
        inputs[2].attach_grad()
        with autograd.record(), kernels.fusing(fuse):
            mean, maximum = unit(*inputs)
            loss = (mean * maximum).sum()
        loss.backward()
        results.append([mean.asnumpy(), maximum.asnumpy(), inputs[2].grad.asnumpy()])
    for ours, theirs in zip(*results):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def operators(net, fuse=True):
    with autograd.record(), kernels.fusing(fuse):
        graph = net(mx.sym.var('data'))
    return [node['op'] for node in json.loads(graph.tojson())['nodes']]


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('se', {'_pool_space': 3}),
        ('cbam', {'_pool_space_max': 3, '_pool_channels': 3, '_single_map': 3}),
        ('gc', {'_attend': 3}),
        ('sge', {'_sge': 3}),
        ('dia', {'_pool_space': 3}),
        # Two of the pools are behind adapters.
        ('dca_cbam', {'_pool_space_max': 5, '_pool_channels': 3, '_merge_vectors': 4, '_merge_maps': 2}),
        ('dca_se', {'_pool_space': 3, '_merge_vectors_bias': 2}),
    ],
)
def test_which_operators_networks_have(name, expected):
    net = get_model(f'cifar_{name}_resnet8_v1')
    found = operators(net)
    assert {op: found.count(op) for op in expected} == expected
    assert not set(expected) & set(operators(net, fuse=False))


def traced(name, fuse=True, **options):
    """The operators of a network's graph, hybridized."""
    net = get_model(name, **options)
    net.initialize()
    apply_mode(net, 'static')
    with autograd.record(), kernels.fusing(fuse):
        graph = net._get_graph(nd.zeros((1, 3, 32, 32)))[1]
    return graph, [node['op'] for node in json.loads(graph.tojson())['nodes']]


@pytest.mark.parametrize(
    ('name', 'options', 'expected'),
    [
        ('cifar_resnet8_v1', {}, {'_norm_enter': 6, '_norm_leave': 3, '_norm_leave_sum': 3, 'BatchNorm': 3}),
        ('cifar_se_resnet8_v1', {}, {'_norm_enter': 6, '_norm_leave': 3, '_norm_leave_gate_sum': 3, '_pool_space': 0}),
        ('cifar_dca_eca_resnet8_v1', {}, {'_norm_leave_gate_sum': 3}),
        ('cifar_dia_resnet8_v1', {}, {'_norm_leave_gate_sum': 3}),
        ('cifar_cbam_resnet8_v1', {}, {'_norm_leave': 3, '_norm_leave_sum': 2, '_sum_relu': 1}),  # the shortcuts' norms
        ('cifar_resnet8_v1', {'use_global_stats': True}, {'_norm_enter': 0}),
        ('mobilenet_v2', {}, {'_norm_enter': 35, '_norm_leave_six': 35, 'clip': 0, 'BatchNorm': 17}),
    ],
)
def test_which_norms_are_fused(name, options, expected):
    graph, found = traced(name, **options)
    assert {op: found.count(op) for op in expected} == expected
    plain, operators = traced(name, fuse=False, **options)
    assert not any(op.startswith('_norm') for op in operators)

    def without_prefix(names):
        return sorted(one.split('_', 1)[1] for one in names if '_' in one)

    assert without_prefix(graph.list_arguments()) == without_prefix(plain.list_arguments())
    assert without_prefix(graph.list_auxiliary_states()) == without_prefix(plain.list_auxiliary_states())


def learned(name, fuse, mode, frozen=False):
    """Logits of steps and of inference, and all parameters, in the order of their names."""
    mx.random.seed(0)
    net = get_model(name)
    net.initialize(mx.init.Xavier())
    parameters = net.collect_params().values()
    if frozen:
        for parameter in list(parameters)[:3]:
            parameter.grad_req = 'null'
    apply_mode(net, mode)
    random, seen = np.random.RandomState(0), []
    data, above = nd.array(random.randn(4, 3, 32, 32)), nd.array(random.randn(4, 10))
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 1e-3})
    for _ in range(2):
        with autograd.record(), kernels.fusing(fuse):
            logits = net(data)
        logits.backward(above)
        trainer.step(4, ignore_stale_grad=True)
        seen.append(logits.asnumpy())
    if mode == 'hybrid':  # with running statistics, where MXNet's graphs of fixed memory have the batch's
        with autograd.record(train_mode=False), kernels.fusing(fuse):
            logits = net(data)
        logits.backward(above, train_mode=False)
    seen += [one.grad().asnumpy() for one in parameters if one.grad_req != 'null']
    return [*seen, net(data).asnumpy(), *(parameter.data().asnumpy() for parameter in parameters)]


@pytest.mark.parametrize(
    ('name', 'mode', 'frozen'),
    [
        ('cifar_resnet8_v1', 'static', True),
        ('cifar_resnet8_v1', 'hybrid', False),
        ('cifar_dca_se_resnet8_v1', 'static', False),
        ('cifar_preresnet11', 'hybrid', True),
    ],
)
def test_networks_learn_the_same(name, mode, frozen):
    ours, theirs = (learned(name, fuse, mode, frozen) for fuse in (True, False))
    for one, other in zip(ours, theirs):
        # Numbers near 0 may be rounded to the other side of a ReLU, whose gradients then differ.
        np.testing.assert_allclose(one, other, rtol=5e-3, atol=2e-3 * max(1, np.abs(other).max()))


def test_a_map_passed_on_is_the_same_memory():
    """A graph with fixed memory has no second map: what comes behind the pool is the map in front of it."""
    x = mx.sym.var('x')
    passed, mean = fused.pool_space(mx.sym, mx.sym.relu(x))
    graph = mx.sym.broadcast_mul(passed, mx.sym.reshape(mean, (0, 0, 1, 1)))
    given = mx.sym.broadcast_mul(mx.sym.relu(x), mx.sym.var('gate', shape=(8, 64, 1, 1)))
    bound = [one.simple_bind(mx.cpu(), x=(8, 64, 64, 64)) for one in (graph, given)]
    megabytes = [float(one.debug_str().split('Total ')[1].split()[0]) for one in bound]  # a map has 8
    assert megabytes[0] < megabytes[1] + 8


def test_the_numbers_are_the_same_in_every_run():
    """The same bits, gradients included."""
    x = nd.array(np.random.RandomState(0).randn(3, 64, 9, 9))
    for unit in UNITS.values():
        seen = {
            hashlib.sha256(b''.join(array.tobytes() for array in outcome(initialized(unit(64)), x, True))).hexdigest()
            for _ in range(3)
        }
        assert len(seen) == 1


def test_what_is_not_finite_is_seen():
    x = nd.ones((2, 64, 4, 4))
    x[0, 3, 1, 1] = np.nan
    for unit in UNITS.values():
        made = initialized(unit(64))
        with autograd.record(), kernels.fusing():
            y = made(x)
        assert np.isnan(y.asnumpy()).any()


@pytest.mark.parametrize('shape', [(0, 16, 3, 3), (2, 16, 0, 3)])
def test_nothing(shape):
    """No samples, or no positions."""
    with mx.util.np_shape(True):
        x = nd.ones(shape)
        x.attach_grad()
        for function in (fused.pool_space, fused.pool_space_max, fused.pool_channels):
            with autograd.record():
                y = function(nd, x)[0]
            y.backward()
            assert x.grad.shape == shape
        mx.nd.waitall()


def test_wrong_inputs():
    with pytest.raises(mx.MXNetError, match='3 groups of 16 channels'):
        fused.sge(nd, nd.zeros((2, 16, 4, 4)), nd.zeros((1, 3, 1, 1)), nd.zeros((1, 3, 1, 1)), 3, 1e-5)
    with pytest.raises(mx.MXNetError, match='_attend: input 1 is'):
        fused.attend(nd, nd.zeros((2, 16, 4, 4)), nd.zeros((1, 8, 1, 1)), nd.zeros((1,)))
    with pytest.raises(mx.MXNetError, match='_merge_maps: input 3 is'):
        fused.merge_maps(nd, nd.zeros((2, 16, 4, 4)), nd.zeros((2, 8, 4, 4)), nd.zeros((1,)), nd.zeros((1,)))
    with pytest.raises(mx.MXNetError, match='_merge_vectors: input 1 is'):
        fused.merge_vectors(
            nd, nd.zeros((2, 16)), nd.zeros((2, 8)), nd.zeros((1, 2, 1, 1)), *[nd.zeros((16,))] * 2, epsilon=1e-5
        )
    with pytest.raises(mx.MXNetError, match='float32'):
        fused.pool_space(nd, nd.zeros((2, 16, 4, 4), dtype='float64'))[1].wait_to_read()
