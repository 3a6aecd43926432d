"""tools/benchmark_table.py: one table of several runs, ratios within each run, goals met or missed."""

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLAIN = 'resnet50_v1b'


def row(model, mode, ms, precision='float32', batch=8, macs=100):
    return {
        'model': model,
        'batch_size': batch,
        'mode': mode,
        'precision': precision,
        'ms_per_image': ms,
        'macs': macs,
    }


@pytest.fixture
def files(tmp_path):
    runs = [
        [row(PLAIN, 'defaults', 40.0), row(PLAIN, 'optimized', 20.0), row(PLAIN, 'openvino', 19.0)],
        # Measured while the machine was half as fast.
        [
            row('se', 'optimized', 46.0, macs=120),
            row('se', 'optimized', 10.0, 'int8', macs=120),
            row(PLAIN, 'optimized', 40.0),
            row(PLAIN, 'optimized', 10.0, 'int8'),
        ],
    ]
    for place, rows in enumerate(runs):
        (tmp_path / f'{place}.json').write_text(json.dumps({'rows': rows}))
    return [str(tmp_path / '0.json'), str(tmp_path / '1.json')]


@pytest.mark.parametrize(
    'content',
    [
        '',
        '[]',
        '{}',
        '{"rows": null}',
        '{"rows": [{}]}',
        json.dumps({'rows': [{**row(PLAIN, 'optimized', 1.0), 'batch_size': None}]}),
        json.dumps({'rows': [{**row(PLAIN, 'optimized', 1.0), 'ms_per_image': 'x'}]}),
        '{"backbone": null}',
        '{"backbone": "x", "batch_size": 1, "rows": [{"model": "se_x", "macs_ratio": "y"}]}',
        '{"ratios": []}',
    ],
)
def test_a_file_of_another_form_is_told(tmp_path, in_process, content):
    (tmp_path / 'x.json').write_text(content)
    code, _, err = in_process('benchmark_table.py', tmp_path / 'x.json')
    assert code == 1
    assert 'x.json was not written by tools/benchmark.py --json' in err


def test_table_and_goals(files, tmp_path, in_process):
    code, out, err = in_process('benchmark_table.py', *files, '--json', tmp_path / 'ratios.json')
    assert (code, err) == (0, '')
    lines = out.splitlines()
    assert lines[0] == "| network | batch | `hybridize()`, MXNet's threads | optimized | int8 | OpenVINO |"
    assert lines[2:4] == [
        f'| `{PLAIN}` | 8 | 40.0 | 30.0 | 10.0 | 19.0 |',
        '| `se` | 8 |  | 46.0 | 10.0 |  |',
    ]
    found = {
        (entry['goal'], entry['model']): (round(entry['found'], 3), entry['met'])
        for entry in json.loads((tmp_path / 'ratios.json').read_text())
    }
    assert found == {
        ('float32 / hybridize() with defaults', PLAIN): (2.0, True),
        ('float32 / OpenVINO', PLAIN): (0.95, False),
        ('int8 / float32', PLAIN): (4.0, True),
        ('int8 / float32', 'se'): (4.6, True),
        (f'float32: time over {PLAIN}, by MACs', 'se'): (0.958, True),  # 46 / 40 with 1.2 times the multiply-adds
        (f'int8: time over {PLAIN}, by MACs', 'se'): (0.833, True),
    }
    assert out.count(' met |') == 5
    assert out.count(' missed |') == 1


COST = {
    'backbone': 'cifar_resnet8_v2',
    'batch_size': 8,
    'rows': [
        {
            'label': 'se',
            'model': 'cifar_se_resnet8_v2',
            'macs_ratio': 1.0,
            'step': {'ratio': 1.25},
            'forward': {'ratio': 1.5},
        },
        {
            'label': 'dca_se:merge=sum',
            'model': 'cifar_dca_se_resnet8_v2',
            'macs_ratio': 1.1,
            'step': {'ratio': 2},
            'forward': {'ratio': 1.75},
        },
    ],
}


def test_the_tables_of_a_page(files, tmp_path, in_process):
    cost, page = tmp_path / 'cost.json', tmp_path / 'page.md'
    cost.write_text(json.dumps(COST))
    page.write_text(
        'a <!-- table: inference --> <!-- end of table --> b <!-- table: attention --> <!-- end of table -->'
    )
    code, _, err = in_process('benchmark_table.py', cost, *files, '--check', page)
    assert (code, err.count('out of date; run python tools/benchmark_table.py')) == (1, 1)
    assert in_process('benchmark_table.py', cost, *files, '--update', page) == (0, '', '')
    assert in_process('benchmark_table.py', cost, *files, '--check', page) == (0, '', '')
    text = page.read_text()
    assert '| `se` | 8 |  | 46.0 | 10.0 |  |' in text
    assert '| `cifar_resnet8_v2`, batch 8 | multiply-adds | training step | forward pass |' in text
    assert '| `se` | 1.00 | 1.25 | 1.50 |\n| `dca_se`, `merge=sum` | 1.10 | 2.00 | 1.75 |' in text
    for given in (('--update', page), ()):
        code, _, err = in_process('benchmark_table.py', cost, '--json', tmp_path / 'no.json', *given)
        assert (code, '--json writes' in err) == (2, True)
    page.write_text('nothing')
    code, _, err = in_process('benchmark_table.py', *files, '--update', page)
    assert (code, 'has none of the tables inference' in err) == (1, True)


TRAINING = {
    'model': 'cifar_atac_resnet8_v2',
    'baseline': 'cifar_resnet8_v2',
    'batch_size': 16,
    'ratios': {
        'loop_to_bare': 0.987,
        'baseline_to_model_step': 1.4,
        'muon_to_nag_step': 1.05,
        'to_default_threads': 1.6,
        'to_original_data': 1.3,
        'to_original': 1.7,
        'feeding_to_bare': 80.0,
        'to_original_feeding': 40.0,
    },
    'modes': {'imperative': 400.2, 'hybrid': 500.0, 'static': 510.0},
}


def test_the_table_of_training(tmp_path, in_process):
    file = tmp_path / 'training.json'
    file.write_text(json.dumps(TRAINING))
    code, out, err = in_process('benchmark_table.py', file)
    assert (code, err) == (0, '')
    assert '| `cifar_atac_resnet8_v2`, batch 16 | |\n| --- | ---: |' in out
    assert "| a training step's time / that of `cifar_resnet8_v2` | 1.40 |" in out
    assert "| a training step's time with `--optimizer muon` / with `nag` | 1.05 |" in out
    assert '| images/s of the whole loop / of the bare step | 0.99 |' in out
    modes = '| images/s, imperative / hybrid / static, as `--mode auto` finds them | 400 / 500 / 510 |'
    assert modes in out
    file.write_text(json.dumps({**TRAINING, 'modes': {}}))  # with --mode
    assert modes not in in_process('benchmark_table.py', file)[1]
    file.write_text(json.dumps({**TRAINING, 'ratios': {}}))
    code, _, err = in_process('benchmark_table.py', file)
    assert (code, 'measure again' in err) == (1, True)


@pytest.mark.parametrize('page', ['docs/inference-and-shipping.md', 'docs/kernels.md'])
def test_the_figures_of_the_page_are_those_of_the_results(page, in_process):
    files = sorted([*(ROOT / 'results').glob('*.json'), *(ROOT / 'results' / 'inference').glob('*.json')])
    assert len(files) > 18
    assert in_process('benchmark_table.py', *files, '--check', ROOT / page) == (0, '', '')


def test_mistakes(tmp_path, in_process):
    file = tmp_path / 'x.json'
    for content in (None, 'no json', '{}', '{"rows": [{}]}'):
        if content is not None:
            file.write_text(content)
        code, _, err = in_process('benchmark_table.py', file)
        assert (code, err.count('\n')) == (1, 1)
        assert 'x.json was not written by tools/benchmark.py --json' in err


BESIDE_TORCH = {
    'beside_torch': [
        {
            'model': 'cifar_resnet8_v2',
            'batch_size': 16,
            'precision': 'bfloat16',
            'contenders': {
                'ours': {'images_per_second': 300.0, 'convolutions': 0.5, 'megabytes': 100.4},
                'torch': {'images_per_second': 150.0, 'convolutions': 0.256, 'megabytes': 1536.0},
                'torch compiled': {'images_per_second': 200.0},
            },
        }
    ]
}


def test_the_table_beside_torch(tmp_path, in_process):
    file = tmp_path / 'beside.json'
    file.write_text(json.dumps(BESIDE_TORCH))
    code, out, err = in_process('benchmark_table.py', file)
    assert (code, err) == (0, '')
    row = '| `cifar_resnet8_v2` | 16 | bfloat16 | 300 | 150 | 200 | 1.50 | 50 % | 26 % | 100 MB | 1.50 GB |'
    assert out.splitlines()[2] == row
