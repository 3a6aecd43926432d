"""Several runs on one page."""

import json

import pytest
import yaml

from environment import UserError
from tests.pages import Page, open_in_browser
from tests.scripts.conftest import run as run_script
from training.logging.history import write_history
from training.logging.metrics import CLASSIFICATION, DETECTION, best_words
from training.report.comparison import common_scoring, read_run, write_comparison


def make_run(folder, tops, scoring=CLASSIFICATION, **settings):
    folder.mkdir(parents=True)
    rows = []
    for epoch, top in enumerate(tops, 1):
        row = dict.fromkeys(scoring.columns, 0.5)
        row.update(epoch=epoch, step=10 * epoch, lr=0.1 / epoch, seconds=60.0, val_seconds=1.0)
        row.update({'images_per_second': 123.0, 'train_loss': 1 / epoch, scoring.column: top})
        rows.append(row)
    write_history(folder / 'history.csv', rows, scoring)
    if settings:
        (folder / 'settings.yaml').write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(tmp_path / 'first', [0.5, 0.75, 0.625], lr=0.1, model='a', wd=0.5, **{'save-dir': 'x'}),
        make_run(tmp_path / 'sec<b>ond', [0.25, 0.5], lr=0.2, model='a', mixup=True, r=0, **{'save-dir': 'y'}),
        make_run(tmp_path / 'third', [0.125]),
    ]


def test_figures_curves_and_settings_that_differ(runs, tmp_path):
    write_comparison(tmp_path / 'page.html', [read_run(run) for run in runs])
    page = Page(tmp_path / 'page.html')
    assert page.text.startswith('3 runs')
    assert 'first 3 62.50 % 75.00 % 2 0.3333 123 0:03:03' in page.text
    assert 'sec<b>ond 2 50.00 % 50.00 % 2 0.5000 123 0:02:02' in page.text
    assert 'third 1 12.50 % 12.50 % 1 1.0000 123 0:01:01' in page.text
    assert 'sec<b>ond, epoch 2: 50 %' in page.text
    assert 'third, epoch 1: 87.5 %' in page.text
    differing = page.text[page.text.index('Settings that differ') :]
    assert differing == 'Settings that differ first sec<b>ond --lr 0.1 0.2 --wd 0.5 – --mixup – True'
    assert not page.all('b')
    assert page.text.count('sec<b>ond') > 8  # below each drawing as well


def test_no_settings_differ(runs, tmp_path):
    with (runs[0] / 'settings.yaml').open('a') as file:
        file.write('save-frequency: 3\n')  # train_imagenet.py's name for it
    runs.append(make_run(tmp_path / 'fourth', [0.25], lr=0.1, model='a', wd=0.5, **{'save-frequency': 1}))
    write_comparison(tmp_path / 'page.html', [read_run(runs[0]), read_run(runs[2]), read_run(runs[3])], 'A title')
    page = Page(tmp_path / 'page.html')
    assert page.text.startswith('A title')
    assert page.text.endswith('None that is known.')


def test_one_run_and_very_many(runs, tmp_path):
    write_comparison(tmp_path / 'one.html', [read_run(runs[1])])
    many = [read_run(run) for run in runs] * 8
    write_comparison(tmp_path / 'many.html', many)
    page = Page(tmp_path / 'many.html')
    assert page.content.count('class="keys"') == 0
    assert len({text for text in page.content.split('<tr>') if 'svg class="key"' in text and '0:03:03' in text}) == 8


def test_detectors(tmp_path):
    folder = make_run(tmp_path / 'detector', [0.25, 0.375], DETECTION)
    write_comparison(tmp_path / 'page.html', [read_run(folder)])
    page = Page(tmp_path / 'page.html')
    assert 'detector 2 37.50 % 37.50 % 2' in page.text
    assert 'AP, %' in page.text
    assert 'Validation error' not in page.text
    other = make_run(tmp_path / 'classifier', [0.5])
    with pytest.raises(UserError, match='classifiers and some of detectors'):
        common_scoring([read_run(folder), read_run(other)])


def test_a_history_that_is_shipped(tmp_path):
    folder = make_run(tmp_path / 'net', [0.5])
    (folder / 'history.csv').rename(folder / 'seed-1.csv')
    (folder / 'seed-1.yaml').write_text('lr: 0.1\n')
    run = read_run(folder / 'seed-1.csv')
    assert (run.name, run.settings) == ('net/seed-1', {'lr': 0.1})


def test_the_script(runs, tmp_path):
    done = run_script('plot_history.py', *runs[:2], '--html', 'page.html', '--json', 'figures.json', cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert Page(tmp_path / 'page.html').text.startswith('2 runs')
    assert not (tmp_path / 'history.png').exists()
    assert json.loads((tmp_path / 'figures.json').read_text())['runs'][0] == {
        'run': 'first', 'epochs': 3, 'top1': 0.625, 'best_top1': 0.75, 'best_epoch': 2
    }  # fmt: skip
    assert 'curves: page.html' in done.stdout


def test_a_browser_has_nothing_to_say(runs, tmp_path):
    write_comparison(tmp_path / 'page.html', [read_run(run) for run in runs])
    assert 'third' in open_in_browser(tmp_path / 'page.html', tmp_path / 'browser')


def test_the_best_epoch_is_told_as_accuracy_and_as_what_is_drawn():
    row = {'val_top1': 0.45, 'val_ap': 0.3}
    assert best_words(CLASSIFICATION, row) == 'top-1 45.00 % (error 55.00 %)'
    assert best_words(DETECTION, row) == 'AP 30.00 %'
