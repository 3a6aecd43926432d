"""`pip install .`: what it installs, what it leaves to a second command, and that the result predicts by itself."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ('environment', 'common', 'kernels', 'model', 'data', 'inference', 'detection', 'training', 'params', 'recipes')
OTHERS = ('pyproject.toml', 'README.md', 'LICENSE', 'train_cifar.py', 'train_imagenet.py', 'train_detection.py')
BASE_PYTHON = getattr(sys, '_base_executable', sys.executable)
# Only what is in our own environment can be installed here; `setuptools` provides `distutils`.
OTHER_PACKAGES = 'import sys; sys.path.append({!r}); import _distutils_hack; _distutils_hack.add_shim()\n'
PREDICTS = """
import sys
from pathlib import Path
from model import get_model
from model.parameters import pretrained
from inference.network import load_network
run = pretrained.find_trained(get_model, 'cifar_se_resnet20_v2', {}, 'cifar10')
assert Path(sys.prefix) in run.path.parents, run.path
(found,) = load_network(run.path).predict([sys.argv[1]])
print(len(found.classes), sum(probability for _, probability in found.classes) > 0.5)
import recipes, training, train_cifar
"""


def files_of(folder):
    """Return the files that belong to the project, without what was compiled or packed."""
    found = set()
    for path in folder.rglob('*'):
        inside = path.relative_to(folder.parent).parts
        if path.is_file() and not {'__pycache__', 'built'} & set(inside):
            found.add('/'.join(inside))
    return found


def run(*command, **options):
    # Whatever the surroundings: no index, no settings, and only the environment's packages.
    kept = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH' and not k.startswith('PIP_')}
    variables = {**kept, 'PIP_NO_INDEX': '1', 'PIP_CONFIG_FILE': os.devnull, 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}
    done = subprocess.run([*map(str, command)], env=variables, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    if importlib.util.find_spec('wheel') is None or importlib.util.find_spec('setuptools') is None:
        pytest.skip('the package wheel is not installed')
    source = tmp_path_factory.mktemp('source')
    for name in OURS:
        shutil.copytree(str(ROOT / name), str(source / name), ignore=shutil.ignore_patterns('__pycache__', 'built'))
    for name in OTHERS:
        shutil.copy(str(ROOT / name), str(source))
    place = tmp_path_factory.mktemp('wheel')
    given = ['--no-deps', '--no-build-isolation', '-w', place]
    run(sys.executable, '-m', 'pip', 'wheel', *given, source)
    (path,) = place.glob('*.whl')
    return path


@pytest.mark.heavy
def test_the_wheel_has_the_packages_the_trained_networks_and_the_recipes(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if '.dist-info/' not in name}
    wanted = set().union(*(files_of(ROOT / name) for name in OURS)) | {name for name in OTHERS if name.endswith('.py')}
    assert names == wanted


@pytest.mark.heavy
def test_what_pip_resolves_has_one_opencv_and_no_numpy_that_the_python_lacks(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        lines = archive.read(name).decode().splitlines()
    wanted = [line.partition(': ')[2] for line in lines if line.startswith('Requires-Dist: ')]
    always = [line.split(';')[0] for line in wanted if 'extra ==' not in line]
    assert [line for line in always if line.startswith('opencv')] == ['opencv-python-headless<4.12,>=4.8']
    # Their metadata require another OpenCV, and a NumPy that does not exist for Python 3.13.
    assert not [line for line in always if line.startswith(('mxnet', 'gluoncv'))]
    assert sum('nodeps' in line for line in wanted) == 2


@pytest.mark.heavy
def test_an_empty_environment_with_the_wheel_predicts(wheel, tmp_path):
    environment = tmp_path / 'environment'
    run(BASE_PYTHON, '-m', 'venv', environment)
    python = environment / 'bin' / 'python'
    run(python, '-m', 'pip', 'install', '--no-deps', wheel)
    empty = {'cwd': tmp_path, 'capture_output': True, 'text': True, 'env': {'PATH': os.environ['PATH']}}
    done = subprocess.run([str(python), '-c', 'import environment; environment.require_mxnet()'], **empty)
    assert done.returncode == 1
    assert 'has no package numpy; run: ' in done.stderr
    assert f'{python} -m pip install ' in done.stderr
    assert "'numpy==1.23.5; python_version < " in done.stderr
    site = Path(run(python, '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))').strip())
    (site / 'others.pth').write_text(OTHER_PACKAGES.format(sysconfig.get_path('purelib')))
    image = ROOT / 'params' / 'curves.png'
    assert run(python, '-W', 'ignore', '-c', PREDICTS, image, cwd=tmp_path) == '5 True\n'
    command = 'from environment.health import missing; print(missing("mxnet"))'
    told = f"has no package mxnet; run: {python} -m pip install --no-deps 'mxnet==1.9.1' 'gluoncv==0.10.5.post0'\n"
    assert run(python, '-c', command, cwd=tmp_path) == f'{python} {told}'
