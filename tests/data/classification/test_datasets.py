"""Data sets from digits, folders, tar files and RecordIO."""

import errno
import logging
import os
import struct
import tarfile
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from mxnet import recordio
from PIL import Image

from data.augmentation.shift import Augment
from data.bad import Tolerance
from data.classification.by_name import load_dataset, load_splits, open_dataset
from data.classification.dataset import ImageDataset
from data.classification.memory import require_memory
from data.images import read_image
from data.preprocessing import Preprocessing
from data.recordio.listing import list_images
from environment import UsageError, UserError
from tests.data.conftest import make_dataset, write_images
from tests.data.loaders import image_loader
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


def test_unreadable_images_are_left_out_and_told(tmp_path, caplog):
    write_images(tmp_path / 'a', 120, size=8)
    write_images(tmp_path / 'b', 120, size=8, suffix='.jpg')
    broken, whole = tmp_path / 'a' / '003.png', tmp_path / 'b' / '005.jpg'
    broken.write_bytes(b'GIF89a nothing')
    whole.write_bytes(whole.read_bytes()[:-60])
    with caplog.at_level(logging.WARNING):
        dataset = load_dataset(tmp_path, 'all', size=8)
    assert len(dataset) == 238
    assert len(dataset.unreadable) == 2
    assert str(broken) in dataset.unreadable[0]
    assert str(whole) in dataset.unreadable[1]
    whole.unlink()
    whole.symlink_to('nowhere.jpg')
    assert 'No such file' in load_dataset(tmp_path, 'all', size=8).unreadable[1]
    assert '2 of 240 images' in caplog.text
    assert np.bincount(dataset.labels).tolist() == [119, 119]


def test_many_unreadable_images_are_an_error(tmp_path):
    write_images(tmp_path / 'a', 20, size=8)
    (tmp_path / 'a' / '000.png').write_bytes(b'')
    (tmp_path / 'a' / '001.png').write_bytes(b'')
    assert len(load_dataset(tmp_path, 'all', size=8)) == 18
    (tmp_path / 'a' / '002.png').write_bytes(b'')
    with pytest.raises(UserError, match=r'3 images of the split all .* 0.1 allow 2 of 20: .*000.png'):
        load_dataset(tmp_path, 'all', size=8)


@pytest.mark.parametrize(('images', 'allowed'), [(5, 1), (37, 3), (10_000, 100), (0, 1)])
def test_how_many_damaged_images_are_put_up_with(images, allowed):
    assert Tolerance().of(images) == allowed
    assert Tolerance(0).of(images) == 0
    assert Tolerance(2, 0.0).of(images) == 1
    for wrong in ((-1, 0.1), (1, 1.5), (1, -0.1)):
        with pytest.raises(ValueError, match='must be'):
            Tolerance(*wrong)


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_without_permission_is_unreadable(tmp_path):
    write_images(tmp_path / 'a', 1)
    (tmp_path / 'a' / '000.png').chmod(0)
    with pytest.raises(UserError, match='Permission denied'):
        load_dataset(tmp_path, 'all')


def test_a_class_folder_that_may_not_be_read_is_not_left_out(tmp_path, monkeypatch):
    for name in 'ab':
        write_images(tmp_path / name, 2)
    scandir = os.scandir

    def refuse(path):
        if os.path.basename(path) == 'b':
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', refuse)
    with pytest.raises(UserError, match=f'^cannot read the folder {tmp_path}/b: permission denied; change the permis'):
        load_dataset(tmp_path, 'all')


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


@pytest.mark.parametrize('top', ['', 'images/'])
@pytest.mark.parametrize('suffix', ['.tar', '.tar.xz'])
def test_tar_equals_folder(tmp_path, top, suffix):
    for split in ('train', 'test'):
        for name in ('a', 'b'):
            write_images(tmp_path / 'images' / split / name, 3, size=8, seed=len(split))
    path = tmp_path / f'images{suffix}'
    with tarfile.open(path, 'w:' + suffix[5:]) as tar:
        tar.add(tmp_path / 'images', arcname=top or '.')
    for split in ('train', 'test', 'all'):
        packed, unpacked = load_dataset(path, split, size=8), load_dataset(tmp_path / 'images', split, size=8)
        np.testing.assert_array_equal(packed.images, unpacked.images)
        assert packed.labels.tolist() == unpacked.labels.tolist()
        assert packed.class_names == unpacked.class_names


@pytest.mark.parametrize('kind', ['folder', 'whole', 'tar', 'tar.gz', 'rec'])
def test_images_that_stay_in_their_files(tmp_path, kind, monkeypatch):
    """`open_dataset` gives the batches of `load_dataset`, and decodes only what is asked for."""
    for name in ('a', 'b'):
        write_images(tmp_path / 'images' / ('' if kind == 'whole' else 'val') / name, 6, size=12, seed=ord(name))
        if kind != 'whole':
            write_images(tmp_path / 'images' / 'train' / name, 1, size=12)
    path = tmp_path / 'images'
    if kind.startswith('tar'):
        path = tmp_path / f'images.{kind}'
        with tarfile.open(path, 'w:' + kind[4:]) as tar:
            tar.add(tmp_path / 'images', arcname='.')
    elif kind == 'rec':
        path = tmp_path / 'val.rec'
        write_records(path, [0, 1] * 6)
    preprocessing = Preprocessing(8, (0.5,) * 3, (0.2,) * 3)
    for split in ('val', 'all'):
        known = load_dataset(path, split, preprocessing=preprocessing)
        read = []

        def noted(data, name, read=read):
            read.append(name)
            return read_image(data, name)

        with monkeypatch.context() as patch:
            patch.setattr('data.classification.decoder.read_image', noted)
            found = open_dataset(path, split, None, preprocessing)
            assert (found.told, found.by_hash, found.class_names) == (known.told, known.by_hash, known.class_names)
            assert len(found) == len(known)
            pairs = zip(image_loader(found, 5, last='pad').batches(0), make_loader(known, 5, last='pad').batches(0))
            for one, other in pairs:
                for ours, theirs in zip(one, other):
                    np.testing.assert_array_equal(ours, theirs)
            assert len(read) == len(known)
            assert len(list(image_loader(found.limited(2), 1).batches(0))) == 2
            assert len(read) == len(known) + 2


def test_damaged_tar(tmp_path):
    for content in (b'', b'no tar', b'\xfd7zXZ\x00damaged'):
        path = tmp_path / 'images.tar.xz'
        path.write_bytes(content)
        with pytest.raises(UserError, match='is not an intact tar file'):
            load_dataset(path, 'train')


def test_a_tar_that_ends_early_or_has_a_damaged_header_is_no_smaller_data_set(tmp_path):
    for part, name in (('train', 'a'), ('train', 'b'), ('val', 'a')):
        write_images(tmp_path / 'images' / part / name, 2, size=8)
    path = tmp_path / 'images.tar'
    with tarfile.open(path, 'w') as tar:
        tar.add(tmp_path / 'images', arcname='.')
    whole = path.read_bytes()
    end = len(whole.rstrip(b'\0')) // 512 * 512 + 512
    damaged = [whole[:cut] for cut in range(0, end, 512)]
    for start in range(0, end, 512):
        if whole[start + 257 : start + 262] == b'ustar':
            damaged.append(whole[: start + 3] + bytes([whole[start + 3] ^ 1]) + whole[start + 4 :])
    for content in damaged:
        path.write_bytes(content)
        for read in (lambda: load_splits(path, ['train', 'val'], size=8), lambda: list_images(path)):
            with pytest.raises(UserError, match='is not an intact tar file'):
                read()


def write_records(path, labels, multi=False):
    random = np.random.RandomState(len(labels))
    writer = recordio.MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
    images = random.randint(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
    for i, label in enumerate(labels):
        content = BytesIO()
        Image.fromarray(images[i]).save(content, 'PNG')
        # The number of labels (0: one in the header), the label, two numbers for the image; then further
        # labels.
        if multi:
            head = struct.pack('<IfQQff', 2, 0.0, i, 0, label, 1.0)
        else:
            head = struct.pack('<IfQQ', 0, label, i, 0)
        writer.write_idx(i, head + content.getvalue())
    writer.close()
    return images


def test_recordio(tmp_path):
    train = write_records(tmp_path / 'train.rec', [0, 2, 1, 3])
    val = write_records(tmp_path / 'val.rec', [1, 0])
    for name in (tmp_path, tmp_path / 'train.rec', tmp_path / 'val.rec'):
        dataset = load_dataset(name, 'train', size=8)
        np.testing.assert_array_equal(dataset.images, train)
        assert dataset.labels.tolist() == [0, 2, 1, 3]
        held_out = load_dataset(name, 'test', size=8)
        np.testing.assert_array_equal(held_out.images, val)
        assert held_out.class_names == dataset.class_names == ('0', '1', '2', '3')
        assert load_dataset(name, 'all', size=8).labels.tolist() == [0, 2, 1, 3, 1, 0]


def test_a_record_file_alone_is_split(tmp_path):
    write_records(tmp_path / 'mine.rec', [0] * 10 + [1] * 10)
    parts = {split: load_dataset(tmp_path / 'mine.rec', split, size=8) for split in ('train', 'test', 'all')}
    assert np.bincount(parts['test'].labels).tolist() == [2, 2]
    images = {split: {image.tobytes() for image in part.images} for split, part in parts.items()}
    assert images['train'] | images['test'] == images['all']
    assert not images['train'] & images['test']


def test_damaged_records(tmp_path):
    path = tmp_path / 'train.rec'
    write_records(path, [0, 1], multi=True)
    with pytest.raises(UserError, match='record 0 of .*train.rec has 2 labels, and records with several'):
        load_dataset(path, 'all')
    write_records(path, [0, 1])
    whole = path.read_bytes()
    for content, reason in ((whole[:-40], 'truncated'), (b'', 'is empty'), (b'x' + whole, 'stale or the file damaged')):
        path.write_bytes(content)
        with pytest.raises(UserError, match=f'train.rec.* {reason}'):
            load_dataset(path, 'all')
    path.write_bytes(whole)
    path.with_suffix('.idx').write_text('nonsense\n')
    with pytest.raises(UserError, match='line 1 of the index .*train.idx'):
        load_dataset(path, 'all')
    path.with_suffix('.idx').unlink()
    with pytest.raises(UserError, match='needs its index .*train.idx'):
        load_dataset(path, 'all')


def test_names_of_the_classes_of_records(tmp_path):
    write_records(tmp_path / 'train.rec', [0, 1, 2])
    write_records(tmp_path / 'val.rec', [1, 0])
    names = tmp_path / 'classes.txt'
    names.write_text('ant\nbee\ncow\ndog\n')
    for split in ('train', 'test'):
        assert load_dataset(tmp_path, split, size=8).class_names == ('ant', 'bee', 'cow', 'dog')
    names.write_text('ant\nbee\n')
    with pytest.raises(UserError, match='record 2 of .* has the label 2, and .*classes.txt names 2 classes'):
        load_dataset(tmp_path, 'train', size=8)
    assert load_dataset(tmp_path, 'test', size=8).class_names == ('ant', 'bee')


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
