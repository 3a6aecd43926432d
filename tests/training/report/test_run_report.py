"""The report of a run: self-contained, with the run's figures; no failure in it harms the run."""

import json
import os
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest

import train_cifar
import train_imagenet
from environment import UserError
from tests.pages import Page, open_in_browser
from tests.training.jobs import FLAGS, write_records
from tests.training.small_disk import file_size_limit
from training.logging.history import read_history
from training.logging.outputs import Outputs
from training.logging.text_log import RunLog
from training.report.classification import class_table, confusion_matrix
from training.report.findings import Findings
from training.report.sections import Section
from training.report.writing import write_report
from training.tasks import classification

SMALL = '--dataset digits --limit-train 64 --limit-val 40 --batch-size 32 --mode hybrid --model cifar_se_resnet8_v2'


def train(folder, flags='', script=train_cifar):
    json_file = Path(f'{folder}.json')
    argv = [*shlex.split(flags), '--save-dir', str(folder), '--json', str(json_file)]
    status = script.main(argv)
    return status, json.loads(json_file.read_text()) if json_file.exists() else None


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """Return a finished run: (folder, figures, page)."""
    folder = tmp_path_factory.mktemp('runs') / 'run'
    status, figures = train(folder, f'{SMALL} --num-epochs 2')
    assert status == 0
    return folder, figures, Page(folder / 'report.html')


def table_of(page, first, last):
    """Return the numbers between two words of the text."""
    return page.text[page.text.index(first) : page.text.index(last)]


def test_a_disk_that_is_full_for_page_and_log_costs_the_run_nothing(tmp_path, capsys):
    log = RunLog(tmp_path / 'train.log')
    with file_size_limit(0):
        assert not write_report(tmp_path / 'report.html', 'title', [Section('a', lambda: 'text')], log)
    out = capsys.readouterr().out
    assert 'report.html: the file would be larger than allowed' in out
    assert 'the run itself is complete (cannot write the log' in out
    assert not (tmp_path / 'report.html').exists()


def test_the_figures_are_the_runs(run):
    folder, figures, page = run
    rows = read_history(folder / 'history.csv')
    assert f'{100 * figures["top1"]:.2f} % top-1, epoch 2' in page.text
    assert f'{100 * figures["best_top1"]:.2f} % best top-1, epoch {figures["best_epoch"]}' in page.text
    assert f'{figures["val_loss"]:.4f} validation loss' in page.text
    assert '% top-5' not in page.text  # with ten classes it means nothing
    assert f'{figures["images_per_second"]:.0f} images/s in training' in page.text
    assert f'{round(40 * figures["top1"])} of 40 images are right' in page.text
    for row in rows:  # every value in the curves is shown at its point
        for line, value in (
            ('training', row['train_loss']),
            ('validation', 100 * (1 - row['val_top1'])),
            ('learning rate', row['lr']),
        ):
            assert f'{line}, epoch {row["epoch"]}: {value:.5g}' in page.text


def test_the_confusion_matrix_adds_up(run):
    _, figures, page = run
    cells = re.findall(r'<td( class="right")? style="[^"]*">(\d*)</td>', page.content)
    assert len(cells) == 100
    assert sum(int(number or 0) for _, number in cells) == 40
    assert sum(int(number or 0) for right, number in cells if right) == round(40 * figures['top1'])


def test_settings_and_machine(run):
    folder, _, page = run
    for words in ('--num-epochs 2', '--limit-val 40', f'--save-dir {folder}', 'mode hybrid', 'mxnet 1.9.1', 'CPU'):
        assert words in page.text, words
    folded = page.text.index('settings at their defaults')
    assert page.text.index('--limit-val 40') < folded < page.text.index('--lr 0.1')


def test_pictures(run):
    _, _, page = run
    pictures = page.all('img')
    hardest = [each for each in pictures if ',' not in each['alt']]
    explained = [each['alt'] for each in pictures if ',' in each['alt']]
    assert len(hardest) == 16
    # Each explained image, and its heat map at the end of each of the three stages.
    assert len(explained) % 4 == 0
    assert len(explained) >= 16
    assert [alt.partition(', ')[2] for alt in explained[:2]] == ['image', 'stage 1']
    assert len({each['src'] for each in pictures}) > 30


def test_a_browser_has_nothing_to_say(run, tmp_path):
    folder, _, page = run
    drawn = open_in_browser(folder / 'report.html', tmp_path / 'browser', width=500)
    assert drawn.count('<img') == len(page.all('img'))


def test_no_report(tmp_path):
    assert train(tmp_path / 'run', f'{SMALL} --no-report --limit-train 32')[0] == 0
    assert not (tmp_path / 'run' / 'report.html').exists()


def test_a_run_that_has_ended_gets_its_report_again(run, tmp_path):
    folder, _, page = run
    (folder / 'report.html').unlink()
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0
    again = Page(folder / 'report.html')
    assert table_of(again, 'Curves', 'How it was run') == table_of(page, 'Curves', 'How it was run')


def test_a_part_that_cannot_be_drawn_is_told_and_costs_nothing_else(tmp_path, monkeypatch, capsys):
    def broken(*arguments):
        raise RuntimeError('no <map> today')

    monkeypatch.setattr('inference.explain_saved.explain_saved', broken)
    status, figures = train(tmp_path / 'run', f'{SMALL} --limit-train 32')
    assert status == 0
    assert Path(figures['params']).exists()
    sentence = "the part 'Where the network looks' of "
    assert sentence in capsys.readouterr().out
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert sentence in log
    assert 'Traceback (most recent call last)' in log
    page = Page(tmp_path / 'run' / 'report.html')
    assert sentence in page.text
    assert '(RuntimeError: no <map> today)' in page.text
    assert 'images are right' in page.text
    assert '--limit-train 32' in page.text


def test_nothing_that_is_drawn_can_end_the_run(tmp_path, monkeypatch, capsys):
    """This holds for every part."""
    from training.report import run_report

    def broken(*arguments):
        raise ValueError('nothing')

    parts = {'costs': 'Summary', 'curves': 'Curves', 'settings_table': 'How it was run', 'read_events': 'Incidents'}
    for name in parts:
        monkeypatch.setattr(run_report, name, broken)
    monkeypatch.setattr(classification, 'find', broken)
    assert train(tmp_path / 'run', f'{SMALL} --limit-train 32')[0] == 0
    told = capsys.readouterr().out
    page = Page(tmp_path / 'run' / 'report.html')
    for part in (*parts.values(), 'What is confused with what'):
        assert f"the part '{part}' of " in told
        assert f"the part '{part}' of " in page.text
    assert page.text.count('The images were not looked at') == 2


def test_incidents(tmp_path):
    folder = tmp_path / 'run'
    assert train(folder, f'{SMALL} --limit-train 32')[0] == 0
    assert 'Incidents' not in Page(folder / 'report.html').text
    with open(folder / 'log.jsonl', 'a') as file:
        for step in range(12):
            file.write(
                json.dumps({'event': 'skipped', 'step': 1, 'epoch': 1, 'reason': f'the loss is <{step}>'}) + '\n'
            )
        for images in (['a.png is damaged'], ['a.png is damaged', 'b.png is damaged']):
            file.write(json.dumps({'event': 'damaged', 'step': 1, 'images': images}) + '\n')
    assert train_cifar.main(['--resume', '--save-dir', str(folder)]) == 0
    told = Page(folder / 'report.html').text.partition('Incidents')[2]
    assert told.startswith(' 12 steps were skipped: the loss is <0> ')
    assert 'the loss is <9> and 2 more 2 images were left out: a.png is damaged b.png is damaged' in told


def test_a_report_that_cannot_be_written_is_told_and_costs_nothing(tmp_path, capsys):
    (tmp_path / 'run' / 'report.html').mkdir(parents=True)
    status, figures = train(tmp_path / 'run', f'{SMALL} --limit-train 32')
    assert status == 0
    assert Path(figures['params']).exists()
    assert 'report.html' in capsys.readouterr().out
    assert 'the run itself is complete' in (tmp_path / 'run' / 'train.log').read_text()


@pytest.mark.usefixtures('own_handlers')
@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_tells_what_is_known(tmp_path, monkeypatch, number):
    batch = Outputs.batch

    def stopping(self, position, step, *rest):
        batch(self, position, step, *rest)
        if step == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Outputs, 'batch', stopping)
    status, figures = train(tmp_path / 'run', f'{SMALL} --num-epochs 3')
    assert (status, figures) == (128 + number, None)
    page = Page(tmp_path / 'run' / 'report.html')
    assert 'Stopped in epoch ' in page.text
    assert 'top-1, epoch 1' in page.text
    assert 'What is confused' not in page.text
    assert '--num-epochs 3' in page.text
    monkeypatch.undo()
    assert train_cifar.main(['--resume', '--save-dir', str(tmp_path / 'run')]) == 0
    page = Page(tmp_path / 'run' / 'report.html')
    assert 'Stopped' not in page.text
    assert 'top-1, epoch 3' in page.text
    assert 'images are right' in page.text


def test_stopped_before_the_first_epoch_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(Outputs, 'begin_epoch', lambda self, position: os.kill(os.getpid(), signal.SIGTERM))
    assert train(tmp_path / 'run', SMALL)[0] == 143
    assert 'No epoch has come to its end yet.' in Page(tmp_path / 'run' / 'report.html').text


def test_imagenet(tmp_path):
    data = write_records(tmp_path / 'data')
    flags = ' '.join([*FLAGS, '--data-dir', str(data)])
    assert train(tmp_path / 'plain', flags, train_imagenet)[0] == 0
    assert not (tmp_path / 'plain' / 'report.html').exists()
    status, figures = train(tmp_path / 'run', flags.replace(' --no-report', ''), train_imagenet)
    assert status == 0
    page = Page(tmp_path / 'run' / 'report.html')
    assert f'{round(11 * figures["top1"])} of 11 images are right' in page.text
    assert 'stage 3' in page.text
    assert 'train_imagenet' in (tmp_path / 'run' / 'settings.yaml').read_text()
    assert '--use-rec True' in page.text


def test_many_classes_are_a_picture_and_very_many_only_pairs():
    def drawn(classes):
        confusion = np.zeros((classes, classes), int)
        confusion[0, 1], confusion[1, 1] = 3, 4
        return confusion_matrix(Findings(confusion, (), ()), [f'class {i}' for i in range(classes)])

    assert drawn(25).count('<td') == 1 + 25 * 25
    assert drawn(26).count('<img') == 1
    assert '<td' not in drawn(26)
    assert drawn(201) == ''


def test_class_names_are_text():
    drawn = confusion_matrix(Findings(np.eye(2, dtype=int), (), ()), ['<i>', 'b'])
    assert '<i>' not in drawn
    assert '&lt;i&gt;' in drawn


def test_a_full_disk_is_the_logs_to_tell(tmp_path, monkeypatch):
    """If not even the log can be written, the user is told; the parameters are there."""
    from training.report import writing

    def full(path, write):
        raise UserError(f'cannot write {path}: the disk is full')

    monkeypatch.setattr(writing, 'atomic_write', full)
    told = []
    assert writing.write_report(tmp_path / 'r.html', 't', [], lambda line, console=True: told.append(line)) is False
    assert told == [f'cannot write {tmp_path}/r.html: the disk is full; the run itself is complete']


def test_figures_of_each_class_are_those_by_hand():
    confusion = np.array([[3, 1, 0], [1, 5, 0], [0, 0, 0]])
    text = class_table(Findings(confusion, (), ()), ('a', 'b', 'c'))
    rows = re.findall(r'<tr><td>(\w)</td>(.*?)</tr>', text.replace('\xa0', ' '))
    assert [(name, re.findall(r'>([^<>]+)</td>', cells)) for name, cells in rows] == [
        ('a', ['75.0 %', '75.0 %', '75.0 %', '4']),
        ('b', ['83.3 %', '83.3 %', '83.3 %', '6']),
        ('c', ['–', '–', '–', '0']),
    ]
