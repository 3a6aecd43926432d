"""Compiling the kernels: once for each machine and MXNet, never required, and never used before they are tried."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from environment.cpu import Processor
from kernels import place

from .needs import could_be, needs_kernels

ROOT = Path(kernels.__file__).resolve().parent.parent


def run(root, *arguments, **variables):
    environment = {**os.environ, 'PYTHONPATH': str(root), **variables}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=str(root), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture
def project(tmp_path):
    """Return another checkout, without a compiled library."""
    for package in ('kernels', 'environment'):
        shutil.copytree(
            str(ROOT / package), str(tmp_path / package), ignore=shutil.ignore_patterns('built', '__pycache__')
        )
    return tmp_path


def compiler(project, text):
    path = project / 'compiler'
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return str(path)


# A source that the stand-in for a compiler writes.
FIND_OUT = 'for word; do case $was in -o) out=$word;; esac; was=$word; done'


@pytest.mark.skipif(not could_be, reason='no compiler, or not a machine for them')
def test_they_are_there_where_they_can_be():
    assert kernels.loaded(), 'not compiled yet; run: python -m kernels.build'
    assert place.library_path().exists()


@needs_kernels
def test_what_is_compiled_is_not_compiled_again():
    before = place.library_path().stat().st_mtime_ns
    done = run(ROOT, '-m', 'kernels.build', CXX='/no/compiler')
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')
    assert place.library_path().stat().st_mtime_ns == before


@needs_kernels
def test_without_a_compiler(project):
    done = run(project, '-m', 'kernels.build', CXX='/no/compiler')
    assert done.returncode == 1
    assert done.stderr.startswith('error: the kernels need g++')
    done = run(project, '-m', 'kernels.build', '--optional', CXX='/no/compiler')
    assert (done.returncode, done.stderr) == (0, '')
    assert 'training works without them' in done.stdout


@needs_kernels
def test_a_compiler_that_fails(project):
    done = run(project, '-m', 'kernels.build', CXX=compiler(project, 'echo "fatal error: no room"; exit 3'))
    assert done.returncode == 1
    assert 'failed to compile the kernels with status 3 (fatal error: no room)' in done.stderr
    assert not list(project.glob('kernels/built/*'))


@needs_kernels
@pytest.mark.parametrize(
    ('body', 'says'), [('abort();', 'status -6'), ('', 'the kernels took 0 calls')], ids=['dies', 'does nothing']
)
def test_a_library_that_fails_its_check_is_not_kept(project, body, says):
    source = project / 'wrong.cc'
    source.write_text(
        '#include <cstdlib>\nextern "C" long kernel_calls() { return 0; }\nextern "C" void make_plain(void*) {}\n'
        f'extern "C" void install_kernels() {{ {body} }}\n'
    )
    wrong = f'{FIND_OUT}; g++ -shared -fPIC {source} -o $out'
    done = run(project, '-m', 'kernels.build', CXX=compiler(project, wrong))
    assert done.returncode == 1
    assert 'the kernels failed their check' in done.stderr
    assert says in done.stderr
    assert not list(project.glob('kernels/built/*'))


@needs_kernels
def test_a_library_of_other_sources_is_not_found(project):
    done = run(project, '-c', 'from kernels.place import library_path; print(library_path().name)')
    assert done.stdout.strip() == place.library_path().name  # the same sources, the same MXNet
    with open(str(project / 'kernels' / 'layout.h'), 'a') as header:
        header.write('// changed\n')
    done = run(project, '-c', 'from kernels.place import library_path; print(library_path().name)')
    assert done.stdout.strip() != place.library_path().name


@pytest.fixture(scope='module')
def library():
    return place.library_path().read_bytes() if kernels.loaded() else b''


def flipped(content):
    content = bytearray(content)
    content[len(content) // 3] ^= 255
    return bytes(content)


LOADED = 'import kernels, mxnet as mx; kernels.load(); kernels.load(); mx.nd.ones(3).asnumpy(); print(kernels.loaded())'


@needs_kernels
@pytest.mark.parametrize(
    'change',
    [lambda content: content[: len(content) // 5], lambda content: b'', lambda content: content + b'x', flipped],
    ids=['cut', 'empty', 'longer', 'flipped'],
)
def test_a_damaged_library_is_told_once_and_not_loaded(project, library, change):
    built = project / 'kernels' / 'built' / place.library_path().name
    built.parent.mkdir()
    built.write_bytes(change(library))
    done = run(project, '-c', LOADED)
    assert (done.returncode, done.stdout) == (0, 'False\n')
    told = f'going on without the kernels: kernels/built/{built.name} is damaged; to mend it: python -m kernels.build\n'
    assert done.stderr == told


@needs_kernels
def test_a_library_for_another_processor_is_not_loaded(project, library, monkeypatch):
    """A library may have the right name and be wrong: for AVX-512 on a machine without, or for another MXNet."""
    built = project / 'kernels' / 'built'
    built.mkdir()
    (built / place.library_path().name).write_bytes(library)
    assert run(project, '-c', LOADED).stdout == 'True\n'
    other = 'native' if place.target() == 'avx2' else 'avx2'
    monkeypatch.setenv(place.ISA, other)
    (built / place.library_path().name).write_bytes(library)
    done = run(project, '-c', LOADED)
    assert (done.returncode, done.stdout) == (0, 'False\n')
    assert 'was compiled for another processor or another MXNet; to mend it: python -m kernels.build' in done.stderr


@needs_kernels
def test_building_mends_a_damaged_library(project, library):
    built = project / 'kernels' / 'built' / place.library_path().name
    built.parent.mkdir()
    built.write_bytes(flipped(library))
    assert place.flaw(built) == 'is damaged'
    (project / 'compiled').write_bytes(library)
    done = run(project, '-m', 'kernels.build', CXX=compiler(project, f'{FIND_OUT}; cp {project}/compiled $out'))
    assert done.returncode == 0
    assert done.stderr.startswith(f'kernels/built/{built.name} is damaged\ncompiling ')
    assert place.flaw(built) is None
    assert run(project, '-c', LOADED).stdout == 'True\n'


@needs_kernels
def test_a_library_that_the_system_refuses(project, library):
    """A file with a valid seal that is not a library."""
    built = project / 'kernels' / 'built' / place.library_path().name
    built.parent.mkdir()
    built.write_bytes(b'no library')
    place.seal(built, built.stem)
    done = run(project, '-c', LOADED)
    assert (done.returncode, done.stdout) == (0, 'False\n')
    assert f'kernels/built/{built.name} cannot be loaded (' in done.stderr


@needs_kernels
def test_they_can_be_switched_off():
    program = (
        'import model, kernels, mxnet as mx\n'
        'with kernels.fusing():\n'
        '    print(kernels.loaded(), kernels.fuses(), kernels.calls())\n'
        'print(mx.nd.elemwise_mul(mx.nd.ones(3), mx.nd.ones(3) * 2).asnumpy().tolist())\n'
    )
    done = run(ROOT, '-c', program, **{kernels.SWITCH: '0'})
    assert (done.stdout.splitlines(), done.stderr) == (['False False 0', '[2.0, 2.0, 2.0]'], '')


def test_another_target_is_another_library(monkeypatch):
    monkeypatch.delenv(place.ISA, raising=False)
    native = place.identity(), place.library_path()
    monkeypatch.setenv(place.ISA, 'avx2')
    portable = place.identity(), place.library_path()
    assert not set(native) & set(portable)
    assert portable[1].parent == native[1].parent
    assert '-march=haswell' in place.compiler_flags()
    instructions = (*place._NEEDED['avx2'], 'avx512f')
    monkeypatch.setattr(place, 'processor', lambda: Processor('another', instructions))
    assert place.identity() == portable[0]  # wherever it was compiled
    monkeypatch.setattr(place, 'processor', lambda: Processor('another', ('avx2',)))
    assert place.why_not() == 'the processor has no FMA'


def test_a_target_that_there_is_not():
    done = run(ROOT, '-m', 'kernels.build', **{place.ISA: 'avx3'})
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == f'error: {place.ISA}=avx3: allowed are native and avx2; unset it for the processor at hand\n'


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        (lambda patch: patch.setattr(place.sys, 'platform', 'darwin'), 'binary interface'),
        (lambda patch: patch.setattr(place, 'mxnet_folder', lambda: None), 'not installed'),
        (lambda patch: patch.setattr('importlib.metadata.version', lambda name: '1.8.0'), 'this is 1.8.0'),
    ],
    ids=['system', 'no MXNet', 'version'],
)
def test_where_they_cannot_be(monkeypatch, change, says):
    change(monkeypatch)
    assert says in place.why_not()


@pytest.mark.heavy
@needs_kernels
def test_everything_goes_without_them():
    """The golden tests of small networks and the units' tests pass in plain MXNet."""
    names = ('golden_open_atac', 'golden_dianet', 'activation', 'attention', 'broadcast')
    tests = [str(path) for name in names for path in ROOT.glob(f'tests/model/**/test_{name}.py')]
    assert len(tests) == len(names)
    small = 'not resnet50 and not resnet164 and not wrn52_4 and not resnext101'
    done = run(ROOT, '-m', 'pytest', '-q', '-n', '0', '-k', small, *tests, **{kernels.SWITCH: '0'})
    assert done.returncode == 0, done.stdout[-3000:]
