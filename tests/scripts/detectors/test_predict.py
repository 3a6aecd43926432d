"""scripts/predict.py on a detector: the network's own boxes, as text and in pictures; and what all scripts load."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from detection.predict import Detection, draw
from detection.preprocessing import DetectionPreprocessing
from detection.zoo import KINDS
from environment import UsageError, UserError
from inference.network import TASKS, load_network, network_class
from tests.detection.data import NAMES

from .conftest import EXACT, SMALL, found_on


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
