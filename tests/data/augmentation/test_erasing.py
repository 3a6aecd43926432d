"""Random erasing and repeats of images against timm 1.0.31, whose numbers are in `timm.json`."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.augmentation.draws import random_words
from data.augmentation.erasing import Erased, Erasing
from data.balanced import balanced
from data.sampler import Sampler

WITNESS = json.loads(Path(__file__).with_name('timm.json').read_text())
WORDS = random_words(1, 0, 2, 4000)


@pytest.mark.parametrize(('height', 'width', 'attempts', 'expected'), WITNESS['erasing'])
def test_rectangles_are_timms_for_the_same_draws(height, width, attempts, expected):
    erasing = Erasing(1.0, mode='const')
    data = np.ones((3, height, width), dtype=np.float32)
    erasing.apply(data, Erased(attempts, 0))
    mask = np.ones((height, width))
    if expected is not None:
        top, left, h, w = expected
        mask[top : top + h, left : left + w] = 0
    np.testing.assert_array_equal(data, np.broadcast_to(mask, data.shape))


def test_as_many_images_as_wanted_lose_an_area_that_is_drawn_evenly():
    erasing = Erasing(0.3)
    drawn = [each for each in erasing.draw(WORDS) if each is not None]
    assert len(drawn) == pytest.approx(0.3 * len(WORDS), abs=6 * np.sqrt(0.21 * len(WORDS)))
    shares, aspects = [], []
    for each in drawn:
        top, left, height, width = erasing.rectangle(each.attempts, 1000, 1000)
        assert 0 <= top <= 1000 - height
        assert 0 <= left <= 1000 - width
        shares.append(height * width / 1e6)
        aspects.append(np.log(height / width) / np.log(0.3))
    cells = np.histogram(shares, bins=10, range=(0.02, 1 / 3))[0]
    assert cells.sum() == len(drawn)
    assert ((cells - len(drawn) / 10) ** 2 / (len(drawn) / 10)).sum() < 40  # 9 degrees: once in 100,000
    assert np.mean(aspects) == pytest.approx(0, abs=0.1)
    assert -1.01 < min(aspects) < -0.9 < 0.9 < max(aspects) < 1.01


def test_noise_is_normal_and_of_the_image_alone():
    data = np.zeros((3, 224, 224), dtype=np.float32)
    erased = Erasing(1.0, area=(0.3, 0.3)).draw(WORDS[:2])
    first, again, other = data.copy(), data.copy(), data.copy()
    for out, one in ((first, erased[0]), (again, erased[0]), (other, erased[1])):
        Erasing(1.0, area=(0.3, 0.3)).apply(out, one)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    noise = first[first != 0]
    assert abs(noise.mean()) < 6 / np.sqrt(len(noise))
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert (noise**4).mean() == pytest.approx(3, abs=0.2)


def test_nothing_is_lost_where_no_rectangle_fits():
    data = np.ones((3, 1, 1), dtype=np.float32)
    for erased in Erasing(1.0).draw(WORDS[:50]):
        Erasing(1.0).apply(data, erased)
    assert (data == 1).all()


@pytest.mark.parametrize('wrong', [{'probability': 0}, {'area': (0.4, 0.3)}, {'mode': 'rand'}])
def test_no_other_erasing(wrong):
    with pytest.raises(ValueError, match='of erasing'):
        Erasing(**{'probability': 0.5, **wrong})


@pytest.mark.parametrize(('count', 'size', 'repeats', 'rank', 'expected'), WITNESS['repeats'])
def test_repeats_are_those_of_timms_sampler(count, size, repeats, rank, expected):
    # timm takes so many of these as a rank has images without repeats, as we do.
    order = Sampler(1, rank=rank, size=size, repeats=repeats).order(count, 0).tolist()
    assert order == expected[: len(order)]
    assert abs(len(order) - len(expected)) <= 1


def test_repeats_of_what_a_balanced_order_repeats_are_all_different():
    sampler = balanced(Sampler(2, seed=1, shuffle=True, repeats=2), np.array([0] * 3 + [1] * 17))
    draws = sampler.draws(20, 0)
    assert len(set(draws.tolist())) == len(draws) == 20
    assert np.bincount(draws % 20).max() > 2


def test_each_time_of_an_image_is_drawn_anew_and_ranks_share_them():
    whole = Sampler(2, seed=1, shuffle=True, repeats=3).draws(20, 4)
    assert len(whole) == len(set(whole.tolist())) == 20
    images = whole % 20
    np.testing.assert_array_equal(images[:18].reshape(6, 3), np.repeat(images[:18:3, np.newaxis], 3, axis=1))
    parts = [Sampler(2, seed=1, shuffle=True, repeats=3, rank=rank, size=3).draws(20, 4) for rank in range(3)]
    for rank, part in enumerate(parts):
        np.testing.assert_array_equal(part, whole[rank::3])
        assert set(part // 20) == {rank}
