"""Mixup and CutMix: the draws, and images and targets as timm 1.0.31 makes them (`timm_mixtures.json`)."""

import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from training.loss import Criterion
from training.mixup import PLAIN, Mixture, Mixup, mix, rectangle

WITNESS = json.loads(Path(__file__).with_name('timm_mixtures.json').read_text())
SIZE = 40, 50


def drawn(mixup, count=3000):
    return [mixup(epoch, step, *SIZE) for epoch in range(10) for step in range(count // 10)]


def chi_square(values, edges=10):
    counts, _ = np.histogram(values, bins=edges, range=(0, 1))
    expected = len(values) / edges
    return float(((counts - expected) ** 2 / expected).sum())


def test_mixup_draws_from_a_beta_distribution():
    shares = np.array([mixture.share for mixture in drawn(Mixup(0.4, 10, seed=3))])
    # Beta(a, a) has the mean 1/2 and the variance 1 / (4 (2 a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / (4 * 1.8), abs=0.01)


def test_the_area_of_cutmix_is_beta_and_its_centre_lies_anywhere(monkeypatch):
    met = []
    monkeypatch.setattr('training.mixup.rectangle', lambda *given: met.append(given) or rectangle(*given))
    mixtures = drawn(Mixup(0, 10, seed=3, cutmix_alpha=1.0))
    shares, ys, xs, *_ = zip(*met)
    for values in (shares, ys, xs):  # Beta(1, 1) is uniform
        assert chi_square(values) < 40  # 9 degrees: once in 100,000
    for share, mixture in zip(shares, mixtures):
        top, bottom, left, right = mixture.box
        assert 0 <= top <= bottom <= SIZE[0]
        assert 0 <= left <= right <= SIZE[1]
        assert mixture.share == 1 - (bottom - top) * (right - left) / (SIZE[0] * SIZE[1])
        assert mixture.share >= share - 1e-9  # the part beyond the border is not cut out


def test_steps_are_mixed_and_switched_as_often_as_asked():
    mixtures = drawn(Mixup(0.8, 10, seed=1, cutmix_alpha=1.0, probability=0.7, switch=0.25))
    kinds = [0 if mixture is PLAIN else 1 if mixture.box is None else 2 for mixture in mixtures]
    shares = np.bincount(kinds, minlength=3) / len(kinds)
    np.testing.assert_allclose(shares, [0.3, 0.7 * 0.75, 0.7 * 0.25], atol=0.05)


def test_a_mixture_is_a_function_of_seed_and_position():
    def make(alpha=0.2, cutmix_alpha=1.0, off_epochs=2, seed=1):
        return Mixup(alpha, 5, off_epochs, seed, cutmix_alpha)

    mixup = make()
    assert mixup(2, 7, *SIZE) == make()(2, 7, *SIZE)
    assert len({mixup(0, 0, *SIZE), mixup(0, 1, *SIZE), mixup(1, 0, *SIZE), make(seed=2)(0, 0, *SIZE)}) == 4
    assert mixup(3, 0, *SIZE) == mixup(4, 9, *SIZE) == PLAIN
    # What mixup draws by itself does not depend on the probabilities.
    alone, seldom = Mixup(0.2, 5, seed=1), Mixup(0.2, 5, seed=1, probability=0.5)
    for step in range(20):
        assert seldom(0, step, *SIZE) in (PLAIN, alone(0, step, *SIZE))


@pytest.mark.parametrize('wrong', [{'alpha': 0.0}, {'alpha': -1.0, 'cutmix_alpha': 2.0}, {'probability': 1.5}])
def test_mixtures_need_a_positive_alpha_and_probabilities(wrong):
    with pytest.raises(ValueError, match=r'above 0|lie in 0 \.\. 1'):
        Mixup(**{'alpha': 1.0, 'epochs': 5, **wrong})


def test_boxes_are_timms():
    for height, width, share, y, x, top, bottom, left, right, left_over in WITNESS['boxes']:
        # A position in [0, 1) for one of timm's whole pixels.
        box = rectangle(share, (y + 0.5) / height, (x + 0.5) / width, height, width)
        assert box == (top, bottom, left, right)
        assert 1 - (bottom - top) * (right - left) / (height * width) == pytest.approx(left_over)


def test_targets_are_timms():
    labels = mx.nd.array(WITNESS['labels'])
    for smoothing, share, expected in WITNESS['targets']:
        found = Criterion(5, smoothing).targets(labels, share).asnumpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('box', [(0, 2, 1, 3), (1, 4, 0, 5), (0, 4, 0, 5)])
def test_a_box_comes_from_the_mirrored_place_of_the_batch(box):
    images = np.random.RandomState(0).rand(5, 3, 4, 5).astype(np.float32)
    top, bottom, left, right = box
    expected = images.copy()
    expected[:, :, top:bottom, left:right] = images[::-1, :, top:bottom, left:right]
    given = mx.nd.array(images)
    with mx.autograd.record():
        found = mix(given, *Mixture(0.3, box))
    np.testing.assert_array_equal(found.asnumpy(), expected)
    np.testing.assert_array_equal(given.asnumpy(), images)
    assert mix(given, *PLAIN) is given
