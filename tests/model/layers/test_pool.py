"""The mean over space, and its gradient."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from model.layers.pool import GlobalAvgPool


@pytest.mark.parametrize('shape', [(2, 3, 8, 8), (1, 3, 1, 1), (2, 3, 5, 7), (3, 3, 32, 32)])
@pytest.mark.parametrize('hybridize', [False, True])
def test_mean_and_gradient(shape, hybridize):
    pool = GlobalAvgPool()
    pool.hybridize(hybridize)
    rng = np.random.RandomState(0)
    data, weight = rng.standard_normal(shape), rng.standard_normal((*shape[:2], 1, 1))
    x = mx.nd.array(data)
    x.attach_grad()
    with autograd.record():
        out = pool(x)
    out.backward(mx.nd.array(weight))
    np.testing.assert_allclose(out.asnumpy(), data.mean((2, 3), keepdims=True), rtol=1e-4, atol=1e-6)
    expected = np.broadcast_to(weight / (shape[2] * shape[3]), shape)
    np.testing.assert_allclose(x.grad.asnumpy(), expected, rtol=1e-5)
