"""Commands that write several files onto a disk that fills up meanwhile: all earlier files stay."""

import numpy as np
import pytest
from PIL import Image

from tests.scripts.test_reports import history
from tests.training.test_disk_full import file_size_limit


@pytest.fixture
def images(tmp_path):
    (tmp_path / 'images').mkdir()
    for name, side in (('a', 16), ('b', 40)):
        pixels = np.random.RandomState(side).randint(0, 256, (side, side, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / 'images' / f'{name}.png')
    return tmp_path / 'images'


def explaining(params, images, out, tmp_path):
    return ['explain.py', images, '--params', params, '-o', out, '--html', out / 'page.html', '--json', out / 'f.json']


def predicting(params, images, out, tmp_path):
    return ['predict.py', images, '--params', params, '--json', out / 'p.json', '--csv', out / 'p.csv']


def plotting(params, images, out, tmp_path):
    runs = [tmp_path / 'one', tmp_path / 'two']
    for count, run in enumerate(runs):
        if not run.exists():
            history(run, 4 + count)
    return ['plot_history.py', *runs, '-o', out / 'x.png', '--html', out / 'x.html', '--json', out / 'x.json']


@pytest.mark.parametrize('command', [explaining, predicting, plotting])
def test_all_files_of_before_stay_as_they_were(command, digits_params, images, tmp_path, in_process):
    out = tmp_path / 'out'
    out.mkdir()
    line = command(digits_params, images, out, tmp_path)
    code, _, err = in_process(*line)
    assert code == 0, err
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert len(written) >= 2
    for path in out.iterdir():
        path.write_text('of before')
    with file_size_limit(max(map(len, written.values())) - 1):  # all files except the largest fit
        code, _, err = in_process(*line)
    assert code == 1
    assert 'error: cannot write ' in err
    assert 'larger than allowed' in err
    assert {path.name: path.read_text() for path in out.iterdir()} == dict.fromkeys(written, 'of before')
