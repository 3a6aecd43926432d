"""Views of arrays, in-place steps and outputs that are inputs are right with the kernels, in any layout."""

import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

import kernels
from kernels import fused

from . import programs
from .needs import needs_kernels

pytestmark = needs_kernels

ROOT = Path(kernels.__file__).resolve().parent.parent
COUNTS = {'programs': 400, 'graphs': 150}


@pytest.fixture(scope='module')
def outcomes(tmp_path_factory):
    """Return the results of the random programs and graphs, {module: (with the kernels, without)}."""
    folder, found = tmp_path_factory.mktemp('outcomes'), {}
    for module, count in COUNTS.items():
        paths, running = [folder / f'{module}-{switch}.npz' for switch in (1, 0)], []
        for switch, path in zip('10', paths):
            environment = {**os.environ, 'PYTHONPATH': str(ROOT), kernels.SWITCH: switch}
            command = [sys.executable, '-W', 'ignore', '-m', f'tests.kernels.{module}', '0', str(count), str(path)]
            running.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
        for process in running:
            said = process.communicate()[1]
            assert process.returncode == 0, said[-2000:]
        found[module] = [dict(np.load(str(path))) for path in paths]
        assert found[module][0]['calls'] > 1000
        assert found[module][1]['calls'] == 0
    return found


def apart(ours, theirs):
    """Return the largest difference between two lists of arrays, relative to the largest number of all."""
    with np.errstate(all='ignore'):  # what MXNet corrupts may be anything
        scale = max([1.0, *(np.abs(array).max() for array in theirs if array.size)])
        return max([0.0, *(np.abs(one - other).max() / scale for one, other in zip(ours, theirs) if other.size)])


def test_random_programs(outcomes):
    """With the kernels, results equal NumPy's; without them too, as far as MXNet is able to."""
    alike = 0
    for seed in range(COUNTS['programs']):
        program = programs.Program(seed)
        expected, arrays = programs.by_numpy(program), []
        for found in outcomes['programs']:
            failed = f'{seed}/error' in found
            arrays.append(None if failed else [found[f'{seed}/{k}'] for k in range(len(expected))])
        assert arrays[0] is not None, (seed, outcomes['programs'][0][f'{seed}/error'])
        assert apart(arrays[0], expected) < 1e-5, (seed, program.steps)
        if arrays[1] is not None:
            same = apart(arrays[0], arrays[1]) < 1e-5
            assert same or program.beyond_mxnet, (seed, program.steps)
            alike += same
    assert alike > COUNTS['programs'] / 2


def test_random_graphs(outcomes):
    ours, theirs = outcomes['graphs']
    assert sorted(ours) == sorted(theirs)
    for name in set(ours) - {'calls'}:
        assert apart([ours[name]], [theirs[name]]) < 1e-5, name


def in_layout(values):
    channels = values.shape[1]
    weight = nd.array(np.eye(channels)[:, :, None, None])
    return nd.Convolution(nd.array(values), weight, kernel=(1, 1), num_filter=channels, no_bias=True)


def sigmoid(array, out):
    return nd.Activation(array, act_type='sigmoid', out=out)


def drawn(*shape):
    return np.random.RandomState(0).randn(*shape).astype('float32')


OTHER, FACTOR = drawn(1, 16, 5, 5), drawn(1, 16, 1, 1)
STEPS = {
    'product in place': (lambda v, b, f: v.__imul__(b), lambda v: v * OTHER),
    'sum in place': (lambda v, b, f: v.__iadd__(b), lambda v: v + OTHER),
    'product': (lambda v, b, f: nd.elemwise_mul(v, b, out=v), lambda v: v * OTHER),
    'product, the other first': (lambda v, b, f: nd.elemwise_mul(b, v, out=v), lambda v: v * OTHER),
    'product of others': (lambda v, b, f: nd.elemwise_mul(b, b, out=v), lambda v: OTHER * OTHER),
    'square': (lambda v, b, f: nd.elemwise_mul(v, v, out=v), lambda v: v * v),
    'sum': (lambda v, b, f: nd.elemwise_add(b, v, out=v), lambda v: v + OTHER),
    'sum of many': (lambda v, b, f: nd.add_n(b, v, out=v), lambda v: v + OTHER),
    'scaled': (lambda v, b, f: nd.broadcast_mul(v, f, out=v), lambda v: v * FACTOR),
    'shifted': (lambda v, b, f: nd.broadcast_add(v, f, out=v), lambda v: v + FACTOR),
    'scaled other': (lambda v, b, f: nd.broadcast_mul(b, f, out=v), lambda v: OTHER * FACTOR),
    'sigmoid': (lambda v, b, f: sigmoid(v, v), lambda v: 1 / (1 + np.exp(-v))),
    "MXNet's": (lambda v, b, f: nd.tanh(b, out=v), lambda v: np.tanh(OTHER)),
    'filled': (lambda v, b, f: v.__setitem__(slice(None), 2), lambda v: v * 0 + 2),
    'copied to': (lambda v, b, f: b.copyto(v), lambda v: OTHER),
}


@pytest.mark.parametrize('made', ['by a convolution', 'by a kernel'])
@pytest.mark.parametrize('name', sorted(STEPS))
def test_a_step_on_a_part_leaves_the_rest_alone(name, made):
    step, expected = STEPS[name]
    values = drawn(4, 16, 5, 5)
    whole = in_layout(values)
    if made == 'by a kernel':
        whole, values = whole * whole, values * values
    part = whole[1:2]
    step(part, nd.array(OTHER), nd.array(FACTOR))
    values[1:2] = expected(values[1:2])
    np.testing.assert_allclose(whole.asnumpy(), values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(part.asnumpy(), values[1:2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('target', [0, 1])
def test_what_is_overwritten_was_read_before(target):
    """Two overlapping parts of one array, one of which is the output."""
    values = drawn(6, 16, 5, 5)
    whole = in_layout(values)
    parts = whole[:-1], whole[1:]
    nd.elemwise_mul(*parts, out=parts[target])
    values[target : 5 + target] = values[:-1] * values[1:]
    np.testing.assert_allclose(whole.asnumpy(), values, rtol=1e-5)


def test_memory_that_another_package_holds_stays_as_it_is():
    whole = in_layout(drawn(2, 16, 5, 5)) * 1
    squares = nd.elemwise_mul(whole, whole)
    shared = nd.from_dlpack(nd.to_dlpack_for_write(squares))
    np.testing.assert_allclose(shared.asnumpy(), whole.asnumpy() ** 2, rtol=1e-6)
    nd.elemwise_mul(squares, in_layout(drawn(2, 16, 5, 5)), out=squares)
    expected = squares.asnumpy()  # first, because MXNet does not know that `shared` depends on it
    np.testing.assert_array_equal(shared.asnumpy(), expected)


def test_gradients_that_are_added_to_a_part():
    above, x, b = drawn(2, 16, 5, 5), drawn(2, 16, 5, 5), nd.array(drawn(2, 16, 5, 5))
    whole = in_layout(np.ones((4, 16, 5, 5)))
    part, array = whole[1:3], nd.array(x)
    autograd.mark_variables([array], [part], 'add')
    with autograd.record():
        y = nd.elemwise_mul(array, b)
    y.backward(nd.array(above))
    expected = np.ones((4, 16, 5, 5), 'float32')
    expected[1:3] += above * b.asnumpy()
    np.testing.assert_allclose(whole.asnumpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_atac_unit_of_a_part():
    shapes = [(8, 16, 1, 1), *[(8,)] * 4, (16, 8, 1, 1), *[(16,)] * 4]
    parameters = [nd.array(np.abs(drawn(*shape)) + 0.1) for shape in shapes]

    def unit(x):
        return fused.atac(nd, x, *parameters, width=8, relu=True, epsilon=1e-5, momentum=0.9)

    values = drawn(4, 16, 5, 5)
    np.testing.assert_allclose(unit(in_layout(values)[1:3]).asnumpy(), unit(nd.array(values[1:3])).asnumpy(), rtol=1e-5)


@pytest.mark.parametrize('shape', [(0, 16, 3, 3), (2, 16, 0, 3)])
def test_the_atac_unit_of_nothing(shape):
    """Without samples or positions, the output is empty and nothing is learned."""
    shapes = [shape, (8, 16, 1, 1), *[(8,)] * 4, (16, 8, 1, 1), *[(16,)] * 4]
    with mx.util.np_shape(True):
        arrays = [nd.ones(one) for one in shapes]
        for array in arrays:
            array.attach_grad()
        with autograd.record():
            y = fused.atac(nd, *arrays, width=8, relu=True, epsilon=1e-5, momentum=0.9)
        y.backward(nd.ones(shape))
        assert y.asnumpy().shape == shape
        assert not any(array.grad.asnumpy().any() for array in arrays[1:])
        assert all((array.asnumpy() == 1).all() for array in arrays[1:])
