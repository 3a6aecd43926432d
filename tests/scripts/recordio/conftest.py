"""Folders of images to pack, and what is in a file that was packed."""

import pytest
from mxnet import recordio
from PIL import Image

from tests.data.conftest import make_jpeg

CLASSES = ('ant', 'bee', 'cow')


@pytest.fixture(scope='package')
def tree(tmp_path_factory):
    """Write three classes of four JPEGs of 40 x 60 pixels and a PNG into train/, and of one JPEG into val/."""
    root = tmp_path_factory.mktemp('images')
    for split, count in (('train', 4), ('val', 1)):
        for k, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                (folder / f'{i}.JPEG').write_bytes(make_jpeg(10 * k + i, 40, 60))
    for name in CLASSES:
        Image.new('RGB', (50, 30), 'red').save(root / 'train' / name / 'z.png')
    (root / 'train' / 'ant' / '.hidden.jpg').write_bytes(b'')
    (root / 'train' / 'ant' / 'readme.txt').write_text('no image')
    return root


def records(path):
    """Return (label, image) of all records, as MXNet reads them."""
    reader = recordio.MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'r')
    unpacked = [recordio.unpack(reader.read_idx(key)) for key in reader.keys]
    reader.close()
    return [(header.label, image) for header, image in unpacked]


def packed(tree, split):
    paths = sorted(path for path in (tree / split).rglob('*') if path.suffix in ('.JPEG', '.png'))
    return [(float(CLASSES.index(path.parent.name)), path.read_bytes()) for path in paths]
