"""Data sets in tar files and RecordIO files, whole and damaged."""

import tarfile

import numpy as np
import pytest

from data.classification.by_name import load_dataset, load_splits, open_dataset
from data.images import read_image
from data.preprocessing import Preprocessing
from data.recordio.listing import list_images
from environment import UserError
from tests.data.conftest import write_images, write_records
from tests.data.loaders import image_loader
from tests.data.loaders import loader as make_loader


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
