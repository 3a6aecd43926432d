"""Where the compiled library of this machine and this MXNet lies, and what keeps a machine from having one.

The environment variable ATTENTION_KERNELS_ISA says what the library is compiled for: 'native', the processor at hand,
which is so without it, or 'avx2', any processor with AVX2. Each has a library of its own.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import sys
from pathlib import Path
from typing import List, Optional

from common.errors import UsageError
from environment.cpu import processor

__all__ = [
    'FOLDER',
    'ISA',
    'SOURCE',
    'compiler_flags',
    'flaw',
    'digest',
    'identity',
    'library_path',
    'mxnet_folder',
    'seal',
    'target',
    'why_not',
]

ISA = 'ATTENTION_KERNELS_ISA'
# What the compiler calls each target.
_ARCHITECTURES = {'native': 'native', 'avx2': 'haswell'}
# What the processor must have for either; Intel's of 2013 and AMD's of 2015 do.
_NEEDED = {'native': ('avx2',), 'avx2': ('avx2', 'fma', 'bmi1', 'bmi2', 'f16c', 'movbe', 'abm')}

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / 'library.cc'

# MXNet's own switches are as its wheel was built; what else they mean is in mxnet_registry.h.
_FLAGS = (
    '-std=c++14 -O3 -fopenmp -fPIC -shared -fno-access-control -D_GLIBCXX_USE_CXX11_ABI=0 '
    '-DMXNET_USE_MKLDNN=1 -DMSHADOW_USE_CUDA=0 -DMSHADOW_USE_MKL=0 -DMSHADOW_USE_CBLAS=0 -DMSHADOW_USE_SSE=0 '
    '-DMSHADOW_USE_F16C=0 -DDMLC_LOG_STACK_TRACE=0'
).split()


def target() -> str:
    """Return what the kernels are compiled for, 'native' or 'avx2'.

    `UsageError` if the environment asks for another.
    """
    name = os.environ.get(ISA) or 'native'
    if name not in _ARCHITECTURES:
        raise UsageError(
            f'{ISA}={name}: allowed are {" and ".join(_ARCHITECTURES)}; unset it for the processor at hand'
        )
    return name


def compiler_flags() -> List[str]:
    """Return what the compiler is given, besides names of files and folders."""
    return [*_FLAGS, f'-march={_ARCHITECTURES[target()]}']


def mxnet_folder() -> Optional[Path]:
    """MXNet's package, which need not be imported yet; None without one."""
    spec = importlib.util.find_spec('mxnet')
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]) if places else None


def why_not() -> Optional[str]:
    """Return what keeps the kernels from this machine, whatever is installed on it besides; None if nothing does."""
    if sys.platform != 'linux' or platform.machine() != 'x86_64':
        return f'MXNet for {platform.system()} on {platform.machine()} has another binary interface'
    lacking = [one for one in _NEEDED[target()] if one not in processor().instructions]
    if lacking:
        return f'the processor has no {lacking[0].upper()}'
    folder = mxnet_folder()
    if folder is None or not (folder / 'libmxnet.so').exists():
        return 'MXNet is not installed'
    from importlib.metadata import PackageNotFoundError, version

    try:
        found = version('mxnet')
    except PackageNotFoundError:
        return "they are for MXNet's CPU build"
    return None if found == '1.9.1' else f'they are for MXNet 1.9.1, and this is {found}'


def digest(*parts: str) -> str:
    return hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]


def identity() -> str:
    """Return what kernels of these sources for this target go by, wherever they are compiled: those compute alike."""
    sources = [path.read_text() for path in sorted([*FOLDER.glob('*.h'), SOURCE])]
    instructions = processor().instructions if target() == 'native' else ()
    return digest(*compiler_flags(), *sorted(instructions), *sources)


def library_path() -> Path:
    """Return where the library belongs that was compiled from these sources, against this MXNet, for this target.

    The name changes with any of them, so an old one is not found and never loaded.
    """
    folder = mxnet_folder()
    if folder is None:
        raise ModuleNotFoundError("No module named 'mxnet'")
    binary = (folder / 'libmxnet.so').stat()
    return FOLDER / 'built' / f'{digest(identity(), str(folder), str(binary.st_size), str(binary.st_mtime_ns))}.so'


def seal(path: Path, name: str) -> None:
    """End a library, which loads as before, with the name that it was compiled for and a digest of it all."""
    with open(path, 'r+b') as file:
        content = file.read() + name.encode()
        file.write(name.encode() + hashlib.sha256(content).digest())
        file.flush()
        os.fsync(file.fileno())


def flaw(path: Path) -> Optional[str]:
    """Return what is wrong with a library, which loaded might end the process without a word.

    None if it is as `seal` left it, under the name that it was compiled for.
    """
    try:
        sealed = path.read_bytes()
    except OSError as error:
        return f'cannot be read ({error.strerror})'
    content, digest = sealed[:-32], sealed[-32:]
    if hashlib.sha256(content).digest() != digest:
        return 'is damaged'
    name = path.stem.encode()
    return None if content[-len(name) :] == name else 'was compiled for another processor or another MXNet'
