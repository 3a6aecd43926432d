"""Digits, folders of class folders, and what is checked of any data set."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from data.augmentation.shift import Augment
from data.classification.by_name import load_dataset
from data.classification.dataset import ImageDataset
from data.classification.memory import require_memory
from data.preprocessing import Preprocessing
from data.recordio.listing import list_images
from environment import UsageError, UserError
from tests.data.conftest import make_dataset, write_images, write_records
from tests.data.loaders import loader as make_loader


@pytest.fixture(scope='module')
def digits():
    return {split: load_dataset('digits', split) for split in ('train', 'test', 'all')}


def test_digits_are_real_and_split_once(digits):
    assert [len(digits[split]) for split in ('train', 'test', 'all')] == [1442, 355, 1797]
    assert digits['train'].images.shape[1:] == (32, 32, 3)
    assert np.bincount(digits['test'].labels).min() >= 34
    together = {image.tobytes() for image in digits['all'].images}
    train, test = ({image.tobytes() for image in digits[split].images} for split in ('train', 'test'))
    assert train | test == together
    # No image occurs twice in scikit-learn's data, so the two parts must not share one.
    assert not train & test


def test_digits_are_normalised_by_their_own_statistics_and_never_mirrored(digits):
    data = digits['train'].preprocessing.batch(digits['train'].images)
    assert abs(data.mean()) < 1e-3
    assert abs(data.std() - 1) < 1e-3
    assert digits['train'].augment == Augment(pad=2, flip='off')
    assert make_loader(digits['train'], 8, augment=True).augment == Augment(pad=2, flip='off')


def test_digits_can_be_recognised_by_their_nearest_neighbour(digits):
    """Labels and pixels belong together: 98 % of the held-out digits have the label of their nearest neighbour."""
    train, test = (digits[split].images[..., 0].reshape(-1, 1024).astype(np.float32) for split in ('train', 'test'))
    distance = (train**2).sum(1) - 2 * test @ train.T
    assert (digits['train'].labels[distance.argmin(1)] == digits['test'].labels).mean() > 0.97


@pytest.mark.parametrize('held_out', ['test', 'val'])
def test_folder_with_splits(tmp_path, held_out):
    for i, name in enumerate(('zebra', 'ant', 'cat')):
        write_images(tmp_path / 'train' / name, 3, seed=i)
    write_images(tmp_path / held_out / 'cat' / 'deeper', 2, seed=9)
    (tmp_path / 'train' / 'ant' / 'notes.txt').write_text('not an image')
    (tmp_path / 'train' / 'ant' / '.hidden.png').write_bytes(b'')
    train, test = load_dataset(tmp_path, 'train'), load_dataset(tmp_path, 'test')
    assert train.class_names == test.class_names == ('ant', 'cat', 'zebra')
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert test.labels.tolist() == [1, 1]
    assert len(load_dataset(tmp_path, 'all')) == 11
    pixels = np.asarray(Image.open(tmp_path / 'train' / 'zebra' / '001.png'))
    np.testing.assert_array_equal(train.images[7], pixels)


def test_of_several_held_out_parts_each_split_takes_its_own(tmp_path):
    for part, count in (('train', 4), ('test', 3), ('val', 2)):
        write_images(tmp_path / part / 'cat', count)
    sizes = {'train': 4, 'val': 2, 'test': 3, 'all': 6}
    assert {split: len(load_dataset(tmp_path, split)) for split in sizes} == sizes
    assert {name: len(listing) for name, listing in list_images(tmp_path).items()} == {'train': 4, 'val': 2, 'test': 3}
    records = tmp_path / 'rec'
    records.mkdir()
    for part, count in (('train', 4), ('test', 3), ('validation', 2)):
        write_records(records / f'{part}.rec', [0] * count)
    assert {split: len(load_dataset(records, split)) for split in sizes} == sizes
    # A file that is given by its name is taken, whatever the part.
    for name, count in (('test.rec', 3), ('validation.rec', 2)):
        assert len(load_dataset(records / name, 'test')) == count
    assert len(load_dataset(records / 'train.rec', 'val')) == 2
    for split in ('val', 'test'):
        assert len(load_dataset('digits', split)) == 355


def test_folder_without_splits_holds_out_every_fifth_image_for_good(tmp_path):
    for i, (name, count) in enumerate((('ant', 10), ('cat', 23), ('owl', 1))):
        write_images(tmp_path / name, count, size=8, seed=i)
    parts = {split: load_dataset(tmp_path, split, size=8) for split in ('train', 'test', 'all')}
    assert np.bincount(parts['test'].labels, minlength=3).tolist() == [2, 5, 0]
    images = {split: {image.tobytes() for image in part.images} for split, part in parts.items()}
    assert images['train'] | images['test'] == images['all']
    assert not images['train'] & images['test']
    again = load_dataset(str(tmp_path), 'test', size=8, workers=1)
    np.testing.assert_array_equal(again.images, parts['test'].images)


def test_other_sizes_are_brought_to_one_as_prediction_does_it(tmp_path):
    write_images(tmp_path / 'a', 5, size=50)
    Image.new('L', (40, 20), 77).save(tmp_path / 'a' / 'grey.png')
    dataset = load_dataset(tmp_path, 'all', size=16)
    assert dataset.images.shape == (6, 16, 16, 3)
    _, data, _, n = next(make_loader(dataset, 6).batches(0))
    for row, file in zip(data[:n], sorted((tmp_path / 'a').iterdir())):
        np.testing.assert_array_equal(row, dataset.preprocessing.image(file)[0])


def test_statistics_by_size(tmp_path):
    write_images(tmp_path / 'a', 1)
    assert load_dataset(tmp_path, 'all').preprocessing.mean == (0.4914, 0.4822, 0.4465)
    assert load_dataset(tmp_path, 'all', size=128).preprocessing.std == (0.229, 0.224, 0.225)


def test_folders_that_are_no_dataset(tmp_path):
    with pytest.raises(UserError, match='has no class folders'):
        load_dataset(tmp_path, 'train')
    write_images(tmp_path / 'train' / 'a', 1)
    with pytest.raises(UserError, match='none with images of val, valid, validation, dev, test, testing'):
        load_dataset(tmp_path, 'test')
    write_images(tmp_path / 'val' / 'b', 1)
    with pytest.raises(UserError, match=r"belongs to the class 'b', which has no folder with images below"):
        load_dataset(tmp_path, 'test')
    write_images(tmp_path / 'train', 1)
    with pytest.raises(UserError, match='lies outside the class folders'):
        load_dataset(tmp_path, 'train')


def test_unknown_names():
    with pytest.raises(UsageError, match='--dataset cifar11 is neither one of cifar10, cifar100'):
        load_dataset('cifar11', 'train')
    with pytest.raises(UserError, match='~nobody-of-that-name/x begins with an unknown home folder'):
        load_dataset('~nobody-of-that-name/x', 'train')
    with pytest.raises(UsageError, match="split 'training' must be one of train, val, test, all"):
        load_dataset('digits', 'training')


def test_with_classes():
    dataset = make_dataset(6)
    moved = dataset.with_classes(['x', 'class 2', 'class 0', 'class 1'])
    assert moved.labels.tolist() == [2, 3, 1, 2, 3, 1]
    with pytest.raises(UserError, match="has the class 'class 2'"):
        dataset.with_classes(['class 0', 'class 1'])
    with pytest.raises(UserError, match="there are several of the name 'class 1', so that names do not say which"):
        dataset.with_classes(['class 2', 'class 1', 'class 0', 'class 1'])
    same = replace(dataset, class_names=('crane', 'crane', 'ox'))
    assert same.with_classes(['crane', 'crane', 'ox']) is same
    with pytest.raises(UserError, match="several of the name 'crane'"):
        same.with_classes(['ox', 'crane'])


def test_memory_is_checked_before_it_is_taken():
    require_memory('small', 1000, 32)
    with pytest.raises(UserError, match='needs .* GiB of memory for 1000000000 images'):
        require_memory('huge', 10**9, 224)


def test_inconsistent_datasets():
    good = make_dataset(4)
    for change in (
        {'images': good.images[:3]},
        {'images': good.images.astype(np.float32)},
        {'labels': good.labels + 2},
        {'labels': good.labels - 1},
    ):
        with pytest.raises(ValueError, match='random'):
            ImageDataset(**{**vars(good), **change})


def test_preprocessing_of_a_trained_network(tmp_path, digits):
    write_images(tmp_path / 'a', 3, size=40)
    network = Preprocessing(20, (0.1, 0.2, 0.3), (1, 1, 1), resize=24)
    dataset = load_dataset(tmp_path, 'all', preprocessing=network)
    assert dataset.preprocessing == network
    np.testing.assert_array_equal(dataset.images[1], network.fit(tmp_path / 'a' / '001.png'))
    small = load_dataset('digits', 'test', preprocessing=network)
    assert small.images.shape == (355, 20, 20, 3)
    np.testing.assert_array_equal(small.images[7], network.fit(digits['test'].images[7]))
    same_size = load_dataset('digits', 'test', preprocessing=Preprocessing(32, (0, 0, 0), (1, 1, 1)))
    np.testing.assert_array_equal(same_size.images, digits['test'].images)
