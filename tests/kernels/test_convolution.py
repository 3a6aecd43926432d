"""Convolutions of a training step: exact as float32 can be, repeatable to the bit, MXNet's where ours do not pay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, nd

import kernels
from kernels.check_convolution import ERROR, OURS, Convolution, by_mxnet, by_numpy, drawn, errors

from .needs import needs_kernels

pytestmark = needs_kernels

SMALL = Convolution(8, 16, 32, 8, 8)  # that ours take


def convolved(x, weight, **others):
    given = {'kernel': (3, 3), 'pad': (1, 1), 'num_filter': weight.shape[0], 'no_bias': True, **others}
    return nd.Convolution(x, weight, **given)


@pytest.mark.parametrize('in_layout', [False, True], ids=['plain', 'in layout'])
@pytest.mark.parametrize('case', OURS, ids=str)
def test_those_that_ours_take(case, in_layout):
    apart, taken = errors(case, in_layout)
    assert max(apart) < ERROR
    assert taken == 2


def test_errors_with_many_channels():
    apart, taken = errors(Convolution(32, 512, 16, 4, 4), True)
    assert max(apart) < ERROR
    assert taken == 2


@pytest.mark.parametrize(
    'case',
    [
        Convolution(8, 20, 16, 8, 8),
        Convolution(8, 16, 3, 8, 8),
        Convolution(1, 16, 16, 8, 8),
        Convolution(64, 16, 16, 1, 1),
        Convolution(8, 16, 16, 8, 8, stride=2),
        Convolution(8, 16, 16, 8, 8, kernel=5),
    ],
    ids=str,
)
def test_others_are_left_to_mxnet(case):
    apart, taken = errors(case, True)
    assert max(apart) < ERROR
    assert taken == 0


@settings(max_examples=25, deadline=None)
@given(
    case=st.builds(
        Convolution,
        samples=st.integers(1, 12),
        inputs=st.sampled_from([1, 3, 8, 16, 24, 32, 48]),
        outputs=st.sampled_from([1, 8, 16, 24, 32, 40]),
        height=st.integers(1, 14),
        width=st.integers(1, 14),
        kernel=st.sampled_from([1, 3, 3, 3]),
        stride=st.sampled_from([1, 1, 2]),
        depthwise=st.just(False),
    ),
    in_layout=st.booleans(),
)
def test_any_shape(case, in_layout):
    apart, _ = errors(case, in_layout)
    assert max(apart) < 2 * ERROR  # of few numbers, which may cancel


@settings(max_examples=25, deadline=None)
@given(data=st.data(), in_layout=st.booleans())
def test_any_depthwise_one(data, in_layout):
    samples, channels = data.draw(st.integers(1, 4)), data.draw(st.sampled_from([2, 8, 16, 24, 48]))
    sides = data.draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    kernel, stride = data.draw(st.sampled_from([1, 3, 5, 7])), data.draw(st.integers(1, 4))
    case = Convolution(samples, channels, channels, *sides, kernel=kernel, stride=stride, depthwise=True)
    apart, _ = errors(case, in_layout)
    assert max(apart) < 2 * ERROR


@pytest.mark.parametrize('arguments', [{'dilate': (2, 2), 'pad': (2, 2)}, {'num_group': 2}], ids=str)
def test_other_arguments_are_left_to_mxnet(arguments):
    case = SMALL
    x, weight, _ = (nd.array(array) for array in drawn(case))
    if 'num_group' in arguments:
        weight = weight[:, :8]
    before = kernels.calls()
    with autograd.record():
        convolved(x, weight, **arguments).wait_to_read()
    assert kernels.calls() == before


def test_predictions_are_mxnets():
    x, weight, _ = (nd.array(array) for array in drawn(SMALL))
    before = kernels.calls()
    convolved(x, weight).wait_to_read()
    assert kernels.calls() == before


def test_float64_is_left_to_mxnet():
    x, weight, _ = (nd.array(array, dtype='float64') for array in drawn(SMALL))
    weight.attach_grad()
    before = kernels.calls()
    with autograd.record():
        y = convolved(x, weight)
    y.backward()
    assert y.dtype == weight.grad.dtype == np.float64
    nd.waitall()
    assert kernels.calls() == before


@pytest.mark.parametrize('bias', [False, True])
def test_with_and_without_a_bias(bias):
    arrays = drawn(SMALL)
    x, weight, above = (nd.array(array) for array in arrays)
    term = nd.array(np.arange(32))
    for array in (x, weight, term):
        array.attach_grad()
    with autograd.record():
        y = nd.Convolution(x, weight, *[term][: int(bias)], kernel=(3, 3), pad=(1, 1), num_filter=32, no_bias=not bias)
    y.backward(above)
    expected, of_x, of_weight = by_numpy(SMALL, *arrays)
    expected += np.arange(32)[:, None, None] * bias
    for ours, theirs in ((y, expected), (x.grad, of_x), (weight.grad, of_weight)):
        np.testing.assert_allclose(ours.asnumpy(), theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize('of_x', ['write', 'add', 'null'])
@pytest.mark.parametrize('of_weight', ['write', 'add', 'null'])
def test_requests(of_x, of_weight):
    """After two backward passes the gradients are written, added up, or as they were."""
    arrays = drawn(SMALL)
    x, weight, above = (nd.array(array) for array in arrays)
    x.attach_grad(of_x)
    weight.attach_grad(of_weight)
    for _ in range(2):
        with autograd.record():
            y = convolved(x, weight)
        if (of_x, of_weight) != ('null', 'null'):
            y.backward(above)
    _, *expected = by_numpy(SMALL, *arrays)
    for array, request, one in zip((x, weight), (of_x, of_weight), expected):
        if request != 'null':
            one = one * {'write': 1, 'add': 2}[request]
            np.testing.assert_allclose(array.grad.asnumpy(), one, atol=1e-5 * np.abs(one).max())


def test_parts_of_arrays():
    """Inputs and outputs that are views of larger arrays; what lies beside them stays as it is."""
    arrays = drawn(SMALL)
    whole = nd.zeros((10, 16, 8, 8))
    whole[1:9] = nd.array(arrays[0])
    target = nd.ones((10, 32, 8, 8))
    with autograd.train_mode():
        convolved(whole[1:9], nd.array(arrays[1]), out=target[1:9])
    expected = by_numpy(SMALL, *arrays)[0]
    np.testing.assert_allclose(target.asnumpy()[1:9], expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_array_equal(target.asnumpy()[[0, 9]], 1)


def test_the_same_bits_each_time():
    for case in (SMALL, OURS[3]):
        arrays = drawn(case)
        first, _ = by_mxnet(case, arrays, True)
        for _ in range(3):
            again, _ = by_mxnet(case, arrays, True)
            for one, other in zip(first, again):
                np.testing.assert_array_equal(one, other)


def test_nan_and_infinity_arrive():
    x, weight, above = drawn(SMALL)
    x[3, 2, 4, 4], above[1, 0, 0, 0] = np.nan, np.inf
    (y, of_x, of_weight), taken = by_mxnet(SMALL, [x, weight, above], False)
    assert taken == 2
    assert np.isnan(y[3]).any()
    assert np.isfinite(y[2]).all()
    assert not np.isfinite(of_x[1]).all()
    assert np.isfinite(of_x[2]).all()
    assert not np.isfinite(of_weight).all()
