"""scripts/validate.py and predict.py on a detector: COCO's figures, the network's own boxes, and pictures."""

import csv
import json
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from PIL import Image

from data.coco.dataset import locate, read_coco
from detection.metrics import Found, average_precision
from detection.predict import Detection, draw
from detection.preprocessing import DetectionPreprocessing
from detection.zoo import KINDS
from environment import UsageError, UserError
from inference.network import TASKS, load_network, network_class
from model import save_params
from tests.detection.cases import outspoken, small
from tests.detection.data import NAMES, write_coco

SMALL = DetectionPreprocessing(48, 64)
# An untrained network's boxes depend on the last bits; run operator by operator, they are those of `found_on`.
EXACT = ('--mode', 'imperative')
OPTIONS = {'classes': 3, 'channels': 32, 'head_convolutions': 1, 'score_threshold': 0.001}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes')


@pytest.fixture(scope='module')
def detector():
    return outspoken(small('retinanet', **{key: value for key, value in OPTIONS.items() if key != 'channels'}))


@pytest.fixture(scope='module')
def params(detector, tmp_path_factory):
    path = tmp_path_factory.mktemp('detector') / 'net.params'
    manifest = {
        'model': 'retinanet_resnet18_v1b',
        'model_kwargs': OPTIONS,
        'classes': 3,
        'class_names': list(NAMES),
        'preprocessing': SMALL.to_dict(),
        'task': 'detection',
    }
    detector(mx.nd.zeros((1, 3, 64, 64)), mx.nd.array([[64, 64]]))
    save_params(detector, path, manifest)
    return path


def found_on(detector, image, known=SMALL):
    """Return the boxes on the pixels of one image, with scores and labels."""
    with Image.open(image) as picture:
        pixels = np.asarray(picture)
    inputs, sizes = known.batch([known.normalise(known.fit(pixels))])
    boxes, scores, labels = (array.asnumpy()[0] for array in detector(mx.nd.array(inputs), mx.nd.array(sizes)))
    kept = labels >= 0
    scale = known.scale(pixels.shape[1], pixels.shape[0])
    return Found(boxes[kept] / scale, scores[kept], labels[kept].astype(int))


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


def variant(params, folder, **changes):
    """Return the same parameters with another manifest."""
    path = folder / 'variant.params'
    path.write_bytes(params.read_bytes())
    manifest = {**json.loads(params.with_suffix('.json').read_text()), **changes}
    path.with_suffix('.json').write_text(json.dumps(manifest))
    return path


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


def test_boxes_are_told_and_drawn(data, detector, params, tmp_path, in_process):
    images = [data / 'val' / '0.png', data / 'train' / '0.png', tmp_path / 'broken.png', data / 'val' / '1.png']
    images[2].write_bytes(b'no image')
    answers, pictures = tmp_path / 'answers.json', tmp_path / 'pictures'
    found = {image: found_on(detector, image) for image in images if image != images[2]}
    threshold = float(np.median(np.concatenate([one.scores for one in found.values()])))
    status, out, err = in_process(
        'predict.py',
        '--params',
        params,
        *images,
        '--threshold',
        threshold,
        '--draw',
        pictures,
        '--json',
        answers,
        *EXACT,
    )
    assert status == 1
    assert 'broken.png cannot be read' in err
    rows = json.loads(answers.read_text())
    assert [row['image'] for row in rows] == [str(image) for image in images]
    assert 'error' in rows[2]
    for image, row in zip(images, rows):
        if image in found:
            own = found[image]
            kept = own.scores >= threshold
            assert [box['class'] for box in row['boxes']] == [NAMES[label] for label in own.labels[kept]]
            np.testing.assert_allclose([box['box'] for box in row['boxes']], own.boxes[kept], atol=0.02)
            np.testing.assert_allclose([box['score'] for box in row['boxes']], own.scores[kept], atol=1e-5)
            assert str(image) in out
    # The second image of the same name gets a picture of its own.
    assert sorted(path.name for path in pictures.iterdir()) == ['0-2.png', '0.png', '1.png']
    with Image.open(pictures / '1.png') as picture, Image.open(images[3]) as image:
        assert picture.size == image.size


def test_boxes_are_of_stored_pixels_as_in_training_and_that_is_told_once(data, params, tmp_path, in_process):
    with Image.open(data / 'val' / '0.png') as image:
        for orientation in (1, 6, 3):
            tags = Image.Exif()
            tags[0x0112] = orientation
            image.save(tmp_path / f'{orientation}.png', exif=tags)
    answers = tmp_path / 'answers.json'
    images = [tmp_path / f'{orientation}.png' for orientation in (1, 6, 3)]
    flags = ('--threshold', 0, '--json', answers, '--draw', tmp_path / 'drawn', *EXACT)
    status, _, err = in_process('predict.py', '--params', params, *images, *flags)
    assert status == 0
    told = f'{images[1]} has the EXIF orientation 6: boxes are of the pixels as they are stored, as '
    assert err.startswith(told)
    assert err.count('\n') == 1
    rows = json.loads(answers.read_text())
    assert len(rows[0]['boxes']) > 0
    assert all(row['boxes'] == rows[0]['boxes'] for row in rows)
    drawn = [(tmp_path / 'drawn' / f'{orientation}.png').read_bytes() for orientation in (1, 6, 3)]
    assert drawn == drawn[:1] * 3


def test_a_batch_of_one_size_gives_the_same(data, params, tmp_path, in_process):
    rows = []
    for batch in (1, 3):
        answers = tmp_path / f'{batch}.json'
        flags = ('--threshold', 0, '--batch-size', batch, '--quiet', '--json', answers)
        assert in_process('predict.py', '--params', params, data / 'val', *flags)[:2] == (0, '')
        rows.append(json.loads(answers.read_text()))
    for one, other in zip(*rows):
        scores = [[box['score'] for box in row['boxes']] for row in (one, other)]
        assert len(scores[0]) > 10
        np.testing.assert_allclose(scores[0][:10], scores[1][:10], atol=1e-4)


def test_a_drawn_box_has_its_sides_where_it_is():
    pixels = np.zeros((60, 80, 3), np.uint8)
    detection = Detection('a', np.float32([[10, 30, 50, 55]]), np.array([0.9]), np.array([1]), pixels)
    picture = draw(detection, NAMES)
    assert not pixels.any()
    colour = picture[55, 30].tolist()
    assert sum(colour) > 100
    for y, x in ((40, 10), (40, 50), (30, 45), (55, 10)):
        assert picture[y, x].tolist() == colour
    for y, x in ((40, 30), (58, 30), (40, 5), (40, 60)):
        assert picture[y, x].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ('script', 'flags', 'sentence'),
    [
        ('validate.py', ['--dataset', 'digits'], '--dataset is for classifiers, and '),
        ('validate.py', ['--size', '32'], '--size is for classifiers, and '),
        ('validate.py', ['--split', 'all'], '--split is all; for a detector test, val, train are allowed'),
        ('validate.py', ['--short', '900', '--max-size', '800'], '--short, --max-size, --mean or --std: max_size 800'),
        ('validate.py', ['--images', 'nowhere', '--annotations', 'none.json'], 'cannot read none.json'),
        ('predict.py', ['a.png', '--top', '3'], '--top is for classifiers, and '),
        ('predict.py', ['a.png', '--csv', 'a.csv'], '--csv is for classifiers, and '),
    ],
)
def test_mistakes(params, data, in_process, script, flags, sentence):
    where = ['--data-dir', data] if script == 'validate.py' else []
    status, _, err = in_process(script, '--params', params, *where, *flags)
    assert status in (1, 2)
    assert err.startswith(f'error: {sentence}')
    assert err.count('\n') == 1


def test_a_detectors_flags_are_nothing_for_classifiers(digits_params, in_process):
    for script, flags in (('validate.py', ['--short', 48]), ('predict.py', ['a.png', '--draw', 'b'])):
        status, _, err = in_process(script, '--params', digits_params, *flags)
        assert status == 2
        assert f'{flags[-2]} is for detectors, and ' in err


def test_loading(params, tmp_path):
    network = load_network(params)
    assert (network.name, network.class_names, network.preprocessing) == ('retinanet_resnet18_v1b', NAMES, SMALL)
    assert network.task == 'detection'
    assert network_class(None, 'cascade_rcnn_resnet50_v1b').task == 'detection'
    assert network_class(None, 'resnet50_v1b').task == 'classification'
    assert TASKS['detection'].prefixes == tuple(f'{kind}_' for kind in KINDS)
    bare = tmp_path / 'bare.params'
    bare.write_bytes(params.read_bytes())
    with pytest.raises(UsageError, match='has no manifest .*; give --model NAME'):
        load_network(bare)
    with pytest.raises(UserError, match='class_output'):
        load_network(bare, 'retinanet_resnet18_v1b', {'channels': 32, 'head_convolutions': 1}, classes=4)
    alone = load_network(bare, 'retinanet_resnet18_v1b', {'channels': 32, 'head_convolutions': 1}, classes=3)
    assert (alone.class_names, alone.preprocessing) == (None, DetectionPreprocessing())
    with pytest.raises(UserError, match='there is no such file'):
        load_network(tmp_path / 'none.params')
    manifest = json.loads(params.with_suffix('.json').read_text())
    manifest['preprocessing']['short'] = 0
    bare.with_suffix('.json').write_text(json.dumps(manifest))
    with pytest.raises(UserError, match='the manifest beside .* is wrong: short 0 of the preprocessing'):
        load_network(bare)


def test_the_history_of_detectors_is_drawn(tmp_path, in_process):
    from training.logging.metrics import CLASSIFICATION, DETECTION

    for name, scoring in (('one', DETECTION), ('two', DETECTION), ('other', CLASSIFICATION)):
        with open(tmp_path / f'{name}.csv', 'w', newline='') as file:
            writer = csv.DictWriter(file, scoring.columns)
            writer.writeheader()
            for epoch in range(2):
                writer.writerow({**dict.fromkeys(scoring.columns, 0.25 * (epoch + 1)), 'epoch': epoch, 'step': 3})
    picture = tmp_path / 'curves.png'
    one, two, other = (tmp_path / f'{name}.csv' for name in ('one', 'two', 'other'))
    for runs in ((one,), (one, two)):
        status, out, _ = in_process('plot_history.py', *runs, '-o', picture)
        assert status == 0
        assert 'one: 2 epochs, best AP 50.00 % in epoch 2' in out
        picture.unlink()
    status, _, err = in_process('plot_history.py', one, other, '-o', picture)
    assert (status, picture.exists()) == (1, False)
    assert 'some of these runs are of classifiers and some of detectors' in err


def test_export_writes_a_detector_that_finds_the_same(params, detector, data, tmp_path, in_process):
    figures = tmp_path / 'proof.json'
    images = data / 'val'
    given = ['--params', params, '-o', tmp_path / 'out', '--images', images, '--limit', 2, '--json', figures]
    code, out, err = in_process('export.py', *given)
    assert code == 0, err
    proof = json.loads(figures.read_text())
    assert proof['images'] == 2
    assert proof['boxes'] > 0
    assert f'of {proof["boxes"]} boxes on 2 images' in out
    assert {file.name for file in (tmp_path / 'out').iterdir()} == {
        'detector-symbol.json',
        'detector-0000.params',
        'export.json',
        'load.py',
        'params_format.py',
        'portable_files.py',
    }
    info = json.loads((tmp_path / 'out' / 'export.json').read_text())
    assert info['class_names'] == list(NAMES)
    assert info['preprocessing'] == SMALL.to_dict()
    for script, given in (
        ('explain.py', ['--params', params, 'a.png', '--output', tmp_path / 'no']),
        ('benchmark.py', ['--params', params]),
    ):
        code, _, err = in_process(script, *given)
        assert (code, err.count('\n')) == (1, 1), err
        assert 'detection; give ' in err


def test_an_export_on_which_nothing_was_compared_says_so(params, tmp_path, in_process):
    black = tmp_path / 'black.png'
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(black)
    path = tmp_path / 'strict.params'
    path.write_bytes(Path(params).read_bytes())
    manifest = json.loads(Path(params).with_suffix('.json').read_text())
    manifest['model_kwargs']['score_threshold'] = 1.0
    path.with_suffix('.json').write_text(json.dumps(manifest))
    code, out, err = in_process('export.py', '--params', path, '-o', tmp_path / 'out', '--images', black)
    assert code == 0, err
    assert 'of 0 boxes' in out
    assert (
        err == 'nothing was compared, because there were no boxes: give --images with objects that the detector finds\n'
    )


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        (
            ['--kinds', 'mxnet,torch'],
            "--kinds has 'torch', which retinanet_resnet18_v1b cannot have; allowed: mxnet, onnx, openvino",
        ),
        (['--canvas', '64,64'], '--canvas is for onnx and openvino, and --kinds names neither'),
        (['--kinds', 'onnx', '--canvas', '60,64'], 'two multiples of 32 are'),
        (['--precision', 'int8'], '--precision is for classifiers'),
        (['--batch-size', '4'], '--batch-size is for classifiers'),
    ],
)
def test_export_names_flags_that_say_nothing_of_a_detector(given, sentence, params, tmp_path, in_process):
    code, _, err = in_process('export.py', '--params', params, '-o', tmp_path / 'out', *given)
    assert (code, sentence in err, err.count('\n')) == (2, True, 1), err
    assert not (tmp_path / 'out').exists()
