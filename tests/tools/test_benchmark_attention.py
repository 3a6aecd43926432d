"""tools/benchmark_attention.py measures units with options, and adds rows to a file."""

import json

import pytest

FLAGS = '--backbone cifar_resnet8_v1 --batch-size 2 --repeats 1 --steps 1'.split()


def test_rows_are_added_to_a_file(in_process, tmp_path):
    path = tmp_path / 'cost.json'
    for units, added in (('se', ['se']), ('se,dia:layers=2', ['se', 'dia:layers=2'])):
        code, _, err = in_process('benchmark_attention.py', *FLAGS, '--attention', units, '--json', path, '--add')
        assert code == 0, err
        rows = json.loads(path.read_text())['rows']
        assert [row['label'] for row in rows] == added
    assert rows[1]['macs_ratio'] > rows[0]['macs_ratio'] > 1


@pytest.mark.parametrize(
    ('flags', 'said'),
    [
        (['--attention', 'no'], "--attention has 'no'"),
        (['--attention', 'dia:layres=2'], 'layers'),
        (['--attention', 'dia:layers'], '--attention:'),
        (['--add'], '--add extends the file of --json'),
    ],
)
def test_mistakes(in_process, flags, said):
    code, _, err = in_process('benchmark_attention.py', *FLAGS, *flags)
    assert (code, said in err, 'Traceback' in err) == (2, True, False), err
