"""The activation units against their formulas, and their gradients against finite differences."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from model.activation import ACTIVATIONS, activation_factory
from model.activation.plain import SELU_ALPHA, SELU_SCALE


def made(name, channels=8, **options):
    block = activation_factory(name, **options)(channels)
    mx.random.seed(5)
    block.initialize(mx.init.Normal(0.5))
    return block


def sample(shape=(3, 8, 5, 7), seed=0):
    return mx.nd.array(np.random.RandomState(seed).standard_normal(shape).astype('float32'))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize('name', ACTIVATIONS)
@pytest.mark.parametrize('shape', [(1, 8, 1, 1), (3, 8, 5, 7), (2, 8, 4, 4)])
def test_keeps_shape_and_hybridizes(name, shape):
    block = made(name)
    data = sample(shape)
    expected = block(data).asnumpy()
    assert expected.shape == shape
    block.hybridize()
    np.testing.assert_allclose(block(data).asnumpy(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', ACTIVATIONS)
def test_gradient_is_the_slope(name):
    """Directional derivatives equal central differences, in float64 and away from the kinks at 0."""
    block = made(name)
    block.cast('float64')
    rng = np.random.RandomState(1)
    point = np.sign(rng.standard_normal((2, 8, 4, 4))) * rng.uniform(0.2, 3, (2, 8, 4, 4))
    direction, weight = rng.standard_normal((2, *point.shape))
    data = mx.nd.array(point, dtype='float64')
    weight = mx.nd.array(weight, dtype='float64')
    data.attach_grad()
    with autograd.record():
        out = (block(data) * weight).sum()
    out.backward()
    slope = float((data.grad.asnumpy() * direction).sum())

    def value(step):
        with autograd.train_mode():
            return float((block(mx.nd.array(point + step * direction, dtype='float64')) * weight).sum().asscalar())

    step = 1e-3  # MXNet computes PReLU in float32 even here, so a smaller step would drown in rounding
    assert slope == pytest.approx((value(step) - value(-step)) / (2 * step), rel=1e-3)


def test_atac_is_its_equation():
    block = made('atac', reduction=2)
    data = sample()
    with autograd.record():  # batch statistics
        out = block(data).asnumpy()

    def norm(z):
        return (z - z.mean((0, 2, 3), keepdims=True)) / np.sqrt(z.var((0, 2, 3), keepdims=True) + 1e-5)

    squeeze, excite = (block.module[i].weight.data().asnumpy()[:, :, 0, 0] for i in (0, 3))
    x = data.asnumpy().astype('float64')
    hidden = np.maximum(norm(np.einsum('oc,nchw->nohw', squeeze, x)), 0)
    expected = x * sigmoid(norm(np.einsum('oc,nchw->nohw', excite, hidden)))
    np.testing.assert_allclose(out, expected, rtol=1e-3, atol=1e-4)


def test_atac_with_wider_kernels():
    block = made('atac', reduction=2, kernel=3)
    data = sample()
    squeeze, expand = block.module[0], block.module[3]
    assert squeeze.weight.shape == (4, 8, 3, 3)
    assert expand.weight.shape == (8, 4, 3, 3)
    moved = data.copy()
    moved[:, :, 2, 3] += 1
    rows, columns = np.nonzero(np.abs((block(moved) - block(data)).asnumpy()).max((0, 1)) > 0)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 4, 1, 5)  # two 3x3 convolutions


@pytest.mark.parametrize('placement', ['after', 'before'])
def test_atac_beside_a_relu(placement):
    both = made('atac', placement=placement)
    unit = both[1] if placement == 'after' else both[0]
    data = sample()
    expected = unit(mx.nd.relu(data)) if placement == 'after' else mx.nd.relu(unit(data))
    np.testing.assert_array_equal(both(data).asnumpy(), expected.asnumpy())


def test_global_context_gives_one_gate_for_all_positions():
    block = made('atac', global_context=True)
    data = sample()
    ratio = block(data).asnumpy() / data.asnumpy()
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :, :1, :1], ratio.shape), rtol=1e-4)


def test_spatial_context_mixes_no_channels():
    block = made('atac_spatial')
    data = sample()
    changed = data.copy()
    changed[:, 0] += 1
    difference = np.abs((block(changed) - block(data)).asnumpy()).max((0, 2, 3))
    assert difference[0] > 0
    assert difference[1:].max() == 0


@pytest.mark.parametrize(('name', 'weights'), [('xunit', 12), ('atac_spatial', 22), ('prelu', None), ('selu', 0)])
def test_parameters_per_channel(name, weights):
    block = made(name, channels=16)
    parameters = [p for p in block.collect_params().values() if p.grad_req != 'null']
    total = sum(int(np.prod(p.shape)) for p in parameters)
    assert total == (1 if weights is None else 16 * weights)


def test_selu_far_below_zero():
    """MXNet's own operator has even the wrong sign there."""
    data = mx.nd.array([-4.0, -1.0, 2.0])
    slopes = {}
    for wrong in (False, True):
        block = made('selu', mxnet_gradient=wrong)
        data.attach_grad()
        with autograd.record():
            out = block(data)
        out.backward()
        slopes[wrong] = data.grad.asnumpy()
        x = data.asnumpy()
        expected = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * (np.exp(x) - 1))
        np.testing.assert_allclose(out.asnumpy(), expected, rtol=1e-5)
    expected = SELU_SCALE * np.array([SELU_ALPHA * np.exp(-4), SELU_ALPHA * np.exp(-1), 1])
    np.testing.assert_allclose(slopes[False], expected, rtol=1e-5)
    assert slopes[True][0] < 0


def test_unknown_name_says_which_are_near():
    with pytest.raises(ValueError, match='swish'):
        activation_factory('swisch')
