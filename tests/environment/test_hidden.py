"""If a user's file has the name of one of our packages, the import error says so."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from environment import hidden
from environment.import_hook import PACKAGES

ROOT = Path(__file__).resolve().parents[2]
NEEDS = {
    'kernels': (),
    'model': ('kernels',),
    'data': (),
    'inference': ('kernels', 'model', 'data'),
    'detection': ('kernels', 'model', 'data', 'inference', 'training'),
    'training': ('kernels', 'model', 'data'),
}
IMPORTS = """
import sys
for name in sys.argv[1].split(','):
    try:
        __import__(name)
    except ImportError as error:
        print(error)
"""


def python(folder, *arguments):
    """Run Python as for a script in `folder`: files there come before our packages."""
    variables = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, '-W', 'ignore', *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True)


def hide(folder, name, as_folder):
    if not as_folder:
        (folder / f'{name}.py').write_text('VALUE = 1\n')
        return folder / f'{name}.py'
    (folder / name).mkdir()
    (folder / name / '__init__.py').write_text('VALUE = 1\n')
    return folder / name


@pytest.mark.parametrize(
    ('name', 'as_folder'),
    [('environment', False), ('kernels', True), ('model', False), ('inference', True), ('detection', False)],
)
def test_whatever_needs_a_hidden_package_says_what_hides_it(name, as_folder, tmp_path):
    place = hide(tmp_path, name, as_folder)
    users = [user for user, needs in NEEDS.items() if name in ('environment', *needs)]
    done = python(tmp_path, '-c', IMPORTS, ','.join(users))
    lines = done.stdout.splitlines()
    assert len(lines) == len(users), done
    told = f'{place} hides the package {name} of'
    assert all(line.startswith(told) for line in lines), lines


@pytest.mark.parametrize('package', NEEDS)
def test_each_package_checks_all_that_it_imports(package):
    """All of them are named where its `__init__` calls `need`, and in the table here."""
    found = set()
    for path in (ROOT / package).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ''] if isinstance(node, ast.ImportFrom) and not node.level else []
            found.update(name.partition('.')[0] for name in names)
    assert found & set(PACKAGES) - {package, 'environment', 'common'} <= set(NEEDS[package])
    text = (ROOT / package / '__init__.py').read_text()
    assert not NEEDS[package] or f'environment.need({", ".join(map(repr, NEEDS[package]))})' in text


@pytest.mark.parametrize(
    ('name', 'as_folder', 'line'),
    [
        ('model', False, 'from model import get_model'),
        ('model', True, 'import model.zoo'),
        ('training', True, 'from training.evaluate import evaluate'),
        ('inference', False, 'from inference.network import load_network'),
    ],
)
def test_the_users_own_import_of_a_hidden_package_is_explained(name, as_folder, line, tmp_path):
    place = hide(tmp_path, name, as_folder)
    script = tmp_path / 'script.py'
    script.write_text(f'import environment\n{line}\n')
    last = python(tmp_path, script).stderr.splitlines()[-1]
    assert 'Error: ' in last
    assert f'; {place} hides the package {name} of attention-networks' in last


def test_other_errors_and_other_files_are_left_alone(tmp_path):
    (tmp_path / 'kernels').mkdir()  # without an __init__.py it hides nothing
    script = tmp_path / 'script.py'
    script.write_text('import environment, kernels\nimport kernels.absent\n')
    last = python(tmp_path, script).stderr.splitlines()[-1]
    assert last == "ModuleNotFoundError: No module named 'kernels.absent'"
    assert [hidden.hides(name) for name in PACKAGES] == [None] * len(PACKAGES)


def test_mxnet_that_is_not_installed_is_told_with_the_command(tmp_path):
    (tmp_path / 'numpy.py').write_text('__version__ = "1.23.5"\n')
    (tmp_path / 'script.py').write_text('import environment\nimport mxnet\n')
    last = python(tmp_path, '-S', tmp_path / 'script.py').stderr.splitlines()[-1]
    assert last.startswith(f'ModuleNotFoundError: {sys.executable} has no package mxnet; run: ')
