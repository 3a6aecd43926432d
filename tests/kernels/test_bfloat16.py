"""Maps in bfloat16: convolutions, batch norms and what is between them, against NumPy and float32."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, nd

import kernels
from environment.cpu import lacks, processor
from kernels import check_bfloat16 as check
from kernels.check_bfloat16 import Convolution, rounded

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
    case = Convolution(samples, channels, height, width, outputs, kernel, data.draw(st.integers(1, 3)), pad)
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


OPERATORS = {
    'relu': lambda x, gate: nd.Activation(x, act_type='relu'),
    'sigmoid': lambda x, gate: nd.Activation(x, act_type='sigmoid'),
    'clip': lambda x, gate: nd.clip(x, -0.5, 0.75),
    'sum': lambda x, gate: nd.elemwise_add(x, x),
    'sum of two': lambda x, gate: nd.add_n(x, x),
    'product': lambda x, gate: nd.elemwise_mul(x, x),
    'scaled channels': nd.broadcast_mul,
    'mean over space': lambda x, gate: nd.contrib.AdaptiveAvgPooling2D(x, output_size=1),
}


@pytest.mark.parametrize('shape', [(2, 16, 5, 7), (3, 24, 4, 4), (1, 5, 3, 3)])
@pytest.mark.parametrize('name', OPERATORS)
def test_operators_between_convolutions(name, shape):
    """As in float32, on maps that a convolution made."""
    random, channels = np.random.RandomState(0), shape[1]
    data = [rounded(random.standard_normal(one)) for one in (shape, (*shape[:2], 1, 1))]
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
        used = given if name == 'scaled channels' else given[:1]
        return [out.asnumpy(), *(array.grad.asnumpy() for array in used)]

    before = kernels.calls()
    ours = run(lambda x: nd.amp_cast(x, dtype=check.TYPE), lambda x: nd.amp_cast(x, dtype='float32'))
    if kernels.loaded():
        assert kernels.calls() > before
    for found, expected in zip(ours, run(lambda x: x, lambda x: x)):
        np.testing.assert_allclose(found, expected, atol=check.TOLERANCE * np.abs(expected).max())
