"""Augmentation depends on seed, epoch and image alone, not on batches, threads, or where a run is resumed.

For both loaders, with every random change that there is.
"""

from dataclasses import replace

import numpy as np
import pytest

from data.augmentation.auto import AutoAugment
from data.augmentation.crop import ImagenetAugment
from data.augmentation.erasing import Erasing
from data.augmentation.shift import Augment
from data.classification.imagenet import imagenet_preprocessing
from data.classification.sources import noise_source
from tests.data.conftest import make_dataset
from tests.data.loaders import image_loader, loader, loaders_of

EXTRA = [
    {'auto': AutoAugment('rand', ops=2, magnitude=15)},
    {'auto': AutoAugment('trivial')},
    {'erase': Erasing(0.7)},
    {'auto': AutoAugment('rand'), 'erase': Erasing(0.5, mode='const')},
]
NOISE = noise_source(23, 3, 'train', imagenet_preprocessing(16))


def memory(batch, threads, extra, repeats, **settings):
    augment = Augment(**extra)
    return loader(make_dataset(23), batch, augment, seed=5, shuffle=True, repeats=repeats, **settings)


def decoded(batch, threads, extra, repeats, **settings):
    augment = ImagenetAugment(**extra)
    order = {'seed': 5, 'shuffle': True, 'repeats': repeats, **settings}
    return image_loader(NOISE, batch, augment, threads=threads, **order)


@pytest.mark.parametrize('repeats', [1, 3])
@pytest.mark.parametrize('extra', EXTRA)
@pytest.mark.parametrize('make', [memory, decoded])
def test_an_epoch_goes_on_bit_for_bit_with_any_batches_threads_and_ranks(make, extra, repeats):
    whole = np.concatenate([data[:n] for _, data, _, n in make(4, 1, extra, repeats).batches(3)])
    assert len(whole) == 23
    tail = np.concatenate([data[:n] for _, data, _, n in make(4, 3, extra, repeats).batches(3, start=2)])
    np.testing.assert_array_equal(tail, whole[8:])
    others = np.concatenate([data[:n] for _, data, _, n in make(7, 2, extra, repeats).batches(3)])
    np.testing.assert_array_equal(others, whole)
    second = make(5, 2, extra, repeats, rank=1, size=2)
    np.testing.assert_array_equal(np.concatenate([data[:n] for _, data, _, n in second.batches(3)]), whole[1::2])


@pytest.mark.parametrize('extra', EXTRA)
@pytest.mark.parametrize('make', [memory, decoded])
def test_every_change_shows_and_epochs_differ(make, extra):
    plain, changed = (next(make(23, 1, each, 1).batches(0))[1] for each in ({}, extra))
    assert np.isfinite(changed).all()
    assert 0.3 < np.mean([(a != b).any() for a, b in zip(plain, changed)])
    assert (changed != next(make(23, 1, extra, 1).batches(1))[1]).any()


@pytest.mark.parametrize('make', [memory, decoded])
def test_repeats_of_an_image_are_changed_otherwise(make):
    one = make(3, 2, EXTRA[0], 3)
    _, data, labels, _ = next(one.batches(0))
    assert len(set(one.order(0)[:3])) == len(set(labels)) == 1
    assert len({row.tobytes() for row in data}) == 3


def test_each_image_is_validated_once():
    data = loaders_of(NOISE, replace(NOISE, split='val'), 4, repeats=3)
    assert data.train.order(0)[0] == data.train.order(0)[2]
    assert data.val.order(0).tolist() == list(range(23))
