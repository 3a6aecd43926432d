"""Scripts that write many files keep a second start of themselves out of the folder."""

import os

import pytest
from PIL import Image

from common.lock import alone


@pytest.fixture
def images(tmp_path):
    for name in ('cat', 'dog'):
        (tmp_path / 'images' / name).mkdir(parents=True)
        Image.new('RGB', (32, 32), 'red').save(tmp_path / 'images' / name / '0.png')
    return tmp_path / 'images'


def test_export(digits_params, tmp_path, in_process):
    with alone(tmp_path / 'exported', 'exporting'):
        code, _, err = in_process('export.py', '--params', digits_params, '-o', tmp_path / 'exported')
        assert os.listdir(tmp_path / 'exported') == ['.lock']
    assert (code, f'exported is in use: process {os.getpid()} is exporting there' in err) == (1, True), err


def test_make_recordio(images, tmp_path, in_process):
    with alone(tmp_path / 'rec', 'packing images', 'train.rec'):
        code, _, err = in_process('make_recordio.py', images, tmp_path / 'rec')
    assert (code, f'train.rec is in use: process {os.getpid()} is packing images there' in err) == (1, True), err
    with alone(tmp_path / 'rec', 'packing images', 'val.rec'):
        code, _, err = in_process('make_recordio.py', images, tmp_path / 'rec')
    assert code == 0, err
    assert not [name for name in os.listdir(tmp_path / 'rec') if name.endswith('lock')]
