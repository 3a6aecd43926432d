"""Our kernels give the same numbers as MXNet's operators, in oneDNN's layout and outside it, and are really called."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd, nd

import kernels
from kernels import check

from .needs import needs_kernels

pytestmark = needs_kernels


@pytest.mark.parametrize(('name', 'shape', 'in_layout'), list(check.operator_cases()))
def test_values_and_gradients(name, shape, in_layout):
    assert check.differences(name, shape, in_layout) < 1e-5


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(sorted(check.OPERATORS)),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 9), st.integers(1, 9)),
    in_layout=st.booleans(),
)
def test_any_shape(name, shape, in_layout):
    assert check.differences(name, shape, in_layout) < 1e-5


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e30, -1e30, 88.5, -88.5, 0.0])
def test_sigmoid_of_numbers_at_the_edge(value):
    x = nd.full((1, 16, 3, 3), value)
    with np.errstate(over='ignore'):
        expected = 1 / (1 + np.exp(-np.float64(value)))
    np.testing.assert_allclose(nd.Activation(x, act_type='sigmoid').asnumpy(), expected, rtol=1e-6, atol=1e-30)


def test_sigmoid_is_right_to_the_last_bits():
    x = np.linspace(-80, 80, 100001, dtype='float32')
    ours = nd.Activation(nd.array(x), act_type='sigmoid').asnumpy().astype('float64')
    expected = 1 / (1 + np.exp(-x.astype('float64')))
    assert (np.abs(ours - expected) / expected).max() < 4e-7


@pytest.mark.parametrize('dtype', ['float64', 'float16', 'int32'])
def test_other_types_are_left_to_mxnet(dtype):
    before = kernels.calls()
    a, b = nd.array([[1, 2, 3]], dtype=dtype), nd.array([[4, 5, 6]], dtype=dtype)
    assert (a * b).asnumpy().tolist() == nd.elemwise_mul(a, b).asnumpy().tolist() == [[4, 10, 18]]
    assert nd.elemwise_add(a, b).asnumpy().tolist() == [[5, 7, 9]]
    assert kernels.calls() == before


def test_sparse_arrays_are_left_to_mxnet():
    dense = np.zeros((4, 3), 'float32')
    dense[1] = 1, 2, 3
    a = nd.array(dense).tostype('row_sparse')
    product = nd.elemwise_mul(a, a)
    assert product.stype == 'row_sparse'
    np.testing.assert_array_equal(product.asnumpy(), dense**2)
    csr = nd.array(dense).tostype('csr')
    np.testing.assert_array_equal(nd.broadcast_mul(csr, nd.array([2.0, 3.0, 4.0])).asnumpy(), dense * [2, 3, 4])


@pytest.mark.parametrize(
    'shapes', [((2, 3), (1, 3)), ((2, 16, 4, 4), (1, 16, 1, 1)), ((2, 16, 1, 1), (2, 16, 4, 4)), ((3,), (3,))]
)
def test_other_broadcasts(shapes):
    random = np.random.RandomState(0)
    a, b = (nd.array(random.randn(*shape)) for shape in shapes)
    a.attach_grad()
    b.attach_grad()
    with autograd.record():
        y = nd.broadcast_mul(a, b)
    y.backward()
    np.testing.assert_allclose(y.asnumpy(), a.asnumpy() * b.asnumpy(), rtol=1e-6)
    for one, other in ((a, b), (b, a)):
        full = np.broadcast_to(other.asnumpy(), y.shape)
        axes = tuple(k for k, length in enumerate(one.shape) if length != y.shape[k])
        np.testing.assert_allclose(one.grad.asnumpy(), full.sum(axes, keepdims=True).reshape(one.shape), rtol=1e-4)


@pytest.mark.parametrize('in_layout', [False, True])
def test_gradients_that_are_added(in_layout):
    """With `grad_req='add'`, the second backward pass adds to the first one's result."""
    random = np.random.RandomState(0)
    a, b = (nd.array(random.randn(2, 16, 4, 4)) for _ in range(2))
    identity = nd.array(np.eye(16)[:, :, None, None])
    a.attach_grad('add')
    b.attach_grad('add')
    for _ in range(2):
        with autograd.record():
            left = nd.Convolution(a, identity, kernel=(1, 1), num_filter=16, no_bias=True) if in_layout else a
            y = nd.elemwise_mul(left, b)
        y.backward()
    np.testing.assert_allclose(a.grad.asnumpy(), 2 * b.asnumpy(), rtol=1e-5)
    np.testing.assert_allclose(b.grad.asnumpy(), 2 * a.asnumpy(), rtol=1e-5)


def test_in_place_and_on_parts_of_arrays():
    x = np.random.RandomState(0).randn(4, 16, 5, 5).astype('float32')
    a = nd.array(x)
    a[1:3] *= a[1:3]
    x[1:3] *= x[1:3]
    a += a
    np.testing.assert_array_equal(a.asnumpy(), x + x)
    conv = nd.Convolution(a, nd.array(np.eye(16)[:, :, None, None]), kernel=(1, 1), num_filter=16, no_bias=True)
    conv *= a
    np.testing.assert_allclose(conv.asnumpy(), (x + x) ** 2, rtol=1e-5)


def test_layouts_that_differ():
    """One map in oneDNN's layout, the other plain; one in blocks of another size."""
    random = np.random.RandomState(0)
    a, b = (nd.array(random.randn(2, 16, 4, 4)) for _ in range(2))
    in_layout = nd.Convolution(a, nd.array(np.eye(16)[:, :, None, None]), kernel=(1, 1), num_filter=16, no_bias=True)
    np.testing.assert_allclose(nd.elemwise_mul(in_layout, b).asnumpy(), a.asnumpy() * b.asnumpy(), rtol=1e-5)
    np.testing.assert_allclose(nd.elemwise_add(b, in_layout).asnumpy(), a.asnumpy() + b.asnumpy(), rtol=1e-5, atol=1e-6)
