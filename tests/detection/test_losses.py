"""Losses and their gradients against cases computed by hand."""

import math

import numpy as np
import pytest
from mxnet import autograd, nd

from detection.losses import binary_cross_entropy, cross_entropy, focal, smooth_l1


def gradient(loss, x, *arguments):
    x = nd.array(x)
    x.attach_grad()
    with autograd.record():
        value = loss(x, *arguments)
    value.backward()
    return value.asnumpy(), x.grad.asnumpy()


def test_binary_cross_entropy():
    # p = 3 / 4: -log p and -log(1 - p); the gradient is p - t.
    logit = math.log(3)
    value, slope = gradient(binary_cross_entropy, [logit, logit], nd.array([1, 0]))
    assert value == pytest.approx([math.log(4 / 3), math.log(4)], rel=1e-6)
    assert slope == pytest.approx([-0.25, 0.75], rel=1e-6)


def test_focal_by_hand():
    # p = 3 / 4: 0.25 (1/4)^2 log(4/3) where it is there, 0.75 (3/4)^2 log 4 where it is not.
    logit = math.log(3)
    value, slope = gradient(focal, [logit, logit], nd.array([1, 0]))
    assert value == pytest.approx([0.25 / 16 * math.log(4 / 3), 0.75 * 9 / 16 * math.log(4)], rel=1e-5)
    # By p_t: d/dlogit of -a (1 - p)^2 log p is a (1 - p)^2 (2 p log p - (1 - p)), with the opposite sign if t is 0.
    there = 0.25 / 16 * (2 * 0.75 * math.log(0.75) - 0.25)
    absent = -0.75 * 9 / 16 * (2 * 0.25 * math.log(0.25) - 0.75)
    assert slope == pytest.approx([there, absent], rel=1e-5)


def test_focal_without_focus_is_weighted_cross_entropy():
    logits, targets = nd.array([-2, 0.5, 3]), nd.array([1, 0, 1])
    plain = binary_cross_entropy(logits, targets).asnumpy()
    weights = np.array([0.3, 0.7, 0.3])
    assert focal(logits, targets, alpha=0.3, gamma=0).asnumpy() == pytest.approx(weights * plain, rel=1e-5)


def test_a_confident_mistake_has_a_loss_and_a_gradient():
    value, slope = gradient(focal, [-200.0, 200.0], nd.array([1, 0]))
    assert value == pytest.approx([0.25 * 200, 0.75 * 200], rel=1e-5)
    assert slope == pytest.approx([-0.25, 0.75], rel=1e-5)
    right, flat = gradient(focal, [200.0, -200.0], nd.array([1, 0]))
    assert (right == 0).all()
    assert (flat == 0).all()


@pytest.mark.parametrize('beta', [0.11, 1 / 9, 1.0])
def test_smooth_l1(beta):
    value, slope = gradient(smooth_l1, [beta / 2, -beta / 2, 3.0, -3.0], nd.array([0, 0, 0, 1]), beta)
    assert value == pytest.approx([beta / 8, beta / 8, 3 - beta / 2, 4 - beta / 2], rel=1e-5)
    assert slope == pytest.approx([0.5, -0.5, 1, -1], rel=1e-5)


def test_cross_entropy():
    logits = [[0, math.log(2), math.log(5)], [0, 0, 0]]
    value, slope = gradient(cross_entropy, logits, nd.array([2, 0]))
    assert value == pytest.approx([math.log(8 / 5), math.log(3)], rel=1e-5)
    assert slope[0] == pytest.approx([1 / 8, 2 / 8, 5 / 8 - 1], rel=1e-5)
