"""tools/score_trained.py: damage by its definition, figures of a network, the table and the picture."""

import importlib.util
import json
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from data.classification.by_name import load_dataset
from environment import UsageError
from environment.cpu import lacks
from inference.network import load_network

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    spec = importlib.util.spec_from_file_location('score_trained_tool', ROOT / 'tools' / 'score_trained.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_damage(tool):
    damaged = sys.modules['_damage'].damaged
    images = np.full((2, 32, 32, 3), (100, 50, 200), dtype=np.uint8)
    images[:, :16] = (0, 0, 0)
    noisy = damaged(images, 'noise').astype(float)
    assert (damaged(images, 'noise') == noisy).all()  # drawn from a seed
    assert np.std(noisy[:, 16:, :, :2] - images[:, 16:, :, :2]) == pytest.approx(0.08 * 255, rel=0.05)
    assert damaged(images, 'contrast')[0, 20, 0].tolist() == [70, 35, 140]  # 0.4 of the way from the mean
    # The value 200 rises by 0.15 * 255; hue and saturation remain. Black becomes grey.
    assert damaged(images, 'brightness')[0, 20, 0].tolist() == [119, 60, 238]
    assert damaged(images, 'brightness')[0, 0, 0].tolist() == [38, 38, 38]
    blurred = damaged(images, 'blur')
    assert 0 < blurred[0, 15, 0, 0] < blurred[0, 16, 0, 0] < 100
    assert blurred[0, 25, 0].tolist() == [100, 50, 200]
    assert 0 < np.abs(damaged(images, 'JPEG').astype(int) - images).max() < 60


def test_the_calibration_error_by_hand(tool):
    # Two bins: 0.9 sure and right in 1 of 2; 0.6 sure and right in 2 of 2.
    sure = np.log([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]])
    scored = tool.Scored(sure, np.array([0, 1, 0, 0]))
    assert scored.top1 == 0.75
    assert scored.calibration_error == pytest.approx(0.5 * 0.4 + 0.5 * 0.4)


@pytest.mark.heavy
def test_a_network_is_scored_listed_and_drawn(tool, digits_params, tmp_path):
    scores, page, picture = tmp_path / 'scores.json', tmp_path / 'page.md', tmp_path / 'a.svg'
    flags = ['--dataset', 'digits', '--limit', '60', '--repeats', '1', '-o', str(scores)]
    tool.main([str(digits_params), *flags, '--draw', str(picture)])
    (row,) = json.loads(scores.read_text())['rows']
    expected = {precision for precision in ('float32', 'bfloat16', 'int8') if not lacks(precision)}
    assert row['top1'].keys() == row['milliseconds'].keys() == expected - row['refused'].keys()
    network, test = load_network(str(digits_params)), load_dataset('digits', 'test').limited(60)
    logits = network.net(mx.nd.array(network.preprocessing.batch(test.images))).asnumpy()
    assert row['top1']['float32'] == (logits.argmax(axis=1) == test.labels).mean()
    assert row['damaged'].keys() == {'noise', 'blur', 'contrast', 'brightness', 'JPEG'}
    page.write_text('<!-- table: scores -->\n<!-- end of table -->\n')
    tool.main(['--scores', str(scores), '--update', str(page)])
    assert f'| `{row["network"]}` | {100 * row["top1"]["float32"]:.2f} |' in page.read_text()
    assert row['network'] in picture.read_text()


@pytest.mark.parametrize(
    ('argv', 'told'),
    [
        ([], 'nothing to do'),
        (['--dataset', 'digits'], 'belong together'),
        (['--update', 'a', '--check', 'b'], 'both given'),
        (['--name', 'nowhere', '--dataset', 'digits', '-o', 'x.json'], 'there are no parameters in'),
    ],
)
def test_what_it_is_not_asked(tool, tmp_path, monkeypatch, argv, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=told):
        tool.main(argv)
