"""Extrema and products of feature maps: values and gradients, in training and in inference, at any size."""

from __future__ import annotations

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd

from model.layers.broadcast import affine, channel_max_and_mean, scale_map, spatial_max

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))


def values(shape, seed):
    """Return a map without ties, negative values among them."""
    return np.random.RandomState(seed).permutation(int(np.prod(shape))).reshape(shape).astype('float32') - 20


def recorded(function, x, *args):
    """Return the values of ``function`` and the gradient of their sum, weighted 1, 2, 3, ..."""
    x = mx.nd.array(x)
    x.attach_grad()
    with autograd.record():
        y = function(mx.nd, x, *args)
    weights = mx.nd.arange(1, y.size + 1).reshape(y.shape)
    y.backward(weights)
    return y.asnumpy(), x.grad.asnumpy(), weights.asnumpy()


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_spatial_max_and_its_gradient(shape, seed):
    x = values(shape, seed)
    expected = x.max(axis=(2, 3))
    result, gradient, weights = recorded(spatial_max, x)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(spatial_max(mx.nd, mx.nd.array(x)).asnumpy(), expected)
    np.testing.assert_array_equal(gradient, (x == expected[:, :, None, None]) * weights[:, :, None, None])


@settings(max_examples=40, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_channel_max_and_mean_and_their_gradients(shape, seed):
    x, channels = values(shape, seed), shape[1]
    maximum = x.max(axis=1)
    expected = np.stack([maximum, x.mean(axis=1)], axis=1)
    result, gradient, weights = recorded(channel_max_and_mean, x, channels)
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-4)
    inference = channel_max_and_mean(mx.nd, mx.nd.array(x), channels).asnumpy()
    np.testing.assert_allclose(inference, expected, rtol=1e-5, atol=1e-4)
    at_maximum, at_mean = weights[:, :1], weights[:, 1:]
    np.testing.assert_allclose(gradient, (x == maximum[:, None]) * at_maximum + at_mean / channels, rtol=1e-5)


@pytest.mark.parametrize('shape', [(2, 8, 7, 7), (1, 6, 4, 5), (1, 1, 1, 1)])
def test_of_equal_values_one_position_gets_the_gradient(shape):
    x = np.zeros(shape, 'float32')
    _, gradient, weights = recorded(spatial_max, x)
    assert (np.count_nonzero(gradient, axis=(2, 3)) == 1).all()
    np.testing.assert_array_equal(gradient.sum(axis=(2, 3)), weights)
    _, gradient, weights = recorded(channel_max_and_mean, x, shape[1])
    np.testing.assert_allclose(gradient.sum(axis=1), weights.sum(axis=1), rtol=1e-5)
    shares = gradient - weights[:, 1:] / shape[1]
    assert (np.count_nonzero(np.abs(shares) > 1e-3, axis=1) == 1).all()


@settings(max_examples=20, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_one_number_for_a_map(shape, seed):
    x, factor = values(shape, seed), mx.nd.array([0.75])
    factor.attach_grad()
    result, gradient, weights = recorded(scale_map, x, factor)
    np.testing.assert_allclose(result, 0.75 * x, rtol=1e-6)
    np.testing.assert_allclose(scale_map(mx.nd, mx.nd.array(x), factor).asnumpy(), 0.75 * x, rtol=1e-6)
    np.testing.assert_allclose(gradient, 0.75 * weights, rtol=1e-6)
    np.testing.assert_allclose(factor.grad.asscalar(), (weights.astype(float) * x).sum(), rtol=1e-4, atol=1e-2)


@settings(max_examples=20, deadline=None)
@given(shape=SHAPES, seed=st.integers(0, 99))
def test_two_numbers_for_a_channel(shape, seed):
    x = values(shape, seed)
    gamma, beta = (mx.nd.array(np.random.RandomState(seed + i).standard_normal(shape[1])) for i in range(2))
    for vector in (gamma, beta):
        vector.attach_grad()
    scale, shift = (vector.asnumpy()[:, None, None] for vector in (gamma, beta))
    result, gradient, weights = recorded(affine, x, gamma, beta)
    for found in (result, affine(mx.nd, mx.nd.array(x), gamma, beta).asnumpy()):
        np.testing.assert_allclose(found, x * scale + shift, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(gradient, weights * scale, rtol=1e-5)
    np.testing.assert_allclose(gamma.grad.asnumpy(), (weights * x).sum(axis=(0, 2, 3)), rtol=1e-4, atol=1e-1)
    np.testing.assert_allclose(beta.grad.asnumpy(), weights.sum(axis=(0, 2, 3)), rtol=1e-5)
