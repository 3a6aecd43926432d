"""quickstart.sh from set-up to its last line, with this Python in place of a new .venv."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

from tests.scripts.conftest import ROOT

# Stands in for setup.sh without downloads: a .venv whose Python is the one that runs the tests.
STAND_IN = """
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
echo "setup $*" >> "$root/setup.log"
mkdir -p "$root/.venv/bin"
printf '#!/bin/sh\\nexec "%s" "$@"\\n' "$TEST_PYTHON" > "$root/.venv/bin/python"
chmod +x "$root/.venv/bin/python"
"""


@pytest.fixture
def clone(tmp_path):
    root = tmp_path / 'clone'
    packages = ('environment', 'common', 'kernels', 'model', 'data', 'training', 'inference', 'detection')
    for folder in (*packages, 'scripts', 'tools'):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'train_cifar.py', root)
    (root / 'scripts' / 'setup.sh').write_text(STAND_IN)
    return root


def quickstart(root, *arguments):
    process = subprocess.Popen(
        ['bash', str(root / 'scripts' / 'quickstart.sh'), *arguments],
        cwd=root.parent,
        env={**os.environ, 'TEST_PYTHON': sys.executable},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=900)
    finally:
        if process.poll() is None:  # along with the training that the shell has started
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return process.returncode, out, err


@pytest.mark.heavy
def test_the_main_job(clone):
    status, out, err = quickstart(clone, '--cpu')
    assert status == 0, err[-2000:]
    assert (clone / 'setup.log').read_text() == 'setup --cpu\n'
    run = clone / 'runs' / 'quickstart'
    result, validation = (json.loads((run / name).read_text()) for name in ('result.json', 'validation.json'))
    assert validation['top1'] == result['top1'] > 0.97
    assert validation['count'] == 355
    modes = [row['mode'] for row in json.loads((run / 'speed.json').read_text())['rows']]
    assert modes == ['imperative', 'hybrid', 'static', 'optimized']
    assert len(list(csv.DictReader((run / 'history.csv').read_text().splitlines()))) == 15
    with Image.open(run / 'curves.png') as picture:
        assert picture.size[0] > 500
    for line in (result['params'], 'runs/quickstart/curves.png', 'runs/quickstart/history.csv'):
        assert line in out
        assert (clone / line).is_file()


def test_a_failing_set_up_ends_it(clone):
    (clone / 'scripts' / 'setup.sh').write_text('echo "error: no Python" >&2; exit 1')
    status, _, err = quickstart(clone)
    assert status == 1
    assert err == 'error: no Python\n'
    assert not (clone / 'runs').exists()
