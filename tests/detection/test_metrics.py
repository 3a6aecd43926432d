"""Average precision: against pycocotools on files that it reads, and against numbers worked out by hand."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco.dataset import locate, read_coco
from detection.metrics import FIGURES, Found, average_precision, class_precision, write_results
from tests.detection.data import write_coco

NOTHING = Found(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Return a data set with a crowd, a large object, and an image without objects."""
    folder = write_coco(tmp_path_factory.mktemp('data') / 'data', train=1, val=12)
    path, _ = locate(folder, 'val')
    content = json.loads(path.read_text())
    content['annotations'][0]['iscrowd'] = 1
    content['annotations'][3]['area'] = 100 * 100
    content['annotations'][4]['area'] = 40 * 40
    content['annotations'] = [a for a in content['annotations'] if a['image_id'] != 111]
    path.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope='module')
def dataset(folder):
    return read_coco(*locate(folder, 'val'))


def guesses(dataset, seed):
    """Return boxes around the true ones, some far off, some of the wrong class, and some twice."""
    random = np.random.RandomState(seed)
    found = {}
    for index, image in enumerate(dataset.images):
        boxes = np.concatenate(
            [image.boxes + random.normal(0, 2, image.boxes.shape), random.rand(3, 4) * 20 + [0, 0, 20, 20]]
        )
        labels = np.concatenate([image.labels, random.randint(0, 3, 3)])
        found[index] = Found(boxes, random.rand(len(boxes)), np.where(random.rand(len(boxes)) < 0.2, 0, labels))
    return found


def by_pycocotools(folder, dataset, found):
    """Return the figures of COCOeval on the file of annotations and a file of results."""
    annotations, _ = locate(folder, 'val')
    results = folder / 'results.json'
    write_results(results, dataset, found)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[:6].tolist()


@pytest.mark.parametrize('seed', range(4))
def test_the_figures_are_pycocotools_own(folder, dataset, seed, capsys):
    found = guesses(dataset, seed)
    figures = average_precision(dataset, found)
    assert tuple(figures) == FIGURES
    assert 0 < figures['ap'] < figures['ap50'] < 1
    assert list(figures.values()) == pytest.approx(by_pycocotools(folder, dataset, found), abs=2e-3)  # 3 decimals there
    assert capsys.readouterr().out == ''


def test_perfect_answers_and_none(dataset):
    perfect = {
        index: Found(image.boxes, np.ones(len(image.boxes)), image.labels) for index, image in enumerate(dataset.images)
    }
    assert average_precision(dataset, perfect) == pytest.approx(dict.fromkeys(FIGURES, 1.0))
    assert average_precision(dataset, dict.fromkeys(perfect, NOTHING)) == dict.fromkeys(FIGURES, 0.0)
    for row in class_precision(dataset, perfect).values():
        assert row == pytest.approx({'ap': 1.0, 'ap50': 1.0})


def test_one_object_by_hand(dataset):
    """A box of IoU 0.72 with the only object counts for the thresholds 0.5 to 0.7, which are 5 of 10."""
    index, image = next((i, im) for i, im in enumerate(dataset.images) if len(im.boxes) == 1 and not im.crowd.any())
    left, top, right, bottom = image.boxes[0]
    # 0.72 of the width, in the "+1" convention; then the second best answer, which is no object.
    boxes = [[left, top, left + 0.72 * (right - left + 1) - 1, bottom], [0, 0, 3, 3]]
    found = {index: Found(np.array(boxes), np.array([0.9, 0.8]), np.repeat(image.labels, 2))}
    figures = average_precision(dataset, found)
    assert [figures[name] for name in ('ap', 'ap50', 'ap75')] == pytest.approx([0.5, 1.0, 0.0])
    assert figures['apl'] == -1  # there is no large object on this image, and no other image counts
    worse = {index: Found(np.array(boxes), np.array([0.7, 0.8]), np.repeat(image.labels, 2))}
    assert average_precision(dataset, worse)['ap50'] == pytest.approx(0.5)  # precision 1/2 at every recall


def test_results_have_cocos_numbers(dataset, tmp_path):
    found = {1: Found(np.array([[1, 2, 10, 20]]), np.array([0.25]), np.array([2]))}
    write_results(tmp_path / 'results.json', dataset, found)
    expected = [{'image_id': 101, 'category_id': 7, 'bbox': [1, 2, 10, 19], 'score': 0.25}]
    assert json.loads((tmp_path / 'results.json').read_text()) == expected
