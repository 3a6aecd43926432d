"""Running variances over n - 1, as PyTorch keeps them."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

import kernels
from model import get_model
from model.layers.sample_variance import SampleVarianceNorm


def trained(norm, x, mode, steps=1):
    """Return the norm after some steps on ``x``, its last output, and the gradients of image, scale and shift."""
    norm.initialize()
    if mode != 'imperative':
        norm.hybridize(static_alloc=mode == 'static', static_shape=mode == 'static')
    x = mx.nd.array(x)
    x.attach_grad()
    weights = mx.nd.array(np.linspace(-1, 2, x.size)).reshape(x.shape)
    for _ in range(steps):
        with autograd.record():
            y = norm(x)
            loss = (weights * y).sum()
        loss.backward()
    return [a.asnumpy() for a in (y, x.grad, norm.gamma.grad(), norm.beta.grad())]


@pytest.mark.parametrize('mode', ['imperative', 'hybrid', 'static'])
@pytest.mark.parametrize('shape', [(2, 3, 1, 1), (5, 8, 2, 3)])
def test_the_statistics_are_pytorchs_and_the_rest_is_the_same(mode, shape):
    x = np.random.RandomState(0).randn(*shape).astype('float32')
    plain, norm = nn.BatchNorm(in_channels=shape[1]), SampleVarianceNorm(in_channels=shape[1])
    for ours, theirs in zip(trained(norm, x, mode, 3), trained(plain, x, mode, 3)):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    variance = x.var(axis=(0, 2, 3), ddof=1)
    assert norm.running_var.data().asnumpy() == pytest.approx(0.9**3 + (1 - 0.9**3) * variance, rel=1e-5)
    mean = x.mean(axis=(0, 2, 3))
    assert norm.running_mean.data().asnumpy() == pytest.approx((1 - 0.9**3) * mean, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize('mode', ['imperative', 'hybrid', 'static'])
def test_validation_uses_them_and_leaves_them(mode):
    x = np.random.RandomState(1).randn(4, 3, 1, 1).astype('float32')
    norm = SampleVarianceNorm(in_channels=3)
    trained(norm, x, mode)
    mean, variance = norm.running_mean.data().asnumpy(), norm.running_var.data().asnumpy()
    expected = (x[..., 0, 0] - mean) / np.sqrt(variance + 1e-5)
    assert norm(mx.nd.array(x)).asnumpy()[..., 0, 0] == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert np.array_equal(norm.running_var.data().asnumpy(), variance)


def test_one_value_is_no_reason_for_nan():
    norm = SampleVarianceNorm(in_channels=2)
    outputs = trained(norm, np.ones((1, 2, 1, 1), 'float32'), 'imperative')
    assert all(np.isfinite(array).all() for array in (*outputs, norm.running_var.data().asnumpy()))


def norms_of(net):
    found = []
    net.apply(lambda block: found.append(block) if isinstance(block, SampleVarianceNorm) else None)
    return found


@pytest.mark.parametrize(
    ('name', 'options', 'count'),
    [
        ('sk_resnet50_v1b', {'sample_variance': True}, 16),
        ('sk_resnet50_v1b', {}, 0),
        ('cifar_atac_resnet8_v2', {'act_sample_variance': True, 'act_global': True}, 14),
        ('cifar_atac_resnet8_v2', {'act_global': True}, 0),
    ],
)
def test_networks_have_it_where_asked_for_under_the_same_names(name, options, count):
    net = get_model(name, **options)
    assert len(norms_of(net)) == count
    plain = get_model(name, **{key: value for key, value in options.items() if 'variance' not in key})
    assert list(net._collect_params_with_prefix()) == list(plain._collect_params_with_prefix())


def test_the_fused_unit_steps_back():
    from model.activation.atac import ATAC

    unit = ATAC(16, sample_variance=True)
    unit.initialize()
    x = mx.nd.random.normal(shape=(2, 16, 1, 2))
    with autograd.record(), kernels.fusing():
        unit(x).backward()
    squeezed = unit.module[0](x).asnumpy()
    running = unit.module[1].running_var.data().asnumpy()
    assert running == pytest.approx(0.9 + 0.1 * squeezed.var(axis=(0, 2, 3), ddof=1), rel=1e-4)
