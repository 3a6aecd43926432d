"""The inference engine's C++: where its compiled library lies, and how to compile and load it.

    python -m kernels.engine    # compiles it for this machine; `scripts/setup.sh` does so if there is a g++

There is one library for each instruction set: AVX2, with vectors of 8 floats, and AVX-512, with 16. Plans for one do
not run in the other. `engine.cc` describes the library's interface; `inference.engine` makes plans for it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from common.errors import UserError
from environment.cpu import processor
from kernels import place
from kernels.engine.engine_library import Library

__all__ = [
    'Library',
    'at_hand',
    'build',
    'chosen',
    'command',
    'compile_library',
    'install',
    'library_path',
    'load',
    'needed',
    'source',
    'why_not',
]

_SOURCE = Path(__file__).resolve().parent / 'engine.cc'
_BUILD = 'python -m kernels.engine'
_FLAGS = '-std=c++17 -O3 -fPIC -shared -fvisibility=hidden -pthread -ffp-contract=fast'.split()


class _Set(NamedTuple):
    architecture: str  # as the compiler calls it
    needed: tuple  # of the processor, as Linux calls it
    precisions: Dict[str, tuple]  # what other precisions need besides, of those that there are


# The fastest first.
_SETS: Dict[str, _Set] = {
    'avx512': _Set(
        'skylake-avx512',
        ('avx512f', 'avx512dq', 'avx512cd', 'avx512bw', 'avx512vl'),
        {'bfloat16': ('avx512_bf16',), 'int8': ('avx512_vnni',)},
    ),
    'avx2': _Set('haswell', ('avx2', 'fma', 'bmi1', 'bmi2', 'f16c', 'movbe', 'abm'), {'int8': ('avx_vnni',)}),
}


def at_hand() -> List[str]:
    """Return the instruction sets that the processor has, the fastest first.

    AVX2 alone if `kernels.place.ISA` asks for it.
    """
    names = ['avx2'] if place.target() == 'avx2' else list(_SETS)
    return [name for name in names if set(_SETS[name].needed) <= set(processor().instructions)]


def chosen() -> Optional[str]:
    """Return the instruction set to use, the first of `at_hand`."""
    return next(iter(at_hand()), None)


def needed(name: str, precision: str = 'float32') -> List[str]:
    """Return what a processor must have for a precision with an instruction set, by Linux's names."""
    return [*_SETS[name].needed, *_SETS[name].precisions.get(precision, ())]


def command(name: str) -> List[str]:
    """Return the compiler's flags for an instruction set."""
    return [*_FLAGS, f'-march={_SETS[name].architecture}']


def source() -> str:
    """Return the engine as one file, with its headers inlined at their first inclusion."""
    done = set()

    def written(path: Path) -> str:
        lines = []
        for line in path.read_text().splitlines():
            found = re.fullmatch(r'#include "(.+)"', line)
            if found is None:
                lines.append('' if line == '#pragma once' else line)
            elif (path.parent / found[1]).resolve() not in done:
                done.add((path.parent / found[1]).resolve())
                lines.append(written(path.parent / found[1]))
        return '\n'.join(lines)

    return written(_SOURCE) + '\n'


def why_not() -> Optional[str]:
    """Return why the engine cannot run on this machine; None if it can."""
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        return f'it is for Linux on x86_64, and this is {platform.system()} on {platform.machine()}'
    lacking = [one for one in _SETS['avx2'].needed if one not in processor().instructions]
    return f'the processor has no {lacking[0].upper()}' if lacking else None


def library_path(name: str) -> Path:
    """Return where the library of an instruction set belongs; the path changes with the sources."""
    headers = [*_SOURCE.parent.glob('*.h'), *place.FOLDER.glob('shared/*.h')]
    sources = [path.read_text() for path in sorted([*headers, _SOURCE])]
    return place.FOLDER / 'built' / f'engine-{name}-{place.digest(*_FLAGS, _SETS[name].architecture, *sources)}.so'


def compile_library(path: Path, name: str, *flags: str) -> None:
    """Compile the engine for an instruction set to ``path``, with additional compiler flags."""
    compiler = shutil.which(os.environ.get('CXX', 'g++'))
    if compiler is None:
        raise UserError('the inference engine needs g++, which is not installed (Debian, Ubuntu: sudo apt install g++)')
    print(f'compiling the inference engine for {name.upper()}, which takes about 20 seconds', file=sys.stderr)
    line = [compiler, *command(name), *flags, str(_SOURCE), '-o', str(path)]
    run = subprocess.run(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900)
    if run.returncode:
        said = [line for line in run.stdout.splitlines() if 'error' in line] or run.stdout.splitlines()[-1:]
        raise UserError(f'{Path(compiler).name} failed to compile the inference engine ({"".join(said[:1])})')


def build(name: Optional[str] = None) -> Path:
    """Return the library for this machine, compiling it if necessary; `UserError` if that fails.

    ``name`` is one of `at_hand`, by default the fastest.
    """
    reason = why_not()
    if reason is not None:
        raise UserError(f'the inference engine cannot be had: {reason}')
    name = name or chosen()
    path = library_path(name)
    if path.exists() and place.flaw(path) is None:
        return path
    path.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(path.parent)) as folder:
        candidate = Path(folder, path.name)
        compile_library(candidate, name)
        place.seal(candidate, path.stem)
        candidate.replace(path)
    return path


_loaded: Dict[str, Library] = {}


def install(path: Path) -> None:
    """Load another library of these sources instead of the one that `build` made, for tests."""
    _loaded[str(library_path(chosen()))] = Library(path)


def load(name: Optional[str] = None) -> Any:
    """Return the `Library` for this machine, or a phrase that says why there is none.

    ``name`` is one of `at_hand`, by default the fastest.
    """
    reason = why_not()
    if reason is not None:
        return reason
    path = library_path(name or chosen())
    if str(path) not in _loaded:
        if not path.exists():
            return f'it is not compiled; to have it: {_BUILD}'
        damage = place.flaw(path)
        if damage is not None:
            return f'{path.relative_to(place.FOLDER.parent)} {damage}; to mend it: {_BUILD}'
        try:
            _loaded[str(path)] = Library(path)
        except OSError as error:
            return f'{path.relative_to(place.FOLDER.parent)} cannot be loaded ({error}); to mend it: {_BUILD}'
    return _loaded[str(path)]
