"""Boxes refer to an image's pixels as stored, whatever orientation the file states, and users are told."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from data.coco.dataset import read_coco
from data.images import ImageError
from detection.loader import read_pixels
from detection.preprocessing import DetectionPreprocessing
from tests.data.loaders import detection_loader as make_detection_loader
from tests.detection.data import NAMES

AS_IT_IS = DetectionPreprocessing(64, 96, mean=(0, 0, 0), std=(1, 1, 1))
WIDTH, HEIGHT = 96, 64


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def write_set(folder, suffix, orientations):
    """Write an image for each orientation, with an off-centre rectangle in one of the colours; return the JSON file."""
    images, annotations = [], []
    for place, orientation in enumerate(orientations):
        pixels = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
        x, y, w, h = 8 + 4 * place, 6 + 2 * place, 24, 16
        pixels[y : y + h, x : x + w, place % 3] = 250
        name = f'{place}.{suffix}'
        Image.fromarray(pixels).save(folder / name, exif=exif(orientation))
        images.append({'id': place, 'file_name': name, 'width': WIDTH, 'height': HEIGHT})
        annotations.append({'image_id': place, 'category_id': place % 3, 'bbox': [x, y, w, h]})
    categories = [{'id': number, 'name': name} for number, name in enumerate(NAMES)]
    path = folder / 'set.json'
    path.write_text(json.dumps({'images': images, 'annotations': annotations, 'categories': categories}))
    return path


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'tiff', 'webp'])
def test_boxes_are_of_the_stored_pixels(tmp_path, suffix, caplog):
    dataset = read_coco(write_set(tmp_path, suffix, range(1, 9)), tmp_path)
    loader = make_detection_loader(dataset, AS_IT_IS, 3)
    with caplog.at_level(logging.WARNING):
        batches = list(loader.batches(0))
    assert len(loader.bad) == 0
    seen = 0
    for _, data, targets, _ in batches:
        for row, boxes, labels in zip(data, targets.boxes, targets.labels):
            left, top, right, bottom = (round(float(side)) for side in boxes[0])
            inside = row[:, top + 3 : bottom - 2, left + 3 : right - 2]
            assert inside.shape[1:] == (10, 18)
            assert (inside.argmax(0) == labels[0]).all()
            assert row[int(labels[0])].mean() < 0.3  # and not everywhere
            seen += 1
    assert seen == 8
    (record,) = caplog.records
    assert 'has the EXIF orientation ' in record.getMessage()
    assert 'boxes are of the pixels as they are stored' in record.getMessage()


def test_nothing_is_said_of_upright_images(tmp_path, caplog):
    dataset = read_coco(write_set(tmp_path, 'jpg', [1, 1]), tmp_path)
    list(make_detection_loader(dataset, AS_IT_IS, 1).batches(0))
    assert caplog.records == []


@pytest.mark.parametrize('orientation', [6, 3])
def test_annotations_of_the_turned_image_are_told_from_others(tmp_path, orientation):
    path = write_set(tmp_path, 'jpg', [orientation])
    content = json.loads(path.read_text())
    content['images'][0].update(width=HEIGHT, height=WIDTH)
    path.write_text(json.dumps(content))
    (image,) = read_coco(path, tmp_path).images
    with pytest.raises(ImageError) as raised:
        read_pixels(image)
    assert f'0.jpg has {WIDTH} x {HEIGHT} pixels, and its annotation says {HEIGHT} x {WIDTH}' in str(raised.value)
    assert ('store the image as it is shown, without the orientation' in str(raised.value)) == (orientation == 6)
