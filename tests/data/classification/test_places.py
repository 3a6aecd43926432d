"""A folder, a zip or tar file, records and a table of the same images are the same data set, in memory or on disk."""

import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from data.classification.by_name import load_splits
from data.classification.imagenet import imagenet_preprocessing
from data.classification.places import open_sources
from data.classification.survey import survey
from data.images import read_image
from data.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from environment import UserError
from tests.data.conftest import write_images

SMALL = Preprocessing(8, IMAGENET_MEAN, IMAGENET_STD)


@pytest.fixture(scope='module')
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp('places')
    photos = root / 'photos'
    for name in ('cat', 'dog'):
        write_images(photos / name, 10, size=9)
    files = sorted(path.relative_to(photos) for path in photos.rglob('*.png'))
    with zipfile.ZipFile(root / 'photos.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('__MACOSX/cat/._000.png', b'x')
        for path in files:
            archive.write(photos / path, f'photos/{path}')
    with tarfile.open(root / 'photos.tar.gz', 'w:gz') as archive:
        archive.add(photos, 'photos')
    lines = [f'photos/{path},{path.parent}\n' for path in files]
    (root / 'photos.csv').write_text(''.join(lines))
    return root


@pytest.mark.parametrize('name', ['photos', 'photos.zip', 'photos.tar.gz', 'photos.csv'])
def test_they_are_the_same_images(places, name):
    held_out = {}
    for part, dataset in zip(('train', 'val'), open_sources(places / name, SMALL)):
        pixels = [SMALL.fit(read_image(dataset.read(i), dataset.title(i))) for i in range(len(dataset))]
        (memory,) = load_splits(places / name, [part], size=8, preprocessing=SMALL)
        np.testing.assert_array_equal(memory.images, pixels)
        np.testing.assert_array_equal(memory.labels, dataset.labels)
        assert memory.class_names == tuple(dataset.class_names) == ('cat', 'dog')
        held_out[part] = len(dataset)
        if name != 'photos.csv':  # in a table, names include their folder, and names are what is hashed
            (folder,) = load_splits(places / 'photos', [part], size=8, preprocessing=SMALL)
            np.testing.assert_array_equal(memory.images, folder.images)
    assert held_out == {'train': 16, 'val': 4}


def test_a_damaged_zip_file_and_a_damaged_image_in_one(places, tmp_path):
    content = (places / 'photos.zip').read_bytes()
    (tmp_path / 'cut.zip').write_bytes(content[:-100])
    with pytest.raises(UserError, match=r'cut\.zip is not an intact zip file'):
        open_sources(tmp_path / 'cut.zip', SMALL)
    damaged = bytearray(content)
    damaged[content.index(b'dog/000.png') + 60] ^= 255
    (tmp_path / 'damaged.zip').write_bytes(damaged)
    (train,) = load_splits(tmp_path / 'damaged.zip', ['all'], size=8)
    assert len(train) == 19
    assert 'dog/000.png cannot be unpacked' in train.unreadable[0]


def test_what_is_nothing(tmp_path):
    for name in ('nothing', 'notes.txt'):
        (tmp_path / 'notes.txt').write_text('x')
        with pytest.raises(UserError, match=rf'{name} is not an existing folder of class folders, tar or zip file'):
            open_sources(tmp_path / name, SMALL)


def test_a_survey_says_what_there_is(tmp_path):
    for name, sides in {'cat': [(40, 30), (640, 480), (100, 75)], 'dog': [(64, 64)] * 5}.items():
        (tmp_path / name).mkdir()
        for i, size in enumerate(sides):
            Image.new('RGB', size).save(tmp_path / name / f'{i}.jpg')
    (tmp_path / 'dog' / '9.jpg').write_bytes(b'no image')
    found = survey(*open_sources(tmp_path, SMALL))
    assert (found.images, found.held_out, found.of_class, found.short) == (7, 2, (3, 6), 64)
    told, scaled, warning = found.lines(SMALL)
    assert told.endswith(
        ': 9 images of 2 classes, 3 to 6 of each; 40 x 30 to 640 x 480 pixels, the middle one 64 x 64 (of 8 that were '
        'looked at)'
    )
    assert scaled.endswith('each is scaled to a short side of 8 pixels, and the network sees 8 x 8 of it')
    assert 'warning: each image is scaled down to 8 x 8 pixels' in warning
    assert len(found.lines(imagenet_preprocessing(64))) == 2
    assert 'the middle 224 x 224' in found.lines(imagenet_preprocessing(224))[1]
