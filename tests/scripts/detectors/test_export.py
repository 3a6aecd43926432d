"""scripts/export.py on a detector."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.detection.data import NAMES

from .conftest import SMALL


def test_export_writes_a_detector_that_finds_the_same(params, detector, data, tmp_path, in_process):
    figures = tmp_path / 'proof.json'
    images = data / 'val'
    given = ['--params', params, '-o', tmp_path / 'out', '--images', images, '--limit', 2, '--json', figures]
    code, out, err = in_process('export.py', *given)
    assert code == 0, err
    proof = json.loads(figures.read_text())
    assert proof['images'] == 2
    assert proof['boxes'] > 0
    assert f'of {proof["boxes"]} boxes on 2 images' in out
    assert {file.name for file in (tmp_path / 'out').iterdir()} == {
        'detector-symbol.json',
        'detector-0000.params',
        'export.json',
        'load.py',
        'params_format.py',
        'portable_files.py',
    }
    info = json.loads((tmp_path / 'out' / 'export.json').read_text())
    assert info['class_names'] == list(NAMES)
    assert info['preprocessing'] == SMALL.to_dict()
    for script, given in (
        ('explain.py', ['--params', params, 'a.png', '--output', tmp_path / 'no']),
        ('benchmark.py', ['--params', params]),
    ):
        code, _, err = in_process(script, *given)
        assert (code, err.count('\n')) == (1, 1), err
        assert 'detection; give ' in err


def test_an_export_on_which_nothing_was_compared_says_so(params, tmp_path, in_process):
    black = tmp_path / 'black.png'
    Image.fromarray(np.zeros((48, 48, 3), np.uint8)).save(black)
    path = tmp_path / 'strict.params'
    path.write_bytes(Path(params).read_bytes())
    manifest = json.loads(Path(params).with_suffix('.json').read_text())
    manifest['model_kwargs']['score_threshold'] = 1.0
    path.with_suffix('.json').write_text(json.dumps(manifest))
    code, out, err = in_process('export.py', '--params', path, '-o', tmp_path / 'out', '--images', black)
    assert code == 0, err
    assert 'of 0 boxes' in out
    assert (
        err == 'nothing was compared, because there were no boxes: give --images with objects that the detector finds\n'
    )


@pytest.mark.parametrize(
    ('given', 'sentence'),
    [
        (
            ['--kinds', 'mxnet,torch'],
            "--kinds has 'torch', which retinanet_resnet18_v1b cannot have; allowed: mxnet, onnx, openvino",
        ),
        (['--canvas', '64,64'], '--canvas is for onnx and openvino, and --kinds names neither'),
        (['--kinds', 'onnx', '--canvas', '60,64'], 'give two multiples of 32'),
        (['--precision', 'int8'], '--precision is for classifiers'),
        (['--batch-size', '4'], '--batch-size is for classifiers'),
    ],
)
def test_export_names_flags_that_say_nothing_of_a_detector(given, sentence, params, tmp_path, in_process):
    code, _, err = in_process('export.py', '--params', params, '-o', tmp_path / 'out', *given)
    assert (code, sentence in err, err.count('\n')) == (2, True, 1), err
    assert not (tmp_path / 'out').exists()
