"""tools/simulate_ranks.py: the sums of an all-reduce, and the model that is fitted."""

import json

import numpy as np
import pytest


def test_ranks_are_measured_and_the_model_is_written(tmp_path, in_process):
    file = tmp_path / 'model.json'
    flags = '--ranks 2,3 --rounds 1 --bandwidth 100 --delay 0'.split()
    code, out, err = in_process('simulate_ranks.py', *flags, '--json', file)
    assert (code, err) == (0, '')
    content = json.loads(file.read_text())
    assert [row[:2] for row in content['measured'][::4]] == [[2, 4096], [3, 4104]]
    assert [row['ranks'] for row in content['predicted']] == [8, 16, 32, 64, 128, 256, 512]
    assert '| 512 |' in out


@pytest.mark.parametrize('flags', ['--ranks 1', '--ranks 2,x', '--bandwidth 0', '--delay -1'])
def test_wrong_usage(flags, in_process):
    code, _, err = in_process('simulate_ranks.py', *flags.split())
    assert (code, err.count('\n')) == (2, 1)


def test_a_model_is_found_again(tmp_path):
    import runpy
    from pathlib import Path

    tool = runpy.run_path(str(Path(__file__).resolve().parents[2] / 'tools' / 'simulate_ranks.py'))
    sizes = [(ranks, size) for ranks in (2, 3, 4) for size in (4096, 1 << 20, 1 << 23)]
    rows = [(ranks, size, tool['predicted'](ranks, size, 2e-4, 1.2e8)) for ranks, size in sizes]
    np.testing.assert_allclose(tool['fitted'](rows), (2e-4, 1.2e8), rtol=1e-6)
