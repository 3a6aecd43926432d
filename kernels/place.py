"""Where the compiled library for this machine and this MXNet lies, and why a machine may not have one.

The environment variable ATTENTION_KERNELS_ISA selects what the library is compiled for: 'native' (default), the current
processor, or 'avx2', any processor with AVX2. Each has a library of its own.
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
_NEEDED = {'native': ('avx2', 'f16c'), 'avx2': ('avx2', 'fma', 'bmi1', 'bmi2', 'f16c', 'movbe', 'abm')}

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / 'library.cc'

# MXNet's own switches are as its wheel was built; what else they mean is in mxnet_registry.h.
_FLAGS = (
    '-std=c++17 -O3 -fopenmp -fPIC -shared -fno-access-control -D_GLIBCXX_USE_CXX11_ABI=0 '
    '-DMXNET_USE_MKLDNN=1 -DMSHADOW_USE_CUDA=0 -DMSHADOW_USE_MKL=0 -DMSHADOW_USE_CBLAS=0 -DMSHADOW_USE_SSE=0 '
    '-DMSHADOW_USE_F16C=0 -DDMLC_LOG_STACK_TRACE=0'
).split()


def target() -> str:
    """Return what the kernels are compiled for, 'native' or 'avx2'.

    `UsageError` if the environment asks for anything else.
    """
    name = os.environ.get(ISA) or 'native'
    if name not in _ARCHITECTURES:
        raise UsageError(
            f'{ISA}={name}: allowed are {" and ".join(_ARCHITECTURES)}; unset it for the processor at hand'
        )
    return name


def compiler_flags() -> List[str]:
    """Return the compiler's arguments, except for names of files and folders."""
    return [*_FLAGS, f'-march={_ARCHITECTURES[target()]}']


def mxnet_folder() -> Optional[Path]:
    """Return the folder of MXNet's package, which need not be imported yet; None if it is not installed."""
    spec = importlib.util.find_spec('mxnet')
    places = None if spec is None else spec.submodule_search_locations
    return Path(places[0]) if places else None


def why_not() -> Optional[str]:
    """Return why the kernels cannot run on this machine, whatever is installed on it; None if they can."""
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
    """Return an identifier of kernels of these sources for this target, which compute the same wherever compiled."""
    sources = [path.read_text() for path in sorted([*FOLDER.glob('*.h'), *FOLDER.glob('shared/*.h'), SOURCE])]
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
    """Append to a library the name for which it was compiled and a digest of the whole; it still loads as before."""
    with open(path, 'r+b') as file:
        content = file.read() + name.encode()
        file.write(name.encode() + hashlib.sha256(content).digest())
        file.flush()
        os.fsync(file.fileno())


def flaw(path: Path) -> Optional[str]:
    """Return what is wrong with a library that might crash the process if it were loaded.

    None if it is as `seal` left it, under the name for which it was compiled.
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
