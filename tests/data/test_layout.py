"""Folders and archives as people have them: parts with their usual names, links, and ambiguous cases."""

import io
import itertools
import os
import tarfile

import numpy as np
import pytest

import train_cifar
import train_imagenet
from data.classification.by_name import load_dataset, load_splits
from data.classification.imagenet import imagenet_preprocessing
from data.classification.sources import folder_sources
from data.images import images_below
from data.layout import find_layout
from data.recordio.listing import list_images
from data.split_names import parts_among, split_of
from environment import UserError
from tests.data.conftest import write_images

CLASSES = ('cat', 'dog')


def paths_of(*folders, images=3):
    return [f'{folder}/{i}.png' for folder in folders for i in range(images)]


def in_parts(*parts):
    return paths_of(*(f'{part}/{name}' for part in parts for name in CLASSES))


@pytest.mark.parametrize('outer', ['', 'set/', 'test/'])
@pytest.mark.parametrize('train', ['train', 'Train', 'TRAINING'])
@pytest.mark.parametrize('held', ['val', 'Val', 'valid', 'VALIDATION', 'dev', 'test', 'Testing'])
def test_the_usual_names_in_any_case_and_one_folder_around_them(outer, train, held):
    layout = find_layout('pets', in_parts(f'{outer}{train}', f'{outer}{held}'))
    part = 'test' if held.lower().startswith('test') else 'val'
    assert (layout.outer, layout.parts, layout.class_names) == (outer, {'train': train, part: held}, CLASSES)
    assert layout.held_out() == part
    assert layout.members('train') == (paths_of(*(f'{outer}{train}/{name}' for name in CLASSES)), [0, 0, 0, 1, 1, 1])
    assert layout.sentence() == f'pets: {outer}{train}/ is for training, {outer}{held}/ is for validation'


def test_names_of_parts():
    assert split_of('set_Valid2017') == ('val', ('set_', '2017'))
    for name in ('trainer', 'latest', 'devil', 'pretrain', 'contest', ''):
        assert split_of(name) is None
    assert parts_among(['toy_train', 'steam_train', 'my_test', 'dev']) == {('', ''): {'val': ['dev']}}
    assert find_layout('coco', in_parts('train2017', 'val2017')).parts == {'train': 'train2017', 'val': 'val2017'}
    assert find_layout('pets', in_parts('pets_train', 'pets_dev')).parts == {'train': 'pets_train', 'val': 'pets_dev'}


def test_class_folders_alone():
    for outer in ('', 'set/'):
        layout = find_layout('pets', paths_of(f'{outer}cat', f'{outer}dog/deeper'))
        assert (layout.outer, layout.parts, layout.class_names) == (outer, {}, CLASSES)
        assert layout.members('train') == (paths_of(f'{outer}cat', f'{outer}dog/deeper'), [0, 0, 0, 1, 1, 1])
    assert find_layout('pets', paths_of('cat/indoors', 'cat')).class_names == ('cat',)
    # If there is no ambiguity, a class may have the name of a part.
    vehicles = find_layout('set', paths_of('bus', 'car', 'train'))
    assert (vehicles.parts, vehicles.class_names) == ({}, ('bus', 'car', 'train'))
    assert vehicles.sentence() == 'set: 3 class folders, train/ being one of them, and none for train/ and val/'
    assert find_layout('set', in_parts('train', 'val') + paths_of('train/train')).class_names == ('cat', 'dog', 'train')


def test_what_is_left_out_is_told():
    layout = find_layout(
        'pets',
        [*in_parts('train', 'val', 'test'), *paths_of('masks', 'x/y'), 'preview.jpg'],
        ['', 'train/owl', 'train', 'train/cat', 'masks', 'masks/none', 'dev'],
        ['val/loop (a link)'],
    )
    assert layout.sentence(unused=['test']) == (
        'pets: train/ is for training, val/ is for validation; skipped: test/, val/loop (a link), masks/ (3 images), '
        'x/ (3 images), 1 image in no folder, dev/ (no images), 1 more'
    )
    # The test images of a competition have no classes.
    layout = find_layout('pets', [*in_parts('train', 'val'), *paths_of('test')])
    assert layout.sentence().endswith('; skipped: test/ (3 images)')


@pytest.mark.parametrize(
    ('paths', 'seen'),
    [
        (
            in_parts('train', 'Train'),
            'Train/ with 2 folders, train/ with 2 folders: Train and train would be the same part',
        ),
        (in_parts('train', 'val', 'valid'), 'val and valid would be the same part'),
        (in_parts('train', 'val', 'a_train', 'a_val'), 'a_train and train would be the same part'),
        (in_parts('val', 'test'), 'val, test may be a class or a part'),
        (
            paths_of('cat', 'dog', 'test'),
            'cat/ with 3 images, dog/ with 3 images, test/ with 3 images: test may be a class',
        ),
        ([*in_parts('train'), *paths_of('cat', 'dog')], 'train may be a class or a part'),
        (paths_of('train', 'val'), 'images of train/ lie outside class folders'),
        (paths_of('train', 'val', 'cat'), 'images of train/ lie outside class folders'),
        ([*in_parts('train'), *paths_of('test')], 'images of test/ lie outside class folders'),
        (in_parts('a/train', 'a/val', 'b/train', 'b/val'), 'a/ has train, val: the parts for training'),
        (paths_of('cat/train', 'cat/val', 'dog/train', 'dog/val'), 'cat/ has train, val: the parts for training'),
        (in_parts('a/b/train', 'a/b/val'), 'a/b/ has train, val: the parts for training'),
        (['1.png'], 'pets/1.png lies outside the class folders'),
        ([], 'has no class folders with images'),
    ],
)
def test_what_is_not_clear_is_refused_with_what_was_seen(paths, seen):
    with pytest.raises(UserError) as caught:
        find_layout('pets', paths)
    assert seen in str(caught.value)


def test_all_callers_agree(tmp_path):
    """A folder, its archive, records, and both training scripts agree, whatever the parts are called."""
    for k, part in enumerate(('Training', 'Valid')):
        for name in CLASSES:
            write_images(tmp_path / 'set' / 'set' / part / name, 3, size=8, seed=k)
    for suffix in ('.tar', '.tar.gz'):
        with tarfile.open(tmp_path / f'set{suffix}', 'w:' + suffix[5:]) as tar:
            tar.add(tmp_path / 'set', arcname='.')
    places = [tmp_path / name for name in ('set', 'set/set', 'set.tar', 'set.tar.gz')]
    expected = load_splits(places[1], ['train', 'val'], size=8)
    for place in places:
        train, val = load_splits(place, ['train', 'val'], size=8)
        for found, wanted in zip((train, val), expected):
            np.testing.assert_array_equal(found.images, wanted.images)
            assert (found.labels.tolist(), found.class_names) == ([0, 0, 0, 1, 1, 1], CLASSES)
        assert not train.by_hash
        assert 'Training/ is for training' in train.told[0]
        if place.suffix != '.gz':
            sources = folder_sources(place, imagenet_preprocessing(8))
            assert [source.labels.tolist() for source in sources] == [[0, 0, 0, 1, 1, 1]] * 2
            assert [bytes(source.read(4)) for source in sources] == [
                (places[1] / part / 'dog' / '001.png').read_bytes() for part in ('Training', 'Valid')
            ]
            assert sources[0].title(0).endswith('Training/cat/000.png')
            listings = list_images(place)
            assert {part: listing.names[:1] for part, listing in listings.items()} == {
                'train': ['Training/cat/000.png'],
                'val': ['Valid/cat/000.png'],
            }
            assert listings['val'].store.read(4) == (places[1] / 'Valid' / 'dog' / '001.png').read_bytes()


def test_training_on_imagenet_holds_out_what_training_in_memory_does(tmp_path):
    for name in CLASSES:
        write_images(tmp_path / name, 7, size=8)
    sources = folder_sources(tmp_path, imagenet_preprocessing(8))
    for source, dataset in zip(sources, load_splits(tmp_path, ['train', 'val'], size=8)):
        assert source.labels.tolist() == dataset.labels.tolist()
        assert 'every fifth image of each class is held out' in source.told[0]
        assert source.told == dataset.told


def test_too_few_images_to_hold_out(tmp_path):
    for name in CLASSES:
        write_images(tmp_path / name, 2, size=8)
    with pytest.raises(
        UserError, match='too few images to hold out a fifth of each class: there are 2 at most, and 3 are'
    ):
        load_splits(tmp_path, ['train', 'val'])
    with pytest.raises(UserError, match='too few images to hold out a fifth'):
        folder_sources(tmp_path, imagenet_preprocessing(8))
    write_images(tmp_path / 'dog', 3, size=8)
    train, val = load_splits(tmp_path, ['train', 'val'])
    assert (len(train), val.labels.tolist()) == (4, [1])
    assert 'but none of 1 classes with fewer than 3' in train.told[0]


@pytest.fixture
def linked(tmp_path):
    """Make links to folders that were seen before, and links that would never end."""
    write_images(tmp_path / 'train' / 'cat', 3, size=8)
    (tmp_path / 'train' / 'dog').symlink_to('cat')  # a class
    (tmp_path / 'val').symlink_to('train')  # a part
    (tmp_path / 'train' / 'cat' / 'more').symlink_to('../../train')
    (tmp_path / 'train' / 'cat' / 'self').symlink_to('.')
    (tmp_path / 'train' / 'owl').symlink_to('nowhere')
    return tmp_path


def test_links_to_places_seen_before_are_followed_and_only_loops_left_out(linked, caplog):
    train, val = load_splits(linked, ['train', 'val'], size=8)
    sources = folder_sources(linked, imagenet_preprocessing(8))
    for dataset in (train, val, *sources):
        assert (dataset.class_names, dataset.labels.tolist()) == (CLASSES, [0, 0, 0, 1, 1, 1])
    assert {part: listing.labels for part, listing in list_images(linked).items()} == dict.fromkeys(
        ('train', 'val'), [(0.0,)] * 3 + [(1.0,)] * 3
    )
    for said in (train.told[0], sources[0].told[0], list_images(linked)['train'].told):
        for link in ('train/cat/more', 'train/cat/self'):
            assert f'{link} (a link that leads back to a folder around it)' in said
        assert 'train/owl (a broken link)' in said
        assert 'val/ is for validation, the same folder as train/; skipped: ' in said
    # Prediction walks through folders in the same way, and says so in the log.
    assert len(list(images_below(linked))) == 12
    assert 'train/cat/more (a link that leads back' in caplog.text


def test_links_within_archives(linked):
    archive = linked.parent / f'{linked.name}.tar'
    os.link(linked / 'train' / 'cat' / '000.png', linked / 'train' / 'cat' / '003.png')
    with tarfile.open(archive, 'w') as tar:
        tar.add(linked, arcname='.')
        beyond = tarfile.TarInfo('train/cat/004.png')
        beyond.type, beyond.linkname = tarfile.SYMTYPE, '/elsewhere.png'
        tar.addfile(beyond, io.BytesIO())
    train, val = load_splits(archive, ['train', 'val'], size=8)
    listings, sources = list_images(archive), folder_sources(archive, imagenet_preprocessing(8))
    for labels in (train.labels.tolist(), val.labels.tolist(), *(source.labels.tolist() for source in sources)):
        assert labels == [0] * 4 + [1] * 4
    assert listings['val'].labels == [(0.0,)] * 4 + [(1.0,)] * 4
    np.testing.assert_array_equal(train.images[0], train.images[3])
    assert listings['train'].store.read(7) == (linked / 'train' / 'cat' / '000.png').read_bytes()
    for said in (train.told[0], listings['train'].told, sources[0].told[0]):
        assert 'train/cat/more (a link that leads back to a folder around it)' in said
        assert 'train/cat/004.png (a broken link)' in said


FLAGS = '--num-epochs 1 --batch-size 2 --mode imperative --no-report --original-defaults'.split()
SCRIPTS = {
    train_cifar: ['--model', 'cifar_resnet8_v2', '--dataset'],
    train_imagenet: '--model cifar_resnet8_v2 --input-size 32 --crop-ratio 1 -j 1 --data-dir'.split(),
}


@pytest.mark.parametrize('script', SCRIPTS)
def test_a_run_says_what_it_took_for_what_and_refuses_one_class(script, tmp_path, capsys):
    for part, name in itertools.product(('Train', 'valid', 'test'), CLASSES):
        write_images(tmp_path / 'set' / part / name, 2)
    argv = [*FLAGS, *SCRIPTS[script]]
    assert script.main([*argv, str(tmp_path / 'set'), '--save-dir', str(tmp_path / 'run')]) == 0
    out = capsys.readouterr().out
    assert f'{tmp_path}/set: Train/ is for training, valid/ is for validation; skipped: test/\n' in out
    assert '4 images to train on, 4 to validate on, 2 classes' in out
    write_images(tmp_path / 'one' / 'cats', 5)
    with pytest.raises(UserError, match="one has images of one class only, 'cats', of which there is nothing to learn"):
        script.main([*argv, str(tmp_path / 'one'), '--save-dir', str(tmp_path / 'no')])
    assert not (tmp_path / 'no').exists()


def test_one_class_of_noise_is_refused_too(tmp_path):
    with pytest.raises(UserError, match='--classes'):
        train_imagenet.main(['--benchmark', '1', '--classes', '1', '--save-dir', str(tmp_path / 'no')])


def test_validation_of_one_class_is_no_mistake(tmp_path):
    write_images(tmp_path / 'cats', 5, size=8)
    assert len(load_dataset(tmp_path, 'all', size=8)) == 5
