"""Categories are told apart by their IDs, whatever these are, and even if names are the same; against pycocotools."""

import contextlib
import io
import json
import re

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from data.coco.categories import Classes, match
from data.coco.dataset import read_coco
from detection.metrics import Found, average_precision, class_precision, write_results
from environment import UsageError, UserError

# IDs that occur in files; pycocotools tells them apart as we do.
IDS = {
    'numbers': lambda i: 3 * i + 1,
    'from zero, and below': lambda i: 2 - i,
    'floats': float,
    'halves': lambda i: i + 0.5,
    'texts of numbers': lambda i: str(9 + i),
    'words': lambda i: f'{"bdace"[i % 5]} {i}',
    'large': lambda i: 10**18 + i,
    'longer than any machine number': lambda i: 10**400 + i,
    'not of this alphabet': lambda i: f'\x1b[3{i}m\ud800 {i}',
}


def written(folder, image_ids, category_ids, names, seed, mixed=False):
    """Write a JSON file and its (empty) images, and return its content; with `mixed`, annotations say 1.0 for 1."""
    random = np.random.RandomState(seed)
    other = float if mixed else lambda number: number
    images, annotations = [], []
    for number, each in enumerate(image_ids):
        (folder / f'{number}.png').touch()
        images.append({'id': each, 'file_name': f'{number}.png', 'width': 200, 'height': 150})
        for _ in range(random.randint(0, 5)):
            x, y, w, h = random.rand(4) * [100, 50, 95, 95] + [0, 0, 4, 4]
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': other(each),
                    'category_id': other(category_ids[random.randint(len(category_ids))]),
                    'bbox': [x, y, w, h],
                    'area': w * h * random.uniform(0.4, 1),
                    'iscrowd': int(random.rand() < 0.1),
                }
            )
    categories = [{'id': each, 'name': name} for each, name in zip(category_ids, names)]
    random.shuffle(categories)
    content = {'images': images, 'annotations': annotations, 'categories': categories}
    path = folder / 'set.json'
    path.write_text(json.dumps(content))
    return path, content


def guesses(content, seed):
    """Return results in COCO's format: boxes around the true ones, some of another category, and some false ones."""
    random = np.random.RandomState(seed)
    ids = [category['id'] for category in content['categories']]
    results = []
    for annotation in content['annotations']:
        box = np.array(annotation['bbox']) * random.normal(1, 0.08, 4)
        category = annotation['category_id'] if random.rand() < 0.8 else ids[random.randint(len(ids))]
        results.append([annotation['image_id'], category, box.tolist(), random.rand()])
    for image in content['images']:
        results.append([image['id'], ids[random.randint(len(ids))], [10, 10, 60, 50], random.rand()])
    return [dict(zip(('image_id', 'category_id', 'bbox', 'score'), row)) for row in results]


def found_of(dataset, results):
    """Return the same results by the data set's positions and labels."""
    places = {image.id: index for index, image in enumerate(dataset.images)}
    labels = {number: label for label, number in enumerate(dataset.categories)}
    rows = {index: [] for index in places.values()}
    for row in results:
        x, y, w, h = row['bbox']
        rows[places[row['image_id']]].append([x, y, x + w - 1, y + h - 1, row['score'], labels[row['category_id']]])
    tables = {index: np.array(own).reshape(-1, 6) for index, own in rows.items()}
    return {index: Found(own[:, :4], own[:, 4], own[:, 5].astype(int)) for index, own in tables.items()}


def by_pycocotools(path, results):
    """Return the six figures, and the average precision of each category by its ID."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(path))
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval['precision'][..., 0, -1]
    each = {number: precision[:, :, place] for place, number in enumerate(evaluation.params.catIds)}
    return evaluation.stats[:6].tolist(), {
        number: values[values > -1].mean() if (values > -1).any() else -1.0 for number, values in each.items()
    }


@pytest.mark.parametrize('names', [('a', 'b', 'c', 'd'), ('a', 'a', 'b', 'a')], ids=['own names', 'one name'])
@pytest.mark.parametrize('categories', IDS)
def test_the_figures_are_pycocotools_own_whatever_the_ids(tmp_path, categories, names):
    numbers = list(IDS).index(categories)
    images = IDS[list(IDS)[(numbers + 3) % len(IDS)]]  # of another kind
    path, content = written(
        tmp_path, [images(i) for i in range(8)], [IDS[categories](i) for i in range(4)], names, numbers
    )
    results = guesses(content, numbers)
    dataset = read_coco(path, tmp_path)
    assert dataset.report.lines() == []
    assert list(dataset.categories) == sorted(category['id'] for category in content['categories'])
    found = found_of(dataset, results)
    figures, each = by_pycocotools(path, results)
    assert 0.05 < figures[0] < 0.95
    assert list(average_precision(dataset, found).values()) == pytest.approx(figures, abs=1e-12)
    own = [row['ap'] for row in class_precision(dataset, found).values()]
    assert own == pytest.approx([each[number] for number in dataset.categories], abs=1e-12)
    write_results(tmp_path / 'results.json', dataset, found)
    again, _ = by_pycocotools(path, json.loads((tmp_path / 'results.json').read_text()))
    assert again == pytest.approx(figures, abs=2e-3)  # 3 decimals there


def test_one_is_one_point_zero_and_no_text(tmp_path):
    path, content = written(tmp_path, [1, 2, 3], [1, 2], ('a', 'b'), 0, mixed=True)
    dataset = read_coco(path, tmp_path)
    assert dataset.report.lines() == []
    perfect = {i: Found(image.boxes, np.ones(len(image.boxes)), image.labels) for i, image in enumerate(dataset.images)}
    assert average_precision(dataset, perfect)['ap'] == pytest.approx(1)
    for annotation in content['annotations']:
        annotation['category_id'] = str(annotation['category_id'])
    path.write_text(json.dumps(content))
    assert any(
        re.search(r"unknown categories, left out \(such as category '\d\.0' in ", line)
        for line in read_coco(path, tmp_path).report.lines()
    )


def test_results_of_classes_that_the_file_lacks_are_left_out(tmp_path):
    path, _ = written(tmp_path, [1, 2, 3], [5, 6], ('b', 'a'), 0)
    dataset = read_coco(path, tmp_path, classes=Classes(('a', 'b', 'c'), (0, 5, 9)))
    assert dataset.class_names == ('a', 'b', 'c')
    # 5 is 'b' in both; 'a' has another ID now, so names decide.
    assert dataset.categories == (6, 5, None)
    box = np.array([[1, 1, 9, 9]] * 3)
    write_results(tmp_path / 'results.json', dataset, {0: Found(box, np.ones(3), np.arange(3))})
    written_ids = [row['category_id'] for row in json.loads((tmp_path / 'results.json').read_text())]
    assert written_ids == [6, 5]


KNOWN = Classes(('red', 'green', 'blue'), (1, 2, 7))
TWICE = Classes(('red', 'red', 'blue'), (1, 2, 7))


@pytest.mark.parametrize(
    ('file', 'classes', 'labels', 'note'),
    [
        ({1: 'red', 2: 'green', 7: 'blue'}, KNOWN, {1: 0, 2: 1, 7: 2}, None),
        ({1.0: 'red', 7: 'blue'}, KNOWN, {1: 0, 7: 2}, None),  # fewer
        ({1: 'red', 2: 'red'}, TWICE, {1: 0, 2: 1}, None),  # of one name
        ({0: 'red', 1: 'red', 2: 'green'}, KNOWN, {1: 0, 2: 1}, 'does not know do not count: red'),  # a supercategory
        ({1: 'red', 3: 'pink'}, KNOWN, {1: 0}, 'does not know do not count: pink'),
        ({1: 'red', 2: 'Green'}, KNOWN, {1: 0, 2: 1}, "are taken by id: 2 is 'Green' and was 'green'"),
        ({1: 'green', 2: 'red'}, KNOWN, {1: 1, 2: 0}, 'taken by name'),
        ({'r': 'red', 'b': 'blue'}, KNOWN, {'r': 0, 'b': 2}, 'taken by name'),
        # Manifests without ids.
        ({3: 'red', 5: 'green', 6: 'blue'}, Classes(KNOWN.names), {3: 0, 5: 1, 6: 2}, None),
        ({3: 'red', 5: 'red', 6: 'blue'}, Classes(TWICE.names), {3: 0, 5: 1, 6: 2}, None),
        ({3: 'blue', 5: 'red'}, Classes(KNOWN.names), {3: 2, 5: 0}, None),
        ({3: 'blue', 5: 'pink'}, Classes(KNOWN.names), {3: 2}, 'does not know do not count: pink'),
    ],
)
def test_a_file_and_the_classes_of_a_detector(file, classes, labels, note, tmp_path):
    matched = match(file, classes, tmp_path)
    assert matched.labels == labels
    for number, label in labels.items():
        assert matched.ids[label] == number
    assert (matched.notes == ()) if note is None else (note in matched.notes[0])


@pytest.mark.parametrize(
    ('file', 'classes', 'reason'),
    [
        ({1: 'pink', 2: 'red'}, KNOWN, "the name of 'pink' does not tell its class; give the categories"),
        ({4: 'red', 5: 'red'}, TWICE, "the name of 'red' does not tell its class"),
        ({4: 'red'}, TWICE, "the name of 'red' does not tell its class"),
        ({1: 'red', 2: 'blue'}, TWICE, "the name of 'red' does not tell its class"),
        ({4: 'red', 5: 'red'}, Classes(KNOWN.names), "the name of 'red' does not tell its class"),
        ({4: 'pink'}, KNOWN, 'has the categories pink, and the detector knows red, green, blue; give the data set'),
        ({4: 'pink'}, Classes(KNOWN.names), 'has the categories pink, and'),
    ],
)
def test_what_does_not_go_together_is_refused(file, classes, reason, tmp_path):
    with pytest.raises(UserError) as raised:
        match(file, classes, tmp_path)
    assert reason in str(raised.value)
    assert '\n' not in str(raised.value)


def test_categories_are_chosen_by_name_or_id(tmp_path):
    path, _ = written(tmp_path, [1, 2], [1, 2, 'x'], ('red', 'red', 'a, b'), 0)
    dataset = read_coco(path, tmp_path, chosen=['a, b', '2'])
    assert (dataset.class_names, dataset.categories) == (('a, b', 'red'), ('x', 2))
    for wanted, reason in (
        (['red'], "has 2 categories 'red'; give the id of one: 1, 2"),
        (['x', 'a, b'], "'a, b' of .* is asked for twice"),
        (['y'], "has no category 'y'; it has red, red, a, b"),
    ):
        with pytest.raises(UsageError, match=reason):
            read_coco(path, tmp_path, chosen=wanted)


def test_titles_tell_classes_of_one_name_apart():
    assert KNOWN.titles() == KNOWN.names
    assert TWICE.titles() == ('red (id 1)', 'red (id 2)', 'blue')
    assert Classes(TWICE.names).titles() == ('red (class 0)', 'red (class 1)', 'blue')
