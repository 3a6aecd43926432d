"""The examples run, and find what they say."""

import json
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from inference.export import export
from inference.network import load_network
from tests.photos import write_photos
from tools.make_notebook import CELLS, run

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / 'examples'
PARAMS = ROOT / 'params' / 'cifar10' / 'cifar_se_resnet14_v2' / 'seed-0.params'


def example(name, *arguments, cwd):
    """What an example prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        env={**os.environ, 'PYTHONPATH': str(ROOT)},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_each_is_in_the_list():
    page = (EXAMPLES / 'README.md').read_text(encoding='utf-8')
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in ('.py', '.ipynb')}
    assert set(re.findall(r'\]\((\w+\.\w+)\)', page)) == files


@pytest.mark.slow
def test_a_composed_unit_learns(tmp_path):
    out = example('compose_a_unit.py', '--epochs', 2, cwd=tmp_path)
    assert 'cifar_dca_std_resnet8_v2: 81,120 parameters' in out
    found = [float(top1) for top1 in re.findall(r'epoch \d: ([\d.]+) %', out)]
    assert len(found) == 2
    assert found[-1] > 50


@pytest.mark.slow
def test_fine_tuning_learns(tmp_path):
    write_photos(tmp_path / 'photos', 60)
    out = example('finetune_on_a_folder.py', 'photos', '--epochs', 2, cwd=tmp_path)
    assert len(re.findall(r'\.jpg: (?:circles|lines|squares) \(\d+ %\)$', out, re.M)) == 3
    assert list((tmp_path / 'runs' / 'finetuned').glob('*-best.params'))


def test_fine_tuning_needs_parameters_to_start_from(tmp_path):
    with pytest.raises(AssertionError, match='--model mobilenet_v2: there are no parameters .* cifar_se_resnet14_v2'):
        example('finetune_on_a_folder.py', '--model', 'mobilenet_v2', cwd=tmp_path)


def test_the_notebook_has_run_and_runs(tmp_path, monkeypatch):
    content = json.loads((EXAMPLES / 'explain_and_compare.ipynb').read_text(encoding='utf-8'))
    sources = [''.join(cell['source']) for cell in content['cells']]
    assert sources == [source for source in CELLS if source]
    code = [cell for cell in content['cells'] if cell['cell_type'] == 'code']
    monkeypatch.chdir(tmp_path)  # it runs in any folder
    names = {}
    for cell in code:
        found = [sorted(output.get('data', [output.get('name')])) for output in run(''.join(cell['source']), names)]
        assert found == [sorted(output.get('data', [output.get('name')])) for output in cell['outputs']]
        assert found
    assert sum('image/png' in output.get('data', ()) for cell in code for output in cell['outputs']) == 4


@pytest.fixture(scope='module')
def shipped(tmp_path_factory):
    folder = tmp_path_factory.mktemp('shipped') / 'network'
    network = load_network(PARAMS)
    import numpy as np

    export(network, folder, np.zeros((2, 3, 32, 32), 'float32'), kinds=['mxnet'])
    return folder


def test_serving_answers_as_prediction_does(shipped, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import serve

    write_photos(tmp_path / 'photos', 3)
    image = next((tmp_path / 'photos').rglob('*.jpg'))
    server = serve.make_server(str(shipped), 0, top=3)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        url = f'http://localhost:{server.server_port}/'
        with urllib.request.urlopen(urllib.request.Request(url, data=image.read_bytes())) as reply:
            served = json.load(reply)
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, data=b'no image'))
        assert refused.value.code == 400
        assert 'the image' in json.load(refused.value)['error']
        refused.value.close()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    (expected,) = load_network(PARAMS).predict([image], top=3)
    assert list(served) == [name for name, _ in expected.classes]
    assert list(served.values()) == pytest.approx([probability for _, probability in expected.classes], abs=1e-4)
