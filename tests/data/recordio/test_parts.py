"""Which record files belong together, and labels that no image has."""

import shutil
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import train_cifar
import train_imagenet
from data.bad import Tolerance
from data.classification.by_name import load_splits
from data.classification.imagenet import imagenet_preprocessing, record_sources
from data.recordio.parts import find_records, joined_name
from environment import UserError
from tests.data.classification.test_datasets import write_records
from tests.data.conftest import make_jpeg, write_rec
from tests.data.loaders import loaders_of as make_loaders_of
from training.tasks.imagenet import record_files


def write(folder, **files):
    """Write a record file for each {name without .rec: labels}; return the folder."""
    for seed, (name, labels) in enumerate(files.items()):
        write_rec(folder / f'{name}.rec', [make_jpeg(100 * seed + i, 32, 32) for i in range(len(labels))], labels)
    return folder


def names(parts):
    return {part: [file.name for file in files] for part, files in parts.items()}


@pytest.mark.parametrize(
    ('files', 'given', 'expected', 'left_out'),
    [
        ('set_train set_val', 'set_train', {'train': ['set_train.rec'], 'val': ['set_val.rec']}, ''),
        ('set_train set_val', 'set_val', {'train': ['set_train.rec'], 'val': ['set_val.rec']}, ''),
        ('set_train set_val other', '', {'train': ['set_train.rec'], 'val': ['set_val.rec']}, 'other.rec'),
        ('Train Valid Test', '', {'train': ['Train.rec'], 'val': ['Valid.rec'], 'test': ['Test.rec']}, ''),
        ('train val mine', 'mine', {'train': ['mine.rec']}, ''),
        ('a_train b_val', 'a_train', {'train': ['a_train.rec']}, ''),
        ('train other', '', {'train': ['train.rec']}, 'other.rec'),
        ('mine', '', {'train': ['mine.rec']}, ''),
        ('set_2 set_10 set_1', '', {'train': ['set_1.rec', 'set_2.rec', 'set_10.rec']}, ''),
        (
            'set_0 set_1 set_2',
            'set_1',
            {'train': ['set_1.rec']},
            'set_0.rec, set_2.rec beside it (python scripts/make_',
        ),
        ('val valid train', 'valid', {'train': ['train.rec'], 'val': ['valid.rec']}, ''),
    ],
)
def test_files_that_belong_together(tmp_path, files, given, expected, left_out):
    for name in files.split():
        (tmp_path / f'{name}.rec').write_bytes(b'')
    found = find_records(tmp_path / f'{given}.rec' if given else tmp_path)
    assert names(found.parts) == expected
    assert ', '.join(found.left_out).startswith(left_out)
    assert bool(found.left_out) == bool(left_out)


@pytest.mark.parametrize(
    ('files', 'given', 'said'),
    [
        ('train val valid', '', 'val.rec and valid.rec in .* would be the same part of the data set'),
        ('train val valid', 'train', 'val.rec and valid.rec in .* would be the same part of the data set'),
        (
            'a_train a_val b_train b_val',
            '',
            'not clear what belongs together; name one .*/make_recordio.py A.rec',
        ),
        ('a b', '', 'has a.rec, b.rec, and it is not clear'),
    ],
)
def test_what_is_not_clear_is_refused(tmp_path, files, given, said):
    for name in files.split():
        (tmp_path / f'{name}.rec').write_bytes(b'')
    with pytest.raises(UserError, match=said):
        find_records(tmp_path / f'{given}.rec' if given else tmp_path)


def test_pieces_are_one_set(tmp_path):
    write(tmp_path, set_0=[0, 1] * 6, set_1=[0, 1, 2] * 4)
    train, val = load_splits(tmp_path, ['train', 'val'], size=8)
    assert (len(train) + len(val), train.class_names) == (24, ('0', '1', '2'))
    assert 'set_0.rec and set_1.rec, with none beside it for validation: every fifth image' in train.told[0]
    everything = load_splits(tmp_path, ['all'], size=8)[0]
    assert everything.labels.tolist() == [0, 1] * 6 + [0, 1, 2] * 4
    assert joined_name(['set_0', 'set_1']) == 'set'
    assert joined_name(['0', '1']) == '0'
    assert joined_name(['a', 'b']) == 'a'


SCRIPTS = {
    train_cifar: ['--model', 'cifar_resnet8_v2', '--dataset'],
    train_imagenet: '--model cifar_resnet8_v2 --input-size 32 --crop-ratio 1 -j 1 --use-rec --rec-train'.split(),
}


@pytest.mark.parametrize('script', SCRIPTS)
def test_runs_use_both_files_and_tell_labels_that_no_image_has(script, tmp_path, capsys):
    write(tmp_path, set_train=[1, 3, 1, 3, 3, 1], set_val=[3, 1, 1, 1])
    argv = [
        *'--num-epochs 1 --batch-size 2 --mode imperative --no-report --original-defaults'.split(),
        *SCRIPTS[script],
    ]
    places = ['--save-dir', str(tmp_path / 'run')]
    assert script.main([*argv, str(tmp_path / 'set_train.rec'), *places]) == 0
    out = capsys.readouterr().out
    assert 'set_train.rec is for training, ' in out
    assert '6 images to train on, 4 to validate on, 4 classes' in out
    assert '2 of 4 classes have no image to train on: 0, 2\n' in out
    (tmp_path / 'one').mkdir()
    one = write(tmp_path / 'one', train=[2] * 6, val=[2])
    with pytest.raises(UserError, match="has images of one class only, '2'"):
        script.main([*argv, str(one / 'train.rec'), '--save-dir', str(tmp_path / 'no')])


def test_imagenets_files_by_their_usual_names(tmp_path):
    (tmp_path / 'rec').mkdir()
    write(tmp_path / 'rec', set_train=[0, 1], set_dev=[1])
    folder = tmp_path / 'rec'
    both = (folder / 'set_train.rec', folder / 'set_dev.rec')
    assert record_files(None, None, folder) == both
    assert record_files(str(both[0]), None, tmp_path / 'none') == both
    assert record_files('a.rec', 'b.rec', folder) == (Path('a.rec'), Path('b.rec'))
    assert record_files(None, None, tmp_path / 'none') == (
        tmp_path / 'none' / 'train.rec',
        tmp_path / 'none' / 'val.rec',
    )
    shutil.copy(both[0], folder / 'set_train_1.rec')
    both[1].unlink()
    both[0].rename(folder / 'set_train_0.rec')
    with pytest.raises(
        UserError, match='has 2 files to train on, and one is wanted; join them with python scripts/make_'
    ):
        record_files(None, None, folder)


def test_labels_that_can_only_be_wrong(tmp_path):
    write(tmp_path, train=[0, 1, 2**22])
    with pytest.raises(UserError, match='has labels up to 4194304 on 3 images; number the classes from 0'):
        load_splits(tmp_path, ['all'])


def test_bits_that_flipped_in_files_of_others_are_no_tracebacks(tmp_path):
    """MXNet's own files have no checksums: what is read may be wrong, but reading succeeds or gives one sentence."""
    path = tmp_path / 'train.rec'
    write_records(path, [0, 1, 2] * 3)
    write_records(tmp_path / 'val.rec', [2, 1, 0])
    random = np.random.RandomState(0)
    for file in (path, path.with_suffix('.idx')):
        content = file.read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            damaged[random.randint(len(content))] ^= 1 << random.randint(8)
            file.write_bytes(bytes(damaged))
            with suppress(UserError):
                load_splits(tmp_path, ['train', 'val'], size=8)
            with suppress(UserError):
                train, val = record_sources(path, tmp_path / 'val.rec', imagenet_preprocessing(8))
                list(make_loaders_of(train, val, 2, threads=1).train.batches(0))
        file.write_bytes(content)


def test_bits_that_flipped_are_found_before_they_are_learned(tmp_path):
    """Each flipped bit of a file with checksums is refused, or what is read is right."""
    write(tmp_path, train=[0, 1, 2] * 3, val=[2, 1, 0])
    whole = load_splits(tmp_path, ['train', 'val'], size=8, tolerance=Tolerance(0))
    random, met = np.random.RandomState(0), {'refused': 0, 'read': 0}
    for suffix, flips in (('.rec', 150), ('.idx', 150)):
        path = tmp_path / f'train{suffix}'
        content = path.read_bytes()
        for _ in range(flips):
            damaged = bytearray(content)
            damaged[random.randint(len(content))] ^= 1 << random.randint(8)
            path.write_bytes(bytes(damaged))
            try:
                found = load_splits(tmp_path, ['train', 'val'], size=8, tolerance=Tolerance(0))
            except UserError:
                met['refused'] += 1
                continue
            met['read'] += 1
            assert [each.labels.tolist() for each in found] == [each.labels.tolist() for each in whole]
            np.testing.assert_array_equal(found[0].images, whole[0].images)
        path.write_bytes(content)
    assert met['refused'] > 250
