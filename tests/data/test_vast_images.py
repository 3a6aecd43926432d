"""An image with more pixels than the memory allows counts as bad, whatever reads it: its header is enough to tell."""

import json

import numpy as np
import pytest
from PIL import Image

from data.classification.cache import make_cache
from data.classification.decode import Item, decode_items
from data.classification.sources import folder_sources, record_source
from data.coco.dataset import read_coco
from data.images import ImageError
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing
from data.recordio.checking import check_file
from data.recordio.framing import pack
from data.recordio.index import index_text
from data.recordio.listing import list_images
from data.recordio.packing import pack_images
from detection.preprocessing import DetectionPreprocessing
from environment import UserError
from tests.data.loaders import detection_loader as make_detection_loader
from tests.data.loaders import image_loader as make_image_loader
from tests.inference.files import png

SMALL = Preprocessing(8, CIFAR_MEAN, CIFAR_STD)
VAST, REASON = png(89478485, 1, [b'']), '89478485 x 1 pixels'


@pytest.fixture
def folder(tmp_path):
    for part in ('train', 'val'):
        (tmp_path / part / 'only').mkdir(parents=True)
        for i in range(4):
            pixels = np.random.RandomState(i).randint(0, 256, (12, 10, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / part / 'only' / f'{i}.png')
        (tmp_path / part / 'only' / 'vast.png').write_bytes(VAST)
    return tmp_path


@pytest.mark.parametrize('cache', ['off', 'auto', '256'])
def test_training_and_validation_on_files(folder, cache):
    for source, augment in zip(folder_sources(folder, SMALL), (True, False)):
        loader = make_image_loader(source, 5, augment, cache=cache, max_bad=1)
        ((_, data, _, n_valid),) = loader.batches(0)
        assert n_valid == len(data) == (5 if augment else 4)
        assert REASON in loader.bad.sentences[0]
    with pytest.raises(UserError, match=rf'allow 0 of \d+: .*{REASON}'):
        list(make_image_loader(source, 5).batches(0))


def test_records(folder, tmp_path):
    listing = list_images(folder)['train']
    packed = pack_images(listing, tmp_path / 'a.rec', leave_out=True)
    assert packed.count == 4
    assert REASON in packed.unreadable[0]
    images = [(tmp_path / 'train' / 'only' / '0.png').read_bytes(), VAST]
    records = [pack(np.array([0.0]), i, image) for i, image in enumerate(images)]
    (tmp_path / 'b.rec').write_bytes(b''.join(records))
    (tmp_path / 'b.idx').write_bytes(index_text([0, 1], [0, len(records[0])]))
    assert REASON in check_file(tmp_path / 'b.rec').bad[0]
    source = record_source(tmp_path / 'b.rec', None, 'train', SMALL)
    assert make_cache('auto', source) is not None
    loader = make_image_loader(source, 2, max_bad=1)
    list(loader.batches(0))
    assert f'record 1 of {tmp_path}/b.rec' in loader.bad.sentences[0]


def test_images_held_in_memory(folder):
    paths = sorted((folder / 'train' / 'only').iterdir())
    items = [Item(path.name, path, 0) for path in [*paths[:4] * 25, paths[4]]]
    dataset = decode_items(items, ['only'], 'set', 'train', SMALL, 1)
    assert len(dataset.images) == 100
    assert REASON in dataset.unreadable[0]


def test_annotated_images(folder):
    images = folder / 'train' / 'only'
    entries = [{'id': i, 'file_name': f'{i}.png', 'width': 10, 'height': 12} for i in range(4)]
    entries.append({'id': 4, 'file_name': 'vast.png', 'width': 89478485, 'height': 1})
    boxes = [{'id': i, 'image_id': i, 'category_id': 1, 'bbox': [0, 0, 5, 1], 'area': 5} for i in range(5)]
    tree = {'images': entries, 'annotations': boxes, 'categories': [{'id': 1, 'name': 'thing'}]}
    (folder / 'boxes.json').write_text(json.dumps(tree))
    dataset = read_coco(folder / 'boxes.json', images)
    loader = make_detection_loader(dataset, DetectionPreprocessing(32, 64), 1, max_bad=1)
    assert sum(rows for *_, rows in loader.batches(0)) == 4
    assert REASON in loader.bad.sentences[0]


def test_a_network_never_sees_it(folder):
    with pytest.raises(ImageError, match=REASON):
        SMALL.image(folder / 'train' / 'only' / 'vast.png')
