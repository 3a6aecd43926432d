"""results.csv: a row for each finished run, whether they finish one by one or at once."""

import csv
import multiprocessing
import shlex

import pytest

import train_cifar
from environment import UserError
from tests.train_cifar.runs import BASE
from training.logging.results import COLUMNS, enter_result, results_file

ROW = {**dict.fromkeys(COLUMNS, 1), 'model': '=net', 'best': -1.0, 'params': 'best.params'}


def table(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def test_a_run_is_entered_and_its_row_is_replaced_where_it_goes_on(tmp_path):
    folder, path = tmp_path / 'runs' / 'photos', tmp_path / 'runs' / 'results.csv'
    enter_result(path, tmp_path / 'runs' / 'other', ROW)
    assert train_cifar.main([*shlex.split(BASE), '--save-dir', str(folder)]) == 0
    other, row = table(path)
    assert other['run'] == 'other'
    assert {name: row[name] for name in ('run', 'model', 'dataset', 'seed', 'epochs', 'metric', 'parameters')} == {
        'run': 'photos', 'model': 'cifar_resnet8_v2', 'dataset': 'digits', 'seed': '0', 'epochs': '1',
        'metric': 'top-1', 'parameters': '77850',
    }  # fmt: skip
    assert row['best'] == row['last']
    assert row['best_epoch'] == '1'
    assert row['params'] == str(folder / 'best.params')
    assert train_cifar.main(['--resume', '--save-dir', str(folder), '--num-epochs', '2']) == 0
    assert [(row['run'], row['epochs']) for row in table(path)] == [('other', '1'), ('photos', '2')]
    assert table(path)[0] == other
    assert {each.name for each in path.parent.iterdir()} == {'photos', 'results.csv'}


def enter_many(path, first):
    for number in range(first, first + 10):
        enter_result(path, path.parent / f'run {number}', ROW)


def test_several_at_once_lose_nothing(tmp_path):
    path = tmp_path / 'results.csv'
    fork = multiprocessing.get_context('fork')
    processes = [fork.Process(target=enter_many, args=(path, first)) for first in (0, 10, 20)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert {row['run'] for row in table(path)} == {f'run {number}' for number in range(30)}
    assert {(row['model'], row['best']) for row in table(path)} == {("'=net", '-1.0')}  # safe for spreadsheets


@pytest.mark.parametrize('content', [b'', b'a,b\n1,2\n', b'\xff\xfe\0', ','.join(COLUMNS).encode() + b'\nx\n'])
def test_another_file_stays_as_it_is(tmp_path, content):
    path = tmp_path / 'results.csv'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'results\.csv is not a table of runs, .*; give another --results'):
        enter_result(path, tmp_path / 'run', ROW)
    assert path.read_bytes() == content


def test_a_table_that_cannot_be_kept_is_told_and_the_run_is_complete(tmp_path):
    (tmp_path / 'table.csv').write_text('mine\n')
    argv = [*shlex.split(BASE), '--save-dir', str(tmp_path / 'run'), '--results', str(tmp_path / 'table.csv')]
    assert train_cifar.main(argv) == 0
    log = (tmp_path / 'run' / 'train.log').read_text()
    assert 'table.csv is not a table of runs, so that this run is not entered; give another --results; the run' in log


def test_which_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'runs').mkdir()
    assert results_file('', tmp_path / 'runs' / 'x') == results_file(
        '', (tmp_path / 'runs' / 'x').relative_to(tmp_path)
    )
    assert results_file('', tmp_path / 'runs' / 'x') == tmp_path / 'runs' / 'results.csv'
    assert results_file('', tmp_path / 'x') is None
    assert str(results_file('all.csv', tmp_path / 'x')) == 'all.csv'
