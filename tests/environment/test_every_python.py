"""MXNet and GluonCV on every Python from 3.8 to 3.13 that this machine has, each with the NumPy of its lock.

The environments are kept in the user's cache folder, by the content of the lock, so that only the first run installs.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
# What `exercise.py` imports, directly or not; the rest of the lock would double the time.
NEEDED = (
    'certifi charset-normalizer gluoncv idna mxnet numpy opencv-python-headless pillow portalocker requests scipy'
    ' setuptools tqdm urllib3 matplotlib contourpy cycler fonttools kiwisolver packaging pyparsing python-dateutil six'
).split()


def find_pythons():
    """Return {version: path of an interpreter}, from PATH and from pyenv."""
    found = {}
    pyenv = Path(os.environ.get('PYENV_ROOT') or Path.home() / '.pyenv')
    for version in (f'3.{minor}' for minor in range(8, 14)):
        candidates = [
            shutil.which(f'python{version}'),
            *map(str, sorted(pyenv.glob(f'versions/{version}.*/bin/python'))),
        ]
        for candidate in filter(None, candidates):
            ask = [candidate, '-c', 'import sys, venv, ensurepip; print("%d.%d" % sys.version_info[:2])']
            done = subprocess.run(ask, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            if done.stdout.strip() == version:
                found.setdefault(version, candidate)
    return found


PYTHONS = find_pythons()


def requirements(version):
    """Return the part of a lock that is needed, with its hashes."""
    lock = (ROOT / 'locks' / f'py{version.replace(".", "")}.txt').read_text()
    blocks = re.split(r'\n(?=[a-z])', lock.strip())
    kept = [block for block in blocks if block.partition('==')[0] in NEEDED]
    assert {'mxnet', 'numpy', 'gluoncv'} <= {block.partition('==')[0] for block in kept}
    return '\n'.join(kept) + '\n'


def environment_for(version):
    """Return an interpreter with the needed part of its lock installed, from the cache if it is there."""
    text = requirements(version)
    key = hashlib.sha256((text + PYTHONS[version]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache') / 'attention-networks' / 'tests'
    folder = cache / f'python{version}-{key}'
    if not (folder / 'complete').exists():
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([PYTHONS[version], '-m', 'venv', str(folder)], check=True)
        (folder / 'requirements.txt').write_text(text)
        install = (
            '-m pip install --quiet --quiet --no-deps --no-compile --disable-pip-version-check --require-hashes -r'
        )
        command = [str(folder / 'bin' / 'python'), *install.split(), str(folder / 'requirements.txt')]
        subprocess.run(command, check=True)
        (folder / 'complete').touch()
    return folder / 'bin' / 'python'


def test_the_running_python_is_among_them():
    assert '.'.join(map(str, sys.version_info[:2])) in PYTHONS


@pytest.mark.slow
@pytest.mark.parametrize('version', PYTHONS)
def test_mxnet_works(version, tmp_path):
    variables = {**os.environ, 'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'agg'}
    command = [str(environment_for(version)), str(ROOT / 'tests' / 'environment' / 'exercise.py')]
    done = subprocess.run(
        command, cwd=str(tmp_path), env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr
    # MXNet's engine logs lines that begin with a time; no warning may reach the user.
    noise = [line for line in done.stderr.splitlines() if not re.match(r'\[\d\d:\d\d:\d\d\] ', line)]
    assert noise == []
    result = json.loads(done.stdout.splitlines()[-1])
    assert result['losses'][1] < result['losses'][0]
