"""A detector's training step, computed by hand: its loss, and the limit of its gradient."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from detection.loader import Targets
from detection.step import DetectionStep, parts_of
from tests.detection.cases import small
from tests.training.flat import trainer_of
from training.distributed.ranks import Ranks

CPU = [mx.cpu()]
RATE = 0.1


def batch(images=2):
    data = np.random.RandomState(0).standard_normal((images, 3, 64, 64)).astype(np.float32)
    boxes = np.tile(np.float32([[4, 4, 30, 30], [-1, -1, -1, -1]]), (images, 1, 1))
    labels = np.tile(np.float32([1, -1]), (images, 1))
    return data, Targets(np.arange(images), np.full((images, 2), 64, np.float32), boxes, labels, 7)


def detector(contexts=CPU):
    net = small('retinanet')
    net(mx.nd.zeros((1, 3, 64, 64)), mx.nd.array([[64, 64]]))
    net.collect_params().reset_ctx(contexts)
    return net


def step_of(net, clip_norm, contexts=CPU):
    trainer = trainer_of(net, RATE, 0.0, 0.0, devices=len(contexts), kind='sgd')
    return DetectionStep(net, trainer, contexts, Ranks(), clip_norm)


def learned(net):
    return {n: p for n, p in net._collect_params_with_prefix().items() if p.grad_req != 'null'}


def gradients(net, data, targets):
    """Return the sum of the detector's losses, and its gradients."""
    random = np.random.RandomState([targets.seed, 0])
    with autograd.record():
        parts = net.losses(mx.nd.array(data), targets.sizes, targets.boxes, targets.labels, random)
        loss = mx.nd.add_n(*(part.reshape(1) for part in parts.values()))
    loss.backward()
    return float(loss.asscalar()), {name: p.grad().asnumpy() for name, p in learned(net).items()}


def near(found, expected, slope):
    """Compare arrays up to rounding, which their largest gradients bring to all of their elements."""
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 + 1e-3 * np.abs(slope).max())


@pytest.mark.parametrize('clip', [0, 1e9, 0.25])
def test_a_step_follows_the_gradient_that_is_cut_to_its_length(clip):
    data, targets = batch()
    loss, slopes = gradients(detector(), data, targets)
    length = np.sqrt(sum((slope.astype(np.float64) ** 2).sum() for slope in slopes.values()))
    assert length > 0.5
    net = detector()
    before = {name: p.data().asnumpy() for name, p in learned(net).items()}
    (figures,) = step_of(net, clip)(data, targets)
    assert figures.asnumpy() == pytest.approx([2 * loss, 0, length**2], rel=1e-3)  # losses summed over the images
    share = min(1.0, clip / length) if clip else 1.0
    for name, p in learned(net).items():
        expected = before[name] - RATE * share * slopes[name]
        np.testing.assert_allclose(
            p.data().asnumpy(), expected, rtol=1e-3, atol=1e-5 + 1e-3 * np.abs(slopes[name]).max()
        )


def test_two_devices_learn_from_the_mean_of_their_losses():
    """The CPU counts as two devices: each has its own image, whose loss is divided by its own positives."""
    contexts = [mx.cpu(0), mx.cpu(1)]
    data, targets = batch()
    targets.boxes[1, 1], targets.labels[1, 1] = [30, 30, 60, 50], 0
    halves = []
    for i in range(2):
        own = Targets(*(getattr(targets, n)[i : i + 1] for n in ('indices', 'sizes', 'boxes', 'labels')), targets.seed)
        net = detector()
        halves.append(gradients(net, data[i : i + 1], own)[1])
    net = detector(contexts)
    before = {name: p.data(contexts[0]).asnumpy() for name, p in learned(net).items()}
    step_of(net, 0, contexts)(data, targets)
    for name, p in learned(net).items():
        slope = (halves[0][name] + halves[1][name]) / 2
        first, second = (array.asnumpy() for array in p.list_data())
        np.testing.assert_allclose(
            first, before[name] - RATE * slope, rtol=1e-3, atol=1e-5 + 1e-3 * np.abs(slope).max()
        )
        assert first.tobytes() == second.tobytes()


def test_the_same_seed_draws_the_same():
    data, targets = batch()
    digests = set()
    for seed in (7, 7, 8):
        net = small('cascade_rcnn', samples=8, rpn_samples=8)
        net(mx.nd.zeros((1, 3, 64, 64)), mx.nd.array([[64, 64]]))
        step_of(net, 35)(data, Targets(targets.indices, targets.sizes, targets.boxes, targets.labels, seed))
        digests.add(b''.join(p.data().asnumpy().tobytes() for p in learned(net).values()))
    assert len(digests) == 2


@pytest.mark.parametrize(('images', 'devices', 'shares'), [(4, 1, [4]), (4, 2, [2, 2]), (5, 2, [2, 3]), (1, 3, [1])])
def test_devices_share_the_images(images, devices, shares):
    parts = parts_of(images, devices)
    assert [part.stop - part.start for part in parts] == shares
    assert (parts[0].start, parts[-1].stop) == (0, images)


def test_a_gradient_that_is_not_finite_is_seen():
    """The figures hold the gradient's norm before clipping, so that the loop can undo such a step."""
    data, targets = batch()
    data[0, 0, 0, 0] = np.inf
    (figures,) = step_of(detector(), 35)(data, targets)
    assert not np.isfinite(figures.asnumpy()[[0, 2]]).all()
    assert isinstance(step_of(detector(), 35).trainer, gluon.Trainer)
