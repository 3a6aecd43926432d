"""The examples run, with the results that they state."""

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.photos import write_photos
from tools.make_notebook import CELLS, run

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / 'examples'
PARAMS = ROOT / 'params' / 'cifar10' / 'cifar_se_resnet20_v2' / 'seed-0.params'


def example(name, *arguments, cwd):
    """Return what an example prints."""
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


@pytest.mark.heavy
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
    assert (tmp_path / 'runs' / 'finetuned' / 'best.params').exists()


def test_fine_tuning_needs_parameters_to_start_from(tmp_path):
    with pytest.raises(
        AssertionError, match='--model mobilenet_v2: there are no trained parameters .* cifar_se_resnet20_v2'
    ):
        example('finetune_on_a_folder.py', '--model', 'mobilenet_v2', cwd=tmp_path)


def test_a_served_network_is_asked(monkeypatch, capsys):
    pytest.importorskip('uvicorn', reason='uvicorn is not installed (bash scripts/setup.sh --serve)')
    monkeypatch.syspath_prepend(str(EXAMPLES))
    serve = importlib.import_module('serve_a_network')
    assert serve.main([]) == 0
    out = capsys.readouterr().out
    assert re.search(r'^cifar_se_resnet20_v2 answers at http://127\.0\.0\.1:\d+$', out, re.M)
    assert len(re.findall(r'^(?:china|flower)\.jpg: (?:\w+ \d+ %(?:, )?){3}$', out, re.M)) == 2
    assert '2 requests answered: 2 with 200' in out


def test_the_notebook_has_run_and_runs(tmp_path, monkeypatch):
    content = json.loads((EXAMPLES / 'explain_and_compare.ipynb').read_text(encoding='utf-8'))
    sources = [''.join(cell['source']) for cell in content['cells']]
    assert sources == [source for source in CELLS if source]
    code = [cell for cell in content['cells'] if cell['cell_type'] == 'code']
    monkeypatch.chdir(tmp_path)  # examples run in any folder
    names = {}
    for cell in code:
        found = [sorted(output.get('data', [output.get('name')])) for output in run(''.join(cell['source']), names)]
        assert found == [sorted(output.get('data', [output.get('name')])) for output in cell['outputs']]
        assert found
    assert sum('image/png' in output.get('data', ()) for cell in code for output in cell['outputs']) == 4
