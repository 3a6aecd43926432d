"""Data in COCO's format: what is read, what is wrong and counted, and what is not a COCO file."""

import json
import sys

import numpy as np
import pytest

from data.coco.dataset import locate, read_coco
from environment import UsageError, UserError
from tests.detection.data import NAMES, write_coco, write_json, write_part


@pytest.fixture
def folder(tmp_path):
    return write_coco(tmp_path / 'data')


def read(folder, part='train', **how):
    return read_coco(*locate(folder, part), **how)


def test_images_boxes_and_labels(folder):
    content = json.loads((folder / 'annotations' / 'instances_train.json').read_text())
    data = read(folder)
    assert (len(data), data.class_names, data.categories) == (10, NAMES, (2, 3, 7))  # by ID, not by position
    assert data.report.lines() == []
    for image, entry in zip(data.images, content['images']):
        objects = [a for a in content['annotations'] if a['image_id'] == entry['id']]
        assert (image.id, image.width, image.height) == (entry['id'], entry['width'], entry['height'])
        corners = [[x, y, x + w - 1, y + h - 1] for x, y, w, h in (a['bbox'] for a in objects)]
        assert image.boxes.dtype == np.float32
        assert image.boxes.tolist() == corners
        assert image.labels.tolist() == [{2: 0, 3: 1, 7: 2}[a['category_id']] for a in objects]
        assert image.areas.tolist() == [a['area'] for a in objects]
    assert data.for_training().images == data.images


def test_chosen_categories_and_their_order(folder):
    everything, some = read(folder), read(folder, chosen=('blue', 'red'))
    assert (some.class_names, some.categories) == (('blue', 'red'), (7, 2))
    for image, other in zip(everything.images, some.images):
        assert other.labels.tolist() == [{0: 1, 2: 0}[label] for label in image.labels.tolist() if label != 1]
    assert some.report.lines() == []  # an unwanted category is not a fault
    with pytest.raises(UsageError, match="no category 'pink'; it has red, green, blue"):
        read(folder, chosen=('red', 'pink'))


def test_what_is_wrong_is_counted_and_the_rest_is_used(tmp_path):
    content = write_part(tmp_path, 'train', 6, 0)
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 104]  # 104: without objects

    def add(image, box, category=2, **more):
        content['annotations'].append({'image_id': image, 'category_id': category, 'bbox': box, **more})

    (tmp_path / 'train' / '5.png').unlink()
    kept = len([a for a in content['annotations'] if a['image_id'] == 100])
    add(100, [5, 5, 0, 9])
    add(100, [5, 5, 9, -2])
    add(100, [5, float('nan'), 9, 9])
    add(100, [64, 5, 9, 9])
    add(100, [5, -9, 9, 9])
    add(100, [60, 40, 20, 20])  # reaches out; image 100 is 64 x 48
    add(100, [5, 5, 9, 9], category=99)
    add(100, [5, 5, 9])
    add(100, None)
    add(100, [5, 5, 9, 9], iscrowd=1)
    add(100, [5, 5, 0.5, 9])
    add(999, [5, 5, 9, 9])
    content['annotations'].append('nonsense')
    content['images'] += [
        {'id': 200, 'width': 9, 'height': 9},
        {'id': 201, 'file_name': '0.png', 'width': 0, 'height': 9},
        {'id': 100, 'file_name': '1.png', 'width': 9, 'height': 9},
        {'id': 202, 'file_name': '0.png', 'width': 20, 'height': 9},
    ]
    write_json(tmp_path, 'train', content)
    data = read(tmp_path)
    assert data.report.counts == {
        'images without a number, file name or size': 2,
        'images with the number of another': 1,
        'images whose file is missing': 1,
        'annotations of images that are not there': 1 + len([a for a in content['annotations'] if 'bbox' in a
                                                            and a['image_id'] == 105]),
        'annotations of unknown categories': 1,
        'annotations without a box of four numbers': 3,
        'empty boxes': 3,
        'boxes outside the image': 2,
        'boxes that reach out of the image and are cut': 1,
    }  # fmt: skip
    assert [image.id for image in data.images] == [100, 101, 102, 103, 104, 202]
    assert data.images[0].boxes[kept].tolist() == [60, 40, 63, 47]
    assert data.images[0].crowd.tolist() == [False] * (kept + 1) + [True, False]

    trained = data.for_training()
    assert [image.id for image in trained.images] == [100, 101, 102, 103]
    assert len(trained.images[0].boxes) == kept + 1
    new = {fault: n for fault, n in trained.report.counts.items() if fault not in data.report.counts}
    assert new == {
        'boxes of crowds (iscrowd)': 1,
        'boxes of less than a pixel': 1,
        'images of less than 32 pixels': 1,
        'images without objects': 1,
    }
    lines = trained.report.lines()
    assert len(lines) == 13
    assert lines[0].startswith('instances_train.json: 2 images without a number, file name or size, left out (such as ')
    assert 'instances_train.json: 3 empty boxes, left out (such as [5, 5, 0, 9] in 0.png)' in lines


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        ('{"images": [', 'it is not JSON'),
        ('[]', "it has no list 'images'"),
        ('{"images": [], "annotations": {}, "categories": []}', "it has no list 'annotations'"),
        ('{"images": [], "annotations": [], "categories": []}', 'its categories are not a list'),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', 'its categories are not a list'),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            'its categories are not a list of different id',
        ),
        ('[' * 100000 + ']' * 100000, 'it is nested too deeply'),
        pytest.param(
            '{"images": [], "annotations": [], "categories": [], "id": ' + '7' * 5000 + '}',
            'it has a number with thousands of digits',
            marks=pytest.mark.skipif(not hasattr(sys, 'get_int_max_str_digits'), reason='this Python reads any number'),
        ),
        ('{"images": "\xff"', 'it is not JSON'),
    ],
)
def test_what_is_no_coco_file_is_one_sentence(folder, content, reason):
    path = folder / 'annotations' / 'instances_train.json'
    path.write_bytes(content.encode('latin-1'))
    with pytest.raises(UserError) as error:
        read(folder)
    assert str(error.value).startswith(f'{path} is not a COCO file: {reason}')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('name', ['../{}', '/{}', 'sub/../../train/{}'])
def test_images_outside_the_folder_are_left_out(folder, name):
    content = json.loads((folder / 'annotations' / 'instances_train.json').read_text())
    (folder / 'train' / 'sub').mkdir()
    (folder / 'train' / 'sub' / 'a.png').write_bytes((folder / 'train' / '0.png').read_bytes())
    (folder / '1.png').write_bytes((folder / 'train' / '1.png').read_bytes())
    content['images'][0]['file_name'] = 'sub/a.png'
    content['images'][1]['file_name'] = name.format('1.png')
    write_json(folder, 'train', content)
    data = read(folder)
    assert [image.path.name for image in data.images[:2]] == ['a.png', '2.png']
    assert data.report.counts['images whose file name leads out of the folder'] == 1


@pytest.mark.parametrize(
    ('train', 'val'), [('Train', 'Valid'), ('training', 'validation'), ('train2014', 'dev2014'), ('train', 'test')]
)
@pytest.mark.parametrize('inside', ['', 'set'])
@pytest.mark.parametrize('roboflow', [False, True])
def test_parts_by_their_usual_names(tmp_path, train, val, inside, roboflow):
    root = tmp_path / inside
    (tmp_path / 'runs' / 'x').mkdir(parents=True)
    for name, count in ((train, 2), (val, 1)):
        write_part(root, name, count, 0)
        if roboflow:
            (root / 'annotations' / f'instances_{name}.json').rename(root / name / '_annotations.coco.json')
    for part, name in (('train', train), ('val', val)):
        annotations, images = locate(tmp_path, part)
        assert images == root / name
        assert name in str(annotations.relative_to(root))
        assert len(read_coco(annotations, images)) == (2 if part == 'train' else 1)


def test_parts_that_are_not_clear(tmp_path):
    for name in ('train', 'Training', 'val', 'val2017'):
        write_part(tmp_path, name, 1, 0)
    with pytest.raises(UserError, match=r'_Training\.json and .*_train\.json could both be the train part'):
        locate(tmp_path, 'train')
    assert locate(tmp_path, 'val')[1] == tmp_path / 'val2017'


def test_files_that_are_missing(folder):
    with pytest.raises(
        UserError,
        match=r'no annotations/instances_test2017\.json or instances_test\.json, nor test/_ann.* in .*data-dir',
    ):
        read(folder, 'test')
    annotations, images = locate(folder, 'train')
    with pytest.raises(UserError, match=r'cannot read the folder of images .*nowhere'):
        read_coco(annotations, folder / 'nowhere')
    with pytest.raises(UserError, match=r'cannot read .*none\.json'):
        read_coco(folder / 'none.json', images)
    (folder / 'empty').mkdir()
    with pytest.raises(UserError, match='has no image that is in .*; skipped: 10 images whose file is missing, '):
        read_coco(annotations, folder / 'empty')
    content = json.loads(annotations.read_text())
    write_json(folder, 'train', {**content, 'annotations': []})
    with pytest.raises(UserError, match='no image with an object for training; it has no annotations; name'):
        read(folder).for_training()


def test_limited_spreads_evenly(folder):
    data = read(folder)
    assert [image.id for image in data.limited(4).images] == [100, 103, 106, 109]
    assert data.limited(99) is data
    assert data.limited(None) is data


def test_what_leaves_nothing_to_train_on_is_told(folder):
    annotations, _ = locate(folder, 'train')
    content = json.loads(annotations.read_text())
    count = len(content['annotations'])
    for change, told in (
        ({'iscrowd': 1}, 'boxes of crowds (iscrowd)'),
        ({'category_id': 99}, 'of unknown categories'),
        ({'image_id': 99}, 'of images that are not there'),
        ({'bbox': [1, 1, 0, 0]}, 'empty boxes'),
        ({'iscrowd': 'no'}, 'with another iscrowd than 0 and 1'),
    ):
        entries = [{**annotation, **change} for annotation in content['annotations']]
        write_json(folder, 'train', {**content, 'annotations': entries})
        with pytest.raises(UserError) as raised:
            read(folder).for_training()
        assert f'has no image with an object for training; all {count} annotations are {told}; name' in str(
            raised.value
        )


def test_classes_without_an_object_are_told(folder):
    annotations, _ = locate(folder, 'train')
    content = json.loads(annotations.read_text())
    content['categories'].insert(0, {'id': 0, 'name': 'shapes', 'supercategory': 'none'})
    for annotation in content['annotations']:
        annotation['iscrowd'] = int(annotation['category_id'] == 2)
    write_json(folder, 'train', content)
    data = read(folder)
    assert data.report.lines() == []
    trained, scored = data.for_training().report.lines(), data.for_scoring().report.lines()
    assert trained[-1] == (
        'instances_train.json: no object to train on is of shapes, red; drop others than classes with --categories'
    )
    assert scored == ['instances_train.json: no object is of shapes, red, whose AP is not known there (-1)']


def test_areas_that_are_none_are_told(folder):
    annotations, _ = locate(folder, 'train')
    content = json.loads(annotations.read_text())
    for annotation, area in zip(content['annotations'], (-4, 0, 'large', True, float('nan'), 10**400, None)):
        annotation['area'] = area
    del content['annotations'][7]['area']
    write_json(folder, 'train', content)
    data = read(folder)
    assert data.report.counts == {'areas that are no number above 0 and taken from the box': 6}
    areas = [area for image in data.images for area in image.areas.tolist()]
    assert areas == [a['bbox'][2] * a['bbox'][3] for a in content['annotations']]
