"""The README's tables are what the networks and the manifests say."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = [sys.executable, str(ROOT / 'scripts' / 'model_table.py')]
MARKERS = '<!-- table: {} --> <!-- end of table -->\n'


def run(*arguments):
    return subprocess.run([*SCRIPT, *map(str, arguments)], capture_output=True, text=True)


def test_the_readme_is_up_to_date():
    done = run('--check', ROOT / 'README.md')
    assert done.returncode == 0, done.stderr


def test_update_then_check(tmp_path):
    page = tmp_path / 'page.md'
    page.write_text(f'before\n{MARKERS.format("networks")}between\n{MARKERS.format("trained")}after\n')
    stale = run('--check', page, 'cifar_resnet8_v2')
    assert stale.returncode == 1
    assert 'out of date' in stale.stderr
    assert run('--update', page, 'cifar_resnet8_v2', '--json', tmp_path / 'rows.json').returncode == 0
    assert run('--check', page, 'cifar_resnet8_v2').returncode == 0
    text = page.read_text()
    assert '| `cifar_resnet8_v2` | 32 | 77,850 | 12.5 M | 89.5 % (cifar10) |' in text
    assert text.startswith('before\n')
    assert text.endswith('after\n')
    rows = json.loads((tmp_path / 'rows.json').read_text())
    assert [row['params'] for row in rows['networks']] == [77_850]
    assert all(len(row['sha256']) == 64 for row in rows['trained'])


def test_prints_what_matches():
    done = run('atac_resnet50_v1b')
    assert done.returncode == 0
    assert '| `atac_resnet50_v1b` | 224 | 27,934,760 | 4,397.5 M | 78.59 % (imagenet) |' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (['no_such_*'], ['no_such_*', 'list_models']),
        (['--check', 'missing.md', 'cifar_resnet8_v2'], ['missing.md', 'no such file']),
    ],
)
def test_mistakes_are_told_in_one_sentence(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1
    for word in words:
        assert word in done.stderr


def test_markers_that_are_missing(tmp_path):
    (tmp_path / 'page.md').write_text('no markers')
    done = run('--update', tmp_path / 'page.md', 'cifar_resnet8_v2')
    assert done.returncode == 1
    assert "table 'networks'" in done.stderr
