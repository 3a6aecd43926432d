"""tools/benchmark_engine.py: every cell is measured or listed as too late, and judged against the other runtimes."""

import importlib
import json

import pytest

import kernels.engine
from inference.engine.network import why_not
from tests.scripts.conftest import path_of, run

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f'no engine: {why_not()}')


@pytest.fixture
def benchmark_engine(monkeypatch):
    monkeypatch.syspath_prepend(str(path_of('benchmark_engine.py').parent))
    return importlib.import_module('benchmark_engine')


def row_of(name, batch, macs, **ms):
    row = {'model': name, 'batch': batch, 'precision': 'float32', 'macs': macs, 'ms': ms, 'threads': 1, 'isa': 'native'}
    return {**row, 'instructions': 'avx2', 'matrix_macs_per_second': 1e11}


def test_cells_are_measured_as_long_as_there_is_time(tmp_path):
    flags = '--model cifar_se_resnet8_v2,cifar_resnet8_v2 --batch-size 1,2 --threads 1 --precision float32'
    done = run(
        'benchmark_engine.py',
        *flags.split(),
        *('--modes', 'own,optimized', '--minutes', 0.02, '--json', tmp_path / 'table.json'),
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    table = json.loads((tmp_path / 'table.json').read_text())
    assert {row['instructions'] for row in table['rows']} == {kernels.engine.chosen()}
    assert len(table['rows']) + len(table['out_of_time']) == 4
    assert done.stderr.count('no time for') == len(table['out_of_time'])
    for row in table['rows']:
        assert set(row['ms']) == {'own', 'optimized'}
        assert row['difference']['own'] <= 1e-5
        assert row['share_of_matrix_peak'] > 0
        assert 'ratio' not in row  # no other runtime took part
    assert done.stdout.count('| cifar') == 0
    assert done.stdout.count('| `cifar_') == len(table['rows'])
    told = done.stdout.count('time of cifar_se_resnet8_v2 over that of')
    assert told == 0  # it has no plain network in the tool's list
    (start,) = [table['starts'][name] for name in list(table['starts'])[:1]]
    assert start['own']['seconds'] > 0
    assert start['own']['peak_mb'] > 10


@pytest.mark.parametrize(
    ('name', 'batch', 'own', 'ratio', 'passes'),
    [
        ('resnet50_v1b', 1, 20.0, 1.0, True),
        ('dca_se_resnet50_v1b', 1, 20.0, 1.0, False),  # more is expected of networks with gates
        ('dca_se_resnet50_v1b', 1, 18.0, 1.11, True),
        ('cbam_mobilenet_v2', 1, 10.0, 2.0, True),
    ],
)
def test_the_faster_runtime_counts(benchmark_engine, name, batch, own, ratio, passes):
    (found,) = benchmark_engine.judged([row_of(name, batch, 1e9, own=own, onnxruntime=30.0, openvino=20.0)])
    assert found['faster'] == 'openvino'
    assert found['ratio'] == pytest.approx(ratio, abs=0.01)
    assert found['passes'] is passes
    assert found['share_of_matrix_peak'] == pytest.approx(1e9 / (own / 1000) / 1e11)


def test_attention_may_cost_its_multiply_adds(benchmark_engine, capsys):
    rows = [row_of('resnet50_v1b', 8, 100, own=10.0), row_of('sk_resnet50_v1b', 8, 110, own=13.0, torch=90.0)]
    found = benchmark_engine.judged(rows)
    assert found[1]['cost_of_attention'] == pytest.approx(1.3 / 1.1)
    assert not found[1]['passes']
    benchmark_engine.tell_attention(found)
    said = capsys.readouterr().out
    assert said.startswith('time of sk_resnet50_v1b over that of resnet50_v1b')
    assert 'at most 1.18, above 1.1 in 1 of 1 cells: 1.18 (8, float32, 1 threads, avx2)' in said
    elsewhere = [{**rows[0], 'threads': 2}, rows[1]]
    assert 'cost_of_attention' not in benchmark_engine.judged(elsewhere)[1]


def test_a_runtime_that_uses_more_of_the_processor_does_not_count(benchmark_engine):
    row = row_of('resnet50_v1b', 1, 1e9, own=20.0, onnxruntime=10.0, openvino=25.0)
    (found,) = benchmark_engine.judged([{**row, 'beyond': ['onnxruntime']}])
    assert found['faster'] == 'openvino'
    assert found['passes']


def test_a_table_is_continued(in_process, tmp_path, monkeypatch, benchmark_engine):
    """Each piece keeps the cells before it, and the file has each cell as soon as it is measured."""
    file = tmp_path / 'table.json'
    asked = []

    def measured(group, cells, modes, seconds, longest):
        assert longest <= benchmark_engine.LONGEST
        for name, batch, precision in cells[:1]:
            asked.append((name, batch))
            yield {**row_of(name, batch, 1e9, own=1.0), 'precision': precision, 'isa': group.isa}
            assert (name, batch) in [(row['model'], row['batch']) for row in json.loads(file.read_text())['rows']]

    monkeypatch.setattr(benchmark_engine, 'measured', measured)
    monkeypatch.setattr(benchmark_engine, 'starts', lambda names, seconds: iter([(name, {}) for name in names]))
    flags = ['--model', 'cifar_resnet8_v2', '--batch-size', '1,2', '--threads', '1', '--precision', 'float32']
    flags += ['--modes', 'own', '--resume', '--json', str(file)]
    for place in range(3):
        assert benchmark_engine.main(flags) == 0
        table = json.loads(file.read_text())
        assert len(table['rows']) == min(place + 1, 2)
        assert len(table['out_of_time']) == max(1 - place, 0)
        assert bool(table['starts']) == (place > 0)  # once all cells are measured
    assert asked == [('cifar_resnet8_v2', 1), ('cifar_resnet8_v2', 2)]
    file.write_text('[]')
    code, _, err = in_process('benchmark_engine.py', *flags)
    assert code == 1
    assert 'cannot be continued' in err


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--threads', 'two'], '--threads two must be whole numbers above 0'),
        (['--modes', 'own,mine'], "--modes has 'mine'"),
        (['--model', 'resnet7'], '--model: '),
        (['--isa', 'sse'], "--isa has 'sse'"),
        (['--resume'], '--resume needs --json'),
    ],
)
def test_wrong_flags_are_one_sentence(in_process, flags, said):
    code, _, err = in_process('benchmark_engine.py', *flags)
    assert code == 2
    assert said in err
