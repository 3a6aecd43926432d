"""Loader: every image once, independent of batches and workers, and the same numbers as a plain loop
gives.
"""

import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.augmentation.draws import random_words
from data.augmentation.shift import Augment
from data.choices import BORDERS, FLIPS
from tests.data.conftest import make_dataset
from tests.data.loaders import loader as make_loader

settings.register_profile('loader', deadline=None, max_examples=60)
settings.load_profile('loader')

POOL = make_dataset(97)
COUNT = st.integers(1, 97)
BATCH = st.integers(1, 40)
RANKS = st.integers(1, 5)
SEED = st.integers(0, 2**64 - 1)
EPOCH = st.integers(0, 10**6)


def passed(loader, epoch, start=0):
    """Return all valid rows of an epoch: data and labels."""
    parts = [(data[:n], labels[:n]) for _, data, labels, n in loader.batches(epoch, start)]
    return [np.concatenate(part) for part in zip(*parts)] if parts else [np.empty(0), np.empty(0)]


@given(COUNT, BATCH, RANKS, SEED, EPOCH, st.booleans(), st.sampled_from(['keep', 'pad']))
def test_every_image_exactly_once(count, batch, ranks, seed, epoch, shuffle, last):
    dataset = POOL.limited(count)
    loaders = [
        make_loader(dataset, batch, seed=seed, shuffle=shuffle, last=last, rank=r, size=ranks) for r in range(ranks)
    ]
    met = np.concatenate([loader.order(epoch) for loader in loaders])
    assert sorted(met) == list(range(count))
    for loader in loaders:
        sizes = [n for *_, n in loader.batches(epoch)]
        assert len(sizes) == len(loader)
        assert sum(sizes) == len(loader.order(epoch))
    if last == 'pad':
        assert len({len(loader) for loader in loaders}) == 1


@given(COUNT, BATCH, RANKS, SEED)
def test_discard_gives_all_ranks_the_same_number_of_full_batches(count, batch, ranks, seed):
    dataset = POOL.limited(count)
    for rank in range(ranks):
        loader = make_loader(dataset, batch, seed=seed, shuffle=True, last='discard', rank=rank, size=ranks)
        batches = list(loader.batches(0))
        assert len(batches) == len(loader) == count // ranks // batch
        assert all(len(data) == n == batch for _, data, _, n in batches)


def test_without_shuffle_the_order_is_the_datasets_and_ranks_interleave():
    assert make_loader(POOL, 10).order(3).tolist() == list(range(97))
    assert make_loader(POOL, 10, rank=1, size=3).order(3).tolist() == list(range(1, 97, 3))


@given(BATCH, BATCH, RANKS, SEED, EPOCH)
def test_an_image_is_changed_alike_whatever_the_batch_size_and_ranks(batch, other, ranks, seed, epoch):
    whole = make_loader(POOL, batch, augment=True, seed=seed, shuffle=True)
    by_image = dict(zip(whole.order(epoch).tolist(), passed(whole, epoch)[0]))
    for rank in range(ranks):
        part = make_loader(POOL, other, augment=True, seed=seed, shuffle=True, rank=rank, size=ranks)
        for index, data in zip(part.order(epoch).tolist(), passed(part, epoch)[0]):
            np.testing.assert_array_equal(data, by_image[index])


@given(BATCH, st.integers(0, 100), SEED, EPOCH, st.sampled_from(['discard', 'keep', 'pad']))
def test_a_resumed_epoch_is_the_tail_of_the_whole(batch, start, seed, epoch, last):
    loader = make_loader(POOL, batch, augment=True, seed=seed, shuffle=True, last=last)
    whole = list(loader.batches(epoch))
    tail = list(make_loader(POOL, batch, augment=True, seed=seed, shuffle=True, last=last).batches(epoch, start))
    assert [b[0] for b in tail] == list(range(start, len(whole)))
    for (_, data, labels, n), (_, data2, labels2, n2) in zip(whole[start:], tail):
        np.testing.assert_array_equal(data, data2)
        np.testing.assert_array_equal(labels, labels2)
        assert n == n2


@given(st.integers(0, 7), st.sampled_from(FLIPS), st.sampled_from(BORDERS), SEED, EPOCH)
def test_batches_equal_a_plain_loop_over_images(pad, flip, border, seed, epoch):
    loader = make_loader(POOL, 16, augment=Augment(pad, flip, border), seed=seed, shuffle=True)
    top, left, mirrored = loader.augment.draw(seed, epoch, len(POOL))
    mean, std = np.array(POOL.preprocessing.mean), np.array(POOL.preprocessing.std)
    for batch, data, labels, n in loader.batches(epoch):
        assert data.dtype == np.float32
        assert data.flags.c_contiguous
        for row in range(n):
            index = loader.order(epoch)[batch * 16 + row]
            mode = {'black': 'constant', 'mirror': 'reflect'}[border]
            image = np.pad(POOL.images[index], ((pad, pad), (pad, pad), (0, 0)), mode=mode)
            image = image[top[index] : top[index] + 8, left[index] : left[index] + 8]
            if mirrored[index]:
                image = image[:, ::-1]
            expected = ((image / 255 - mean) / std).transpose(2, 0, 1)
            np.testing.assert_allclose(data[row], expected, rtol=0, atol=2e-6)
            assert labels[row] == POOL.labels[index]


def test_training_and_evaluation_normalise_to_the_same_bits():
    data = passed(make_loader(POOL, 7, augment=Augment(pad=0, flip='off')), 0)[0]
    np.testing.assert_array_equal(data, passed(make_loader(POOL, 30), 0)[0])
    np.testing.assert_array_equal(data, POOL.preprocessing.batch(POOL.images))


@given(COUNT, BATCH, st.integers(1, 20))
def test_wrapped_passes_go_round_and_round(count, batch, epochs):
    count = max(count, batch)
    loader = make_loader(range(count), batch, last='wrap')
    order = np.concatenate([loader.order(epoch) for epoch in range(epochs)])
    np.testing.assert_array_equal(order, np.arange(len(order)) % count)
    # Each pass only goes as far as it must for all images to have come that often.
    assert 0 <= len(order) - epochs * count < batch
    assert len(order) % batch == 0


def test_wrapped_validation_has_the_counts_of_the_originals_log():
    # With 50,000 images and batches of 256: 50,176 images in 50 of 160 epochs, and 49,920 in the others.
    loader = make_loader(range(50_000), 256, last='wrap')
    assert Counter(len(loader.order(epoch)) for epoch in range(160)) == {50_176: 50, 49_920: 110}


@pytest.mark.parametrize('wrong', [{'shuffle': True}, {'size': 2}, {'batch_size': 98}])
def test_wrapping_is_for_one_worker_the_datasets_order_and_whole_batches(wrong):
    with pytest.raises(ValueError, match="last 'wrap' "):
        make_loader(POOL, **{'batch_size': 4, 'last': 'wrap', **wrong})


def test_padding_is_black_and_marked():
    *_, (_, data, labels, n) = make_loader(POOL, 30, last='pad').batches(0)
    assert (len(data), n) == (30, 7)
    black = POOL.preprocessing.batch(np.zeros((1, 8, 8, 3), np.uint8))
    np.testing.assert_array_equal(data[n:], np.repeat(black, 23, axis=0))
    assert labels[n:].tolist() == [0] * 23


def test_seed_and_epoch_change_order_and_augmentation():
    orders, crops = set(), set()
    for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1)):
        loader = make_loader(POOL, 97, augment=True, seed=seed, shuffle=True)
        orders.add(tuple(loader.order(epoch)))
        crops.add(tuple(loader.augment.draw(seed, epoch, 97)[0]))
    assert len(orders) == len(crops) == 4


def test_offsets_and_mirroring_are_uniform_and_independent():
    top, left, flip = Augment(pad=2).draw(5, 0, 100000)
    cells = np.bincount((top * 5 + left) * 2 + flip, minlength=50)
    assert len(cells) == 50
    # Binomial with mean 2000 and deviation 44: six deviations.
    assert abs(cells - 2000).max() < 265
    assert not Augment(pad=2, flip='off').draw(5, 0, 1000)[2].any()


@given(SEED, EPOCH)
def test_alternate_flips_show_both_sides_in_any_two_epochs(seed, epoch):
    augment = Augment(flip='alternate')
    (*_, first), (*_, second), (*_, third) = (augment.draw(seed, epoch + k, 1000) for k in range(3))
    np.testing.assert_array_equal(first, ~second)
    np.testing.assert_array_equal(first, third)
    assert 350 < first.sum() < 650
    assert (first != augment.draw(seed ^ 1, epoch, 1000)[2]).any()


def test_random_words_of_an_image_do_not_depend_on_the_number_of_images():
    np.testing.assert_array_equal(random_words(3, 4, 1, 10), random_words(3, 4, 1, 1000)[:10])
    # Pinned, because a resumed run must continue in the same way after an update of NumPy.
    assert random_words(1, 2, 0, 2).tolist() == [5705853004827290377, 6584680345644299050]


def test_every_bit_of_a_seed_counts():
    words = {tuple(random_words(seed, epoch, 0, 2)) for seed in (0, 1, 2**63, 2**63 + 1, 2**64 - 1) for epoch in (0, 1)}
    assert len(words) == 10


def test_limit_spreads_over_the_dataset():
    loader = make_loader(POOL, 5, limit=10)
    assert len(loader) == 2
    np.testing.assert_array_equal(loader.dataset.images, POOL.images[np.arange(10) * 97 // 10])
    assert len(make_loader(POOL, 5, limit=1000).dataset) == 97


@pytest.mark.parametrize(
    'wrong',
    [
        {'batch_size': 0},
        {'last': 'drop'},
        {'rank': 2, 'size': 2},
        {'rank': -1},
        {'seed': -1},
        {'seed': 2**64},
        {'limit': 0},
    ],
)
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        make_loader(POOL, **{'batch_size': 4, **wrong})


@pytest.mark.parametrize('pad', [-1, 1.5, True, None])
def test_wrong_pad(pad):
    with pytest.raises(ValueError, match='pad'):
        Augment(pad=pad)


@pytest.mark.parametrize('wrong', [{'flip': True}, {'flip': 'often'}, {'border': 'white'}])
def test_wrong_augmentation_is_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f'{name} {value!r} of the augmentation is none of'):
        Augment(**wrong)


def test_an_image_mirrors_no_further_than_it_is_wide():
    with pytest.raises(ValueError, match='images of 8 x 8 pixels cannot be mirrored 8 pixels beyond their edges'):
        next(make_loader(POOL, 4, augment=Augment(pad=8, border='mirror')).batches(0))


def test_python_does_nothing_image_by_image():
    """This makes loading a hundred times as fast as training: 200,000 images/s on one core."""

    def calls(batch):
        loader = make_loader(make_dataset(1024, size=32), batch, augment=True, shuffle=True, last='discard')
        next(batches := loader.batches(0))
        count = [0]
        sys.setprofile(lambda frame, event, argument: count.__setitem__(0, count[0] + event.endswith('call')))
        try:
            next(batches)
        finally:
            sys.setprofile(None)
        return count[0]

    assert 0 < calls(256) == calls(16)
