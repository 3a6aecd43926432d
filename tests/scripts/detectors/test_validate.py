"""scripts/validate.py on a detector: COCO's figures, by the ids of the categories."""

import json

import pytest

from data.coco.dataset import locate, read_coco
from detection.metrics import average_precision
from detection.preprocessing import DetectionPreprocessing
from environment import UserError
from inference.network import load_network
from tests.detection.data import NAMES

from .conftest import EXACT, found_on, variant


def test_validation_is_cocos(data, detector, params, tmp_path, in_process):
    figures, results = tmp_path / 'figures.json', tmp_path / 'results.json'
    dataset = read_coco(*locate(data, 'val'))
    found = {i: found_on(detector, image.path) for i, image in enumerate(dataset.images)}
    for flags in (('--data-dir', data), ('--annotations', locate(data, 'val')[0], '--images', data / 'val')):
        status, out, _ = in_process(
            'validate.py', '--params', params, *flags, '--json', figures, '--results', results, *EXACT
        )
        assert status == 0
        rows = json.loads(figures.read_text())
        expected = average_precision(dataset, found)
        assert {name: rows[name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert (rows['count'], set(rows['classes'])) == (5, set(NAMES))
        assert f'AP50 {100 * expected["ap50"]:.2f} %' in out
        assert len(json.loads(results.read_text())) == sum(len(one.scores) for one in found.values())
    status, out, _ = in_process('validate.py', '--params', params, '--data-dir', data, '--split', 'train', '--limit', 3)
    assert status == 0
    assert 'on instances_train: 3 images' in out


@pytest.mark.parametrize(
    ('names', 'ids'),
    [
        (['shape', 'shape', 'shape'], [2, 3, 7]),
        (['shape', 'shape', 'shape'], None),  # a manifest from before it had IDs
        (['red', 'shapes', 'green'], [2, 3, 7]),  # one has the name of everybody's supercategory
        (['red', 'green', 'blue'], ['2', 'three', '7.0']),
    ],
)
def test_validation_goes_by_ids(data, detector, params, tmp_path, in_process, names, ids):
    annotations, images = locate(data, 'val')
    content = json.loads(annotations.read_text())
    own = dict(zip((2, 3, 7), ids or (2, 3, 7)))
    entries = zip((2, 3, 7), names)
    content['categories'] = [{'id': own[i], 'name': name, 'supercategory': 'shapes'} for i, name in entries]
    for annotation in content['annotations']:
        annotation['category_id'] = own[annotation['category_id']]
        annotation['image_id'] = f'image {annotation["image_id"]}'
    for image in content['images']:
        image['id'] = f'image {image["id"]}'
    path, figures, results = tmp_path / 'val.json', tmp_path / 'figures.json', tmp_path / 'results.json'
    path.write_text(json.dumps(content))
    given = variant(params, tmp_path, class_names=names, categories=ids)
    status, _, err = in_process(
        'validate.py', '--params', given, '--annotations', path, '--images', images, '--json', figures,
        '--results', results, *EXACT,
    )  # fmt: skip
    assert status == 0, err
    dataset = read_coco(*locate(data, 'val'))
    expected = average_precision(dataset, {i: found_on(detector, im.path) for i, im in enumerate(dataset.images)})
    rows = json.loads(figures.read_text())
    assert {name: rows[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert len(rows['classes']) == 3
    assert {row['category_id'] for row in json.loads(results.read_text())} <= set(own.values())
    assert load_network(given).class_names == tuple(names)


def test_a_file_with_fewer_categories_is_scored(data, params, tmp_path, in_process):
    annotations, images = locate(data, 'val')
    content = json.loads(annotations.read_text())
    content['categories'] = [category for category in content['categories'] if category['id'] != 3]
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] != 3]
    path, figures = tmp_path / 'val.json', tmp_path / 'figures.json'
    path.write_text(json.dumps(content))
    for ids in ([2, 3, 7], None):
        given = variant(params, tmp_path, categories=ids)
        status, out, err = in_process(
            'validate.py', '--params', given, '--annotations', path, '--images', images, '--json', figures, *EXACT,
            '--csv', tmp_path / 'classes.csv',
        )  # fmt: skip
        assert status == 0, err
        assert 'green,,\n' in (tmp_path / 'classes.csv').read_text()
        assert 'val.json: no object is of green, whose AP is not known there (-1)\n' in out
        assert '  green: AP none there' in out
        assert json.loads(figures.read_text())['classes']['green'] == {'ap': -1, 'ap50': -1}


@pytest.mark.parametrize('ids', [[2, 3], [2, 3, 3], [2, 3, None], {'red': 2}, 'abc', [2, 3, True]])
def test_ids_that_are_none_are_one_sentence(params, tmp_path, ids):
    with pytest.raises(UserError, match='the manifest beside .* is wrong: categories is .*; allowed: 3 different ids'):
        load_network(variant(params, tmp_path, categories=ids))


def test_another_scale_than_the_manifests(data, detector, params, tmp_path, in_process):
    figures = tmp_path / 'figures.json'
    arguments = ('--params', params, '--data-dir', data, '--json', figures, *EXACT)
    assert in_process('validate.py', *arguments, '--short', 96, '--max-size', 128)[0] == 0
    dataset, large = read_coco(*locate(data, 'val')), DetectionPreprocessing(96, 128)
    found = {i: found_on(detector, image.path, large) for i, image in enumerate(dataset.images)}
    expected = average_precision(dataset, found)
    assert expected != average_precision(
        dataset, {i: found_on(detector, im.path) for i, im in enumerate(dataset.images)}
    )
    rows = json.loads(figures.read_text())
    assert {name: rows[name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_another_interpolation_than_the_manifests(data, params, tmp_path, in_process):
    scores = []
    for interpolation in ('antialiased', 'plain'):
        file = tmp_path / f'{interpolation}.json'
        small = ('--short', 32, '--max-size', 32, '--threshold', 0, '--interpolation', interpolation)
        assert in_process('predict.py', '--params', params, '--json', file, *small, data / 'val' / '0.png')[0] == 0
        scores.append([box['score'] for box in json.loads(file.read_text())[0]['boxes']])
    assert scores[0]
    assert scores[0] != scores[1]
