"""The report of a detector: the run's own figures, and pictures of what it finds."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import train_detection
from detection.report import SIDE, shrunk
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
    assert f'{100 * figures["ap"]:.2f} % AP, epoch 0' in page.text
    assert f'{100 * figures["best_ap"]:.2f} % best AP' in page.text
    assert f'AP50, epoch 0: {100 * row["val_ap50"]:.5g} %' in page.text
    assert f'training loss, epoch 0: {row["train_loss"]:.5g}' in page.text
    assert '--short 48' in page.text
    shown = [each['alt'].rpartition(', ')[2] for each in page.all('img')]
    assert shown == ['found', 'annotated'] * 2  # of both validation images
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
