"""scripts/benchmark_table.py: one table of several runs, ratios within each, goals met or missed."""

import json

import pytest

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
        # On a machine that is twice as slow just now.
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


def test_mistakes(tmp_path, in_process):
    file = tmp_path / 'x.json'
    for content in (None, 'no json', '{}', '{"rows": [{}]}'):
        if content is not None:
            file.write_text(content)
        code, _, err = in_process('benchmark_table.py', file)
        assert (code, err.count('\n')) == (1, 1)
        assert 'x.json is no file of scripts/benchmark.py --json' in err
