"""Smoothed and mixed labels, and what a step reports about them."""

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.loss import Criterion, figures
from training.mixup import mix

LOGITS = np.random.RandomState(0).randn(6, 5).astype(np.float32)
LABELS = np.array([0, 4, 2, 2, 1, 3])


def cross_entropy(targets):
    shifted = LOGITS - LOGITS.max(1, keepdims=True)
    return -(targets * (shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))).sum(1)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from([0.0, 0.1, 0.3]), st.sampled_from([1.0, 0.7, 0.25, 0.0]))
def test_the_loss_is_the_cross_entropy_with_the_target_of_the_sheet(eta, share):
    on, off = 1 - eta + eta / 5, eta / 5
    smoothed = np.where(np.eye(5)[LABELS] == 1, on, off)
    targets = share * smoothed + (1 - share) * smoothed[::-1]
    criterion = Criterion(5, eta)
    np.testing.assert_allclose(criterion.targets(mx.nd.array(LABELS), share).asnumpy(), targets, atol=1e-6)
    losses = criterion(mx.nd.array(LOGITS), mx.nd.array(LABELS), share).asnumpy()
    np.testing.assert_allclose(losses, cross_entropy(targets), rtol=1e-5)


@pytest.mark.parametrize('eta', [-0.1, 1.0])
def test_smoothing_out_of_range(eta):
    with pytest.raises(ValueError, match='0 up to but not including 1'):
        Criterion(5, eta)


@pytest.mark.parametrize('share', [1.0, 0.6, 0.4])
def test_figures(share):
    losses = mx.nd.array([1, 2, 3, 4, 5, 6])
    labels = LABELS[::-1] if share < 0.5 else LABELS
    total, correct = figures(losses, mx.nd.array(LOGITS), mx.nd.array(LABELS), share).asnumpy()
    assert total == 21
    assert correct == (LOGITS.argmax(1) == labels).sum()


def test_mixing_mirrors_the_batch():
    images = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_allclose(mix(mx.nd.array(images), 0.75).asnumpy(), 0.75 * images + 0.25 * images[::-1])
    np.testing.assert_array_equal(mix(mx.nd.array(images), 1.0).asnumpy(), images)
