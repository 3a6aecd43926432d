"""An unusable installation is reported in one line with the command that repairs it, by a real process in it."""

import ast
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from environment import health

ROOT = Path(__file__).resolve().parent.parent.parent
GOOD_NUMPY = "__version__ = '1.23.5'\n"
ENTRIES = {
    'require': 'import environment; environment.require_mxnet()',
    'run_main': 'import environment\ndef main(): import mxnet; mxnet.nd\nenvironment.run_main(main)',
}
SCRIPTS = [*ROOT.glob('train_*.py'), *ROOT.glob('scripts/[!_]*.py')]  # what users start


@pytest.fixture
def setup(tmp_path):
    """Return the command that sets up the copy of the project that `run` uses, which has no .venv."""
    for package in ('environment', 'common'):
        shutil.copytree(ROOT / package, tmp_path / package)
    return f'bash {tmp_path / "scripts" / "setup.sh"}'


def run(tmp_path, entry, **packages):
    """Run an entry point with only these packages installed."""
    for name, text in packages.items():
        (tmp_path / f'{name}.py').write_text(text)
    environment = {**os.environ, 'PYTHONPATH': str(tmp_path)}
    command = [sys.executable, '-S', '-c', ENTRIES[entry]]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 1
    assert done.stderr.count('\n') == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize('entry', ENTRIES)
class TestOneLine:
    def test_nothing_installed(self, tmp_path, entry, setup):
        line = run(tmp_path, entry)
        assert f'error: {sys.executable} has no package numpy; run: ' in line

    def test_no_mxnet(self, tmp_path, entry, setup):
        assert 'has no package mxnet; run: ' in run(tmp_path, entry, numpy=GOOD_NUMPY)

    def test_broken_numpy(self, tmp_path, entry, setup):
        line = run(tmp_path, entry, numpy='raise ImportError("libopenblas is gone\\nand more")')
        assert line == f'error: NumPy does not start (libopenblas is gone); run: {setup} --fresh\n'

    def test_empty_numpy(self, tmp_path, entry, setup):
        assert f'run: {setup} --fresh' in run(tmp_path, entry, numpy='')

    def test_numpy_too_new(self, tmp_path, entry, setup):
        line = run(tmp_path, entry, numpy="__version__ = '2.4.0'\n", mxnet='raise AttributeError("numpy")')
        what = 'NumPy 2.4.0 is too new for MXNet 1.9.1, which needs a version below 2.3'
        assert line == f'error: {what}; run: {setup} --fresh\n'

    def test_broken_library(self, tmp_path, entry, setup):
        line = run(tmp_path, entry, numpy=GOOD_NUMPY, mxnet='raise OSError("libgfortran.so.3: no such file")')
        assert line == f'error: MXNet does not start (libgfortran.so.3: no such file); run: {setup} --fresh\n'

    def test_cuda_build_without_a_driver(self, tmp_path, entry, setup):
        line = run(tmp_path, entry, numpy=GOOD_NUMPY, mxnet='raise OSError("libcuda.so.1: cannot open")')
        assert line.endswith(f'finds no NVIDIA driver (libcuda.so.1); run: {setup} --cpu\n')

    def test_attribute_error_from_inside_mxnet(self, tmp_path, entry, setup):
        line = run(tmp_path, entry, numpy=GOOD_NUMPY, mxnet='import numpy; numpy.nonsense')
        assert 'MXNet does not start' in line
        assert 'nonsense' in line


def test_missing_dependency_of_mxnet(tmp_path, setup):
    line = run(tmp_path, 'require', numpy=GOOD_NUMPY, mxnet='import requests')
    assert 'has no package requests; run: ' in line


@pytest.mark.parametrize(('version', 'fine'), [((3, 7), False), ((3, 8), True), ((3, 13), True), ((3, 14), False)])
def test_python_versions(monkeypatch, version, fine):
    monkeypatch.setattr(sys, 'version_info', (*version, 0, 'final', 0))
    problem = health.check_python()
    assert (problem is None) == fine
    assert fine or 'needs Python 3.8 to 3.13' in str(problem)


@pytest.mark.parametrize(
    ('system', 'machine', 'fine'),
    [
        ('Linux', 'x86_64', True),
        ('Darwin', 'x86_64', True),
        ('Linux', 'aarch64', False),
        ('Darwin', 'arm64', False),
        ('Windows', 'AMD64', False),
    ],
)
def test_platforms(monkeypatch, system, machine, fine):
    monkeypatch.setattr(platform, 'system', lambda: system)
    monkeypatch.setattr(platform, 'machine', lambda: machine)
    problem = health.check_platform()
    assert (problem is None) == fine
    assert fine or f'{system} {machine}' in problem.what


def test_a_sound_set_up_has_no_problem():
    assert health.problem() is None


def test_outside_an_existing_environment_the_way_in_is_named(tmp_path, monkeypatch):
    activate = tmp_path / '.venv' / 'bin' / 'activate'
    activate.parent.mkdir(parents=True)
    activate.touch()
    monkeypatch.setattr(health, 'ROOT', tmp_path)
    assert health.mend() == f'source {activate}'
    # Recreating .venv would not change this Python; a package that is added to .venv is there once it is activated.
    assert health.mend(' --fresh') == health.mend(' --cpu') == health.mend(' --gpu --fresh') == health.mend()
    assert health.mend(' --onnx') == f'bash {tmp_path / "scripts" / "setup.sh"} --onnx'
    monkeypatch.setattr(sys, 'prefix', str(tmp_path / '.venv'))
    assert health.mend() == f'bash {tmp_path / "scripts" / "setup.sh"}'
    assert health.mend(' --fresh') == f'bash {tmp_path / "scripts" / "setup.sh"} --fresh'


@pytest.mark.parametrize('script', SCRIPTS, ids=lambda path: path.name)
class TestScripts:
    def test_without_any_package(self, script):
        """The script prints help, or the sentence that says what is missing."""
        command = [sys.executable, '-S', '-E', str(script), '--help']
        done = subprocess.run(command, cwd='/', stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            assert (done.stdout[:6], done.stderr) == ('usage:', '')
        else:
            assert done.stderr.startswith(f'error: {sys.executable} has no package '), done.stderr
            assert done.stderr.count('\n') == 1, done.stderr

    def test_older_pythons_can_read_it(self, script):
        """They can parse it, and so get as far as the sentence that Python 3.8 is needed."""
        first = ('environment/__init__.py', 'environment/health.py', 'common/__init__.py', 'common/errors.py')
        for path in (script, *(ROOT / name for name in first)):
            tree = ast.parse(path.read_text(), feature_version=(3, 6))
            assert not [node for node in tree.body if getattr(node, 'module', '') == '__future__'], path


@pytest.mark.parametrize('version', ['3.6', '3.7'])
@pytest.mark.parametrize('script', ['train_cifar.py', 'scripts/doctor.py', 'scripts/validate.py'])
def test_an_older_python_is_told_so(version, script):
    pyenv = Path(os.environ.get('PYENV_ROOT') or Path.home() / '.pyenv')
    found = [*sorted(pyenv.glob(f'versions/{version}.*/bin/python')), Path('/usr/bin', f'python{version}')]
    old = next(filter(Path.exists, found), None)
    if old is None:
        pytest.skip(f'there is no Python {version}')
    done = subprocess.run([str(old), str(ROOT / script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f'error: Python {version}.'), done.stderr
    assert 'cannot run this project, which needs Python 3.8 to 3.13; run: ' in done.stderr
    assert done.stderr.count('\n') == 1
