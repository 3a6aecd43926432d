"""The engine under GCC's AddressSanitizer and UndefinedBehaviorSanitizer: odd sizes, and plans with wrong numbers."""

import os

import pytest

import kernels.engine
from environment.cpu import processor
from kernels.engine import compile_library
from kernels.place import ISA
from tests.kernels.sanitizers import FLAGS, run, runtime

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.skipif(kernels.engine.why_not() is not None, reason=f'no engine: {kernels.engine.why_not()}'),
    pytest.mark.skipif(runtime() is None, reason='no AddressSanitizer: g++ has no libasan.so'),
]
PROGRAM = """
import sys, environment
from tests.inference import engine_plans
engine_plans.main(sys.argv[1], *map(int, sys.argv[2:]))
"""
ROUNDS = 40  # of damage, with each instruction set: what checks a plan is the same code in both


@pytest.mark.parametrize('name', ['avx2', 'avx512'])
def test_no_plan_reads_or_writes_beyond_its_tensors(tmp_path, name):
    if name == 'avx512' and 'avx512f' not in processor().instructions:
        pytest.skip('this processor has no AVX-512')
    library = tmp_path / 'engine.so'
    compile_library(library, name, *FLAGS)
    seed = os.environ.get('ENGINE_FUZZ_SEED', '0')
    done = run(PROGRAM, library, seed, ROUNDS, **{ISA: 'avx2' if name == 'avx2' else 'native'})
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'runtime error' not in done.stdout
    for kind, least_opened, least_refused in (('flipped', 0.2, 0.8), ('damaged', 0.5, 3)):
        opened, refused = map(int, done.stdout.split(f'{kind} ')[-1].split()[:2])
        assert opened > least_opened * ROUNDS
        assert refused > least_refused * ROUNDS
