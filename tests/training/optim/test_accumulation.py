"""A step over several batches equals the step over one that holds them all; gradients are clipped as in torch."""

import mxnet as mx
import numpy as np
import pytest
from mxnet import gluon

from data.sampler import Sampler
from tests.training.flat import trainer_of
from training.loss import Criterion
from training.step import TrainingStep, build_network

CLASSES, SIZE = 4, 8
CPU = (mx.cpu(),)


def learned(count=12, contexts=CPU, kind='nag', scale=1.0, **options):
    """Return the weights after three steps, and the figures of each step."""
    net = build_network(lambda: gluon.nn.Dense(CLASSES, in_units=3 * SIZE * SIZE), 0, contexts, SIZE)
    trainer = trainer_of(net, 0.1, 0.9, 1e-3, kind, devices=len(contexts))
    step = TrainingStep(net, trainer, Criterion(CLASSES), contexts, **options)
    random, figures = np.random.RandomState(0), []
    for _ in range(3):
        data, labels = random.randn(count, 3, SIZE, SIZE).astype('float32'), random.randint(0, CLASSES, count)
        figures.append(np.sum([part.asnumpy() for part in step(data, labels, scale=scale)], axis=0))
    return net.weight.data(contexts[0]).asnumpy(), np.array(figures)


@pytest.mark.parametrize('kind', ['nag', 'adamw', 'lamb'])
@pytest.mark.parametrize(('count', 'part'), [(12, 4), (12, 6), (11, 4), (5, 4), (3, 4)])
def test_parts_make_the_step_of_the_whole(kind, count, part):
    whole, parts = learned(count, kind=kind), learned(count, kind=kind, part=part)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-4)


def test_parts_on_several_devices_with_a_loss_scale_and_a_cut():
    options = {'contexts': (mx.cpu(0), mx.cpu(1)), 'scale': 8.0, 'clip_norm': 0.5}
    whole, parts = learned(**options), learned(part=4, **options)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-4, atol=1e-5)
    alone = learned(clip_norm=0.5)
    np.testing.assert_allclose(whole[0], alone[0], rtol=1e-4, atol=1e-5)


def test_a_long_gradient_is_cut_and_a_short_one_is_not():
    free, loose, tight = learned(), learned(clip_norm=1e6), learned(clip_norm=0.5)
    np.testing.assert_allclose(loose[0], free[0], rtol=1e-6)
    np.testing.assert_allclose(tight[1][0], free[1][0], rtol=1e-5)  # figures are from before clipping
    length = np.sqrt(free[1][0][-1]) / 12
    assert length > 0.5
    assert not np.allclose(tight[0], free[0], rtol=1e-3)


def test_the_cut_is_torchs():
    net = gluon.nn.Dense(1, in_units=2, use_bias=False)
    net.initialize(mx.init.Zero())
    step = TrainingStep(net, trainer_of(net, 1.0, 0.0, 0.0, 'sgd'), None, CPU, clip_norm=0.5)
    step._forward = lambda data, labels, share: ([net(mx.nd.array(data))], lambda: [mx.nd.zeros((2,))])
    (figures,) = step(np.array([[3.0, 4.0], [3.0, 4.0]], np.float32), np.zeros(2))
    # The mean gradient is (3, 4), of length 5; `clip_grad_norm_` multiplies it by 0.5 / (5 + 1e-6).
    np.testing.assert_allclose(net.weight.data().asnumpy(), [[-0.3, -0.4]], rtol=1e-5)
    assert figures[-1].asscalar() == pytest.approx(100.0)  # of the sum over both images


@pytest.mark.parametrize(('total', 'ranks', 'kept'), [(47, 1, 44), (48, 1, 48), (13, 1, 12), (50, 2, 24), (3, 1, 0)])
def test_the_last_group_has_the_batches_that_are_left(total, ranks, kept):
    for rank in range(ranks):
        sampler = Sampler(4, shuffle=True, last='discard', rank=rank, size=ranks).grouped(3)
        assert (sampler.batch_size, sampler.part) == (12, 4)
        assert len(sampler.order(total, 0)) == kept
        assert sampler.batches(total) == -(-kept // 12)
        plain = Sampler(4, shuffle=True, last='discard', rank=rank, size=ranks)
        assert sampler.order(total, 0).tolist() == plain.order(total, 0).tolist()
