"""tools/make_photos.py: the same flags give the same photos, of as many of each class as are asked for."""

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data.images import read_image

CLASSES = ('cat', 'dog', 'frog')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    """Class folders below train/ and test/; the brightness of an image tells its number."""
    root = tmp_path_factory.mktemp('source')
    for split, count in (('train', 20), ('test', 9)):
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new('RGB', (32, 24), (5 * i, 80 * label, 100 if split == 'test' else 0)).save(folder / f'{i}.png')
    return root


def made(folder):
    """{path: content} of all files."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob('*') if path.is_file()}


def numbers(folder):
    """The numbers, in the source, of the images in a folder."""
    return [int(read_image(path)[0, 0, 0]) // 5 for path in sorted(folder.iterdir())]


def test_sizes_formats_and_images_are_drawn_from_the_seed(in_process, source, tmp_path):
    flags = ['--images', 12, '--sides', '40,90', '--formats', 'jpg,png,webp,bmp,tiff']
    for name, seed in (('one', 3), ('same', 3), ('other', 4)):
        assert in_process('make_photos.py', source, tmp_path / name, *flags, '--seed', seed)[0] == 0
    assert made(tmp_path / 'one') == made(tmp_path / 'same') != made(tmp_path / 'other')
    assert Counter(path.split('/')[0] for path in made(tmp_path / 'one')) == dict.fromkeys(CLASSES, 12)
    found = set()
    for path in (tmp_path / 'one').rglob('*.*'):
        with Image.open(path) as picture:
            found.add((picture.format, picture.size))
    assert {kind for kind, _ in found} == {'JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF'}
    assert all(40 <= min(size) <= 90 for _, size in found)
    assert {round(width / height, 1) for _, (width, height) in found} == {0.8, 1.0, 1.3}
    assert len({size for _, size in found}) > 20
    colour = read_image(next((tmp_path / 'one' / 'frog').iterdir())).reshape(-1, 3)
    np.testing.assert_allclose(colour[:, 1], 160, atol=4)  # a lossy frog is a frog


def test_classes_become_rarer_and_files_are_copied(in_process, source, tmp_path):
    status, out, _ = in_process('make_photos.py', source, tmp_path / 'out', *'--images 16 --rarest 4 --first'.split())
    assert status == 0
    assert [numbers(tmp_path / 'out' / name) for name in CLASSES] == [
        [0, 1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 2, 3, 4, 5],  # in the order of their names
        [0, 1, 10, 11, 12, 13, 14, 15],
        [0, 1, 10, 11],
    ]
    assert (tmp_path / 'out/cat/0002.png').read_bytes() == (source / 'train/cat/10.png').read_bytes()
    assert f'{tmp_path / "out" / "frog"}: 4 photos' in out


@pytest.mark.parametrize('split', ['train', 'test'])
def test_held_out_images_are_no_others(in_process, source, tmp_path, split):
    flags = ['--classes', 'dog,cat', '--images', 5, '--val', 4, '--split', split]
    assert in_process('make_photos.py', source, tmp_path / 'out', *flags)[0] == 0
    assert sorted(path.name for path in (tmp_path / 'out' / 'val').iterdir()) == ['cat', 'dog']
    for name in ('cat', 'dog'):
        trained, held_out = (set(numbers(tmp_path / 'out' / part / name)) for part in ('train', 'val'))
        assert (len(trained), len(held_out)) == (5, 4)
        assert split == 'train' or not trained & held_out
    places = {part: read_image(next((tmp_path / 'out' / part / 'cat').iterdir()))[0, 0, 2] for part in ('train', 'val')}
    assert places == {'train': 100 if split == 'test' else 0, 'val': 100}


@pytest.mark.parametrize(
    ('flags', 'told'),
    [
        ('--images 30', 'has 20 images of cat left in its split train, and 30 are asked for; ask for fewer'),
        ('--images 6 --split test --val 4', 'has 3 images of cat left in its split test, and 4 are asked for'),
        ('--images 5 --split all --val 4', '--split all includes the images that --val would hold out'),
        ('--images 5 --classes cat,cow', "has no class 'cow'; it has cat, dog, frog"),
        ('--images 5 --rarest 6', '--rarest 6 must be at most --images, which is 5'),
        ('--sides 90,40', "'90,40' is not allowed; give the smallest and the largest, such as 48,400"),
        ('--formats gif', "'gif' is not allowed; allowed: jpg, png, webp, bmp, tiff, separated by commas"),
    ],
)
def test_what_cannot_be_made_is_told_and_leaves_nothing(in_process, source, tmp_path, flags, told):
    status, _, error = in_process('make_photos.py', source, tmp_path / 'out', *flags.split())
    assert (status != 0, told in error, 'Traceback' in error) == (True, True, False), error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_alone(in_process, source, tmp_path):
    status, _, error = in_process('make_photos.py', source, tmp_path, '--images', 5)
    assert (status, list(tmp_path.iterdir())) == (1, [])
    assert f'{tmp_path} exists already; remove it, or name another folder' in error
