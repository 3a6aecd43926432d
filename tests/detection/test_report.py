"""The report on a detector: the run's own figures, and pictures of what it finds."""

import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import train_detection
from detection.predict import Detection, _common, _free_area, draw
from detection.report import SIDE, DetectionReport, shrunk, what_is_shown
from tests.detection.data import write_coco
from tests.pages import Page
from tests.test_train_detection import BASE as WITHOUT
from training.logging.history import read_history

BASE = WITHOUT.replace(' --no-report', '')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_coco(tmp_path_factory.mktemp('data') / 'shapes')


def train(data, folder, flags=''):
    argv = shlex.split(f'{BASE} {flags} --data-dir {data} --save-dir {folder} --json {folder}.json')
    assert train_detection.main(argv) == 0
    return json.loads(Path(f'{folder}.json').read_text())


def test_figures_and_pictures(data, tmp_path):
    figures = train(data, tmp_path / 'run')
    page = Page(tmp_path / 'run' / 'report.html')
    (row,) = read_history(tmp_path / 'run' / 'history.csv')
    assert f'{100 * figures["ap"]:.2f} % AP, epoch 1' in page.text
    assert f'{100 * figures["best_ap"]:.2f} % best AP' in page.text
    assert f'AP50, epoch 1: {100 * row["val_ap50"]:.5g} %' in page.text
    assert f'training loss, epoch 1: {row["train_loss"]:.5g}' in page.text
    assert '--short 48' in page.text
    shown = [each['alt'].rpartition(', ')[2] for each in page.all('img')]
    assert shown[1::2] == ['annotated'] * 2  # of both validation images
    assert set(shown[::2]) <= {'found', *(what_is_shown(np.zeros(count))[0] for count in range(6))}
    assert len({each['src'] for each in page.all('img')[1::2]}) == 2


def test_no_report(data, tmp_path):
    train(data, tmp_path / 'run', '--no-report')
    assert not (tmp_path / 'run' / 'report.html').exists()


def test_what_cannot_be_drawn_costs_nothing_else(data, tmp_path, monkeypatch):
    def broken(*arguments):
        raise RuntimeError('no boxes')

    monkeypatch.setattr('detection.task.found_and_annotated', broken)
    figures = train(data, tmp_path / 'run')
    assert Path(figures['params']).exists()
    assert 'RuntimeError: no boxes' in Page(tmp_path / 'run' / 'report.html').text
    assert "the part 'What it finds' of " in (tmp_path / 'run' / 'train.log').read_text()


def test_pictures_are_made_small_and_never_large():
    assert shrunk(np.zeros((SIDE * 2, SIDE, 3), np.uint8)).shape == (SIDE, SIDE // 2, 3)
    assert shrunk(np.zeros((9, 7, 3), np.uint8)).shape == (9, 7, 3)


def test_where_nothing_scores_enough_the_best_boxes_are_shown():
    assert what_is_shown(np.array([0.9, 0.3, 0.2])) == ('found', 2)
    assert what_is_shown(np.array([0.29, 0.2])) == ('nothing scores 30 %; the best 2 boxes', 2)
    assert what_is_shown(np.array([0.29])) == ('nothing scores 30 %; the best box', 1)
    assert what_is_shown(np.array([])) == ('nothing is found at all', 0)
    pictures = [(name, np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8), what_is_shown(scores)[0])
                for name, scores in (('sure.png', np.ones(1)), ('unsure.png', np.zeros(9)))]  # fmt: skip
    told = DetectionReport.pictures(SimpleNamespace(look=lambda position: pictures), None)
    assert 'sure.png, found' in told
    assert 'unsure.png, nothing scores 30 %; the best 5 boxes' in told
    assert 'Where none does, the 5 best are drawn' in told


def test_words_of_boxes_do_not_cover_each_other():
    taken = []
    for number in range(6):
        box = (20 + 2 * number, 30 + number, 180, 150)
        taken.append(_free_area(box, 60, 14, (200, 220, 3), taken))
    for i, first in enumerate(taken):
        assert 0 <= first[0] < first[2] <= 220
        assert 0 <= first[1] < first[3] <= 200
        assert [_common(first, other) for other in taken[:i]] == [0] * i
    corner = _free_area((0, 0, 10, 10), 60, 14, (200, 220, 3), [])
    assert corner == (0, 0, 60, 14)


def test_annotated_boxes_have_no_scores():
    one = Detection(
        'x', np.array([[5, 40, 90, 90]], np.float32), np.ones(1), np.zeros(1, int), np.zeros((99, 99, 3), np.uint8)
    )
    with_score, without = (draw(one, ['cat'], scored=scored) for scored in (True, False))
    assert (with_score > 0).sum() > (without > 0).sum()
