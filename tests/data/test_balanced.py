"""Balanced orders: equal shares, the same in any process, and different augmentation for an image that recurs."""

import numpy as np
import pytest

from data.augmentation.draws import words_of
from data.augmentation.shift import Augment
from data.balanced import balanced
from data.classification.dataset import ImageDataset
from data.classification.loader import Loader
from data.preprocessing import Preprocessing
from data.sampler import Sampler

LABELS = np.array([0] * 60 + [1] * 30 + [2] * 7 + [5] * 3)


def draws(epoch=0, seed=3, labels=LABELS, **options):
    return balanced(Sampler(4, seed, last='discard', **options), labels).draws(len(labels), epoch)


def test_all_classes_come_equally_often():
    for epoch in range(3):
        images = draws(epoch) % 100
        assert np.bincount(LABELS[images]).tolist() == [25, 25, 25, 0, 0, 25]
        counts = np.bincount(images, minlength=100)
        assert set(counts[:90]) == {0, 1}  # no image twice if a class has more than its share
        assert set(counts[90:97]) == {3, 4}
        assert set(counts[97:]) == {8, 9}


def test_shares_that_do_not_divide_differ_by_one():
    labels = np.array([0] * 50 + [1] * 4 + [2] * 3)
    sampler = balanced(Sampler(1, 0), labels[:-1])
    seen = {tuple(np.bincount(labels[sampler.order(56, epoch)])) for epoch in range(20)}
    assert all(sorted(each) == [18, 19, 19] for each in seen)
    assert len(seen) == 3


def test_each_time_of_an_image_has_a_number_of_its_own():
    numbers = draws()
    assert len(set(numbers.tolist())) == len(numbers)
    for image in range(100):
        assert sorted(numbers[numbers % 100 == image] // 100) == list(range((numbers % 100 == image).sum()))


def test_the_order_is_a_function_of_seed_and_epoch():
    assert (draws() == draws()).all()
    assert (draws() != draws(epoch=1)).any()
    assert (draws() != draws(seed=4)).any()


def test_ranks_share_one_order():
    parts = [draws(rank=rank, size=2) for rank in range(2)]
    whole = balanced(Sampler(1, 3), LABELS).draws(100, 0)
    np.testing.assert_array_equal(np.stack(parts, axis=1).ravel(), whole[: 2 * len(parts[0])])


def test_an_epoch_goes_on_in_its_middle():
    pixels = np.random.RandomState(0).randint(0, 256, (100, 8, 8, 3)).astype(np.uint8)
    names = tuple(map(str, range(6)))
    dataset = ImageDataset(pixels, LABELS, names, 'noise', 'train', Preprocessing(8, (0.5,) * 3, (0.5,) * 3))
    loader = Loader(dataset, balanced(Sampler(4, 1, last='discard'), LABELS), augment=True)
    whole, rest = list(loader.batches(2)), list(loader.batches(2, start=9))
    assert len(whole) == 25
    for first, second in zip(whole[9:], rest):
        assert first[0] == second[0]
        np.testing.assert_array_equal(first[1], second[1])
        np.testing.assert_array_equal(first[2], second[2])


def test_labels_of_other_images_are_refused():
    with pytest.raises(ValueError, match='100 labels for 99 images'):
        balanced(Sampler(1), LABELS).order(99, 0)


def test_an_image_that_comes_again_is_changed_otherwise():
    words = np.arange(10, dtype=np.uint64)
    np.testing.assert_array_equal(words_of(words, np.arange(10)), words)
    assert len(set(words_of(words, np.arange(1000)).tolist())) == 1000
    once = Augment(pad=4).draw(0, 5, 50)
    again = Augment(pad=4).draw(0, 5, 50, np.arange(5000))
    for first, all_times in zip(once, again):
        np.testing.assert_array_equal(all_times[:50], first)
    shares = np.bincount(again[0]) / 5000
    assert shares.min() > 0.08
    assert shares.max() < 0.14
    flips = Augment(flip='alternate').draw(0, 0, 50, np.arange(100))[2]
    assert (flips[:50] ^ flips[50:]).all()
