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
    assert table['instructions'] == kernels.engine.chosen()
    assert len(table['rows']) + len(table['out_of_time']) == 4
    assert done.stderr.count('no time for') == len(table['out_of_time'])
    for row in table['rows']:
        assert set(row['ms']) == {'own', 'optimized'}
        assert row['difference']['own'] <= 1e-5
        assert row['share_of_matrix_peak'] > 0
        assert 'ratio' not in row  # no other runtime took part
    assert done.stdout.count('| cifar') == 0
    assert done.stdout.count('| `cifar_') == len(table['rows'])
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
    row = {'model': name, 'batch': batch, 'precision': 'float32', 'macs': 1e9}
    row['ms'] = {'own': own, 'onnxruntime': 30.0, 'openvino': 20.0}
    content = {'rows': [row], 'threads': 1, 'instructions': 'avx2', 'matrix_macs_per_second': {'float32': 1e11}}
    (found,) = benchmark_engine.judged(content)
    assert found['faster'] == 'openvino'
    assert found['ratio'] == pytest.approx(ratio, abs=0.01)
    assert found['passes'] is passes
    assert found['share_of_matrix_peak'] == pytest.approx(1e9 / (own / 1000) / 1e11)


def test_attention_may_cost_its_multiply_adds(benchmark_engine):
    rows = [
        {'model': 'resnet50_v1b', 'batch': 8, 'precision': 'float32', 'macs': 100, 'ms': {'own': 10.0}},
        {
            'model': 'sk_resnet50_v1b',
            'batch': 8,
            'precision': 'float32',
            'macs': 110,
            'ms': {'own': 13.0, 'torch': 90.0},
        },
    ]
    content = {'rows': rows, 'threads': 1, 'instructions': 'avx2', 'matrix_macs_per_second': {'float32': 1e11}}
    found = benchmark_engine.judged(content)[1]
    assert found['cost_of_attention'] == pytest.approx(1.3 / 1.1)
    assert not found['passes']


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--threads', 'two'], '--threads two must be whole numbers above 0'),
        (['--modes', 'own,mine'], "--modes has 'mine'"),
        (['--model', 'resnet7'], '--model: '),
    ],
)
def test_wrong_flags_are_one_sentence(in_process, flags, said):
    code, _, err = in_process('benchmark_engine.py', *flags)
    assert code == 2
    assert said in err
