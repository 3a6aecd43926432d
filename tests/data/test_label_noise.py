"""Labels that are made wrong on purpose: as many, and as evenly spread, as requested."""

import numpy as np
import pytest

from data.classification.dataset import ImageDataset
from data.label_noise import with_label_noise
from data.preprocessing import Preprocessing
from environment import UsageError


def dataset(labels, classes=10):
    images = np.zeros((len(labels), 2, 2, 3), np.uint8)
    preprocessing = Preprocessing(size=2, mean=(0, 0, 0), std=(1, 1, 1))
    names = tuple(f'class {number}' for number in range(classes))
    return ImageDataset(images, np.asarray(labels), names, 'squares', 'train', preprocessing)


@pytest.mark.parametrize('share', [0.1, 0.7])
def test_the_transition_matrix(share):
    labels = np.arange(50_000) % 10
    noisy = with_label_noise(dataset(labels), share, 3)
    matrix = np.zeros((10, 10))
    np.add.at(matrix, (labels, noisy.labels), 1)
    expected = np.where(np.eye(10, dtype=bool), 1 - share, share / 9) * 5000
    # 90 free cells: a sum of 165 comes once in some 200,000 draws.
    assert ((matrix - expected) ** 2 / expected).sum() < 165
    (told,) = noisy.told
    assert told == f'--label-noise {share}: {(noisy.labels != labels).sum():,} of 50,000 training labels are wrong'


def test_it_is_drawn_from_the_seed_and_the_place():
    labels = np.arange(1000) % 10
    first, again, other = (with_label_noise(dataset(labels), 0.4, seed).labels for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    np.testing.assert_array_equal(with_label_noise(dataset(labels[:300]), 0.4, 0).labels, first[:300])


def test_two_classes_change_places():
    labels = np.arange(200) % 2
    noisy = with_label_noise(dataset(labels, 2), 0.999999, 0).labels
    np.testing.assert_array_equal(noisy, 1 - labels)


def test_without_noise_nothing_is_said():
    clean = dataset([0, 1])
    assert with_label_noise(clean, 0.0, 0) is clean


def test_several_labels_are_refused():
    with pytest.raises(UsageError, match='--label-noise needs images with one label each'):
        with_label_noise(dataset(np.zeros((4, 10))), 0.1, 0)
