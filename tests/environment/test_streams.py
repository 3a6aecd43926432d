"""Entry points with standard streams that are closed or not open for writing."""

import ast
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train_cifar.runs import BASE

ROOT = Path(__file__).resolve().parents[2]
BEFORE = set('__future__ argparse ctypes os pathlib platform shutil statistics subprocess sys tempfile typing'.split())
ENTRY_POINTS = [*ROOT.glob('train_*.py'), *ROOT.glob('scripts/[!_]*.py'), ROOT / 'kernels' / 'build.py']
CLOSED = ['>&-', '2>&-', '<&-', '>&- 2>&-', '<&- >&- 2>&-', '>&- 2>&- <&-']


def shell(command, redirections):
    line = f'{shlex.quote(sys.executable)} {command} {redirections}'
    return subprocess.run(line, shell=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize('redirections', CLOSED)
def test_help(redirections):
    done = shell('train_cifar.py --help', redirections)
    assert (done.returncode, done.stderr) == (0, '')
    assert ('usage' in done.stdout) == ('>&-' not in redirections.split())


@pytest.mark.parametrize('redirections', CLOSED)
def test_what_is_printed_goes_nowhere_and_into_no_file(tmp_path, redirections):
    code = 'import environment, os, sys; file = open(sys.argv[1], "w"); file.write("content\\n"); print("printed"); '
    code += 'print("an error", file=sys.stderr); os.system("echo shell; echo error >&2"); sys.stdin.read()'
    done = shell(f'-c {shlex.quote(code)} {tmp_path}/file', f'</dev/null {redirections}')
    assert done.returncode == 0
    assert (tmp_path / 'file').read_text() == 'content\n'


def test_training(tmp_path):
    done = shell(f'train_cifar.py {BASE} --save-dir {tmp_path}/run', '<&- >&- 2>&-')
    assert done.returncode == 0
    assert 'best Acc' in (tmp_path / 'run' / 'train.log').read_text()


def test_stdout_that_is_not_for_writing():
    code = 'import environment; environment.run_main(lambda: print("text"))'
    done = shell(f'-c {shlex.quote(code)}', f'1<{os.devnull}')
    said = 'error: cannot write the output: it is not open for that; redirect it to a file or a terminal\n'
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize('command', ['train_cifar.py --help', 'scripts/predict.py', 'scripts/doctor.py'])
def test_python_without_docstrings_cannot_run_mxnet(command):
    done = shell(f'-OO {command}', '')
    assert (done.returncode, done.stdout) == (1, '')
    assert done.stderr.startswith('error: python -OO (or PYTHONOPTIMIZE=2) leaves out docstrings')
    assert done.stderr.count('\n') == 1
    assert shell('-O -c "import environment"', '').returncode == 0


@pytest.mark.parametrize(
    'command', ['train_cifar.py --model cifar_resnet8_v2 --dataset digits', 'scripts/predict.py --params x y']
)
def test_too_few_addresses_are_told(command):
    line = f'ulimit -v 1000000; {shlex.quote(sys.executable)} {command}'
    done = subprocess.run(line, shell=True, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = 'error: the address space of a process is limited to 976 MB here, and MXNet needs 2048; run: ulimit -v '
    said += 'unlimited\n'
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize('path', ENTRY_POINTS, ids=lambda path: path.name)
def test_every_entry_point_prepares_its_streams_first_and_ends_in_the_frame(path):
    body = [node for node in ast.parse(path.read_text()).body if not isinstance(node, ast.Expr)]
    imported = [name for node in body if isinstance(node, (ast.Import, ast.ImportFrom)) for name in names(node)]
    assert next(name for name in imported if name not in BEFORE) in ('environment', '_bootstrap')
    assert 'run_main(main)' in path.read_text()


def names(node):
    return [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
