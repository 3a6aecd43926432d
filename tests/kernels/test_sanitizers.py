"""The kernels under GCC's AddressSanitizer and UndefinedBehaviorSanitizer: their check, random programs and graphs."""

import subprocess

import pytest

from kernels.build import compile_library

from .needs import could_be
from .sanitizers import FLAGS, run, runtime

# Reads beyond the end of an array, or divides by zero.
WRONG = """
#include <cstdlib>
extern "C" int wrong(int size, int divisor) {
  int* numbers = static_cast<int*>(std::calloc(size, sizeof(int)));
  int number = 1 / divisor + numbers[size];
  std::free(numbers);
  return number;
}
"""

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(
        not could_be or runtime() is None, reason='no kernels here, or no AddressSanitizer: g++ has no libasan.so'
    ),
]


@pytest.fixture(scope='module')
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp('sanitized') / 'kernels.so'
    compile_library(path, *FLAGS)
    return path


@pytest.mark.parametrize(
    ('arguments', 'finding'),
    [((3, 1), 'heap-buffer-overflow'), ((3, 0), 'division by zero')],
    ids=['memory', 'numbers'],
)
def test_the_sanitizers_see_mistakes(tmp_path, arguments, finding):
    source, path = tmp_path / 'wrong.cc', tmp_path / 'wrong.so'
    source.write_text(WRONG)
    subprocess.run(['g++', '-fPIC', '-shared', *FLAGS, str(source), '-o', str(path)], check=True)
    done = run('import ctypes, sys; ctypes.CDLL(sys.argv[1]).wrong(*map(int, sys.argv[2:]))', path, *arguments)
    assert done.returncode != 0
    assert finding in done.stdout


@pytest.mark.parametrize(
    'program',
    [
        'from kernels import check; check.main(sys.argv[1])',
        'kernels.install(sys.argv[1]); from tests.kernels import programs; programs.main(0, 200, sys.argv[2])',
        'kernels.install(sys.argv[1]); from tests.kernels import graphs; graphs.main(0, 40, sys.argv[2])',
    ],
    ids=['check', 'programs', 'graphs'],
)
def test_they_see_none_in_the_kernels(library, tmp_path, program):
    done = run(f'import sys, kernels; {program}; print("\\ndone", kernels.calls())', library, tmp_path / 'outcome.npz')
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'runtime error' not in done.stdout
    assert int(done.stdout.split('\ndone ')[-1]) > 100
