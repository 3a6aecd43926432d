"""MXNet's operators reimplemented in C++ for the memory layout of its convolutions; the ATAC unit as a single operator.

There is also the update of all parameters as one operator (`kernels.multi_tensor`).

    python -m kernels.build     # compiles them for this machine; `scripts/setup.sh` does so if there is a g++

    kernels.load()              # `import model` does; returns whether they are available, and if not,
    kernels.absence()           # why
    with kernels.fusing():      # networks traced here may use operators that plain MXNet does not know
        ...

MXNet leaves oneDNN's layout for every product of two feature maps, and for most operations of attention units: each map
is copied out and back, which takes longer than the arithmetic. `library.cc` lists the operators that get another
kernel. These compute the same numbers, except for last bits, wherever MXNet runs on CPUs in float32; other calls are
passed on to MXNet. Without the compiled library everything works as in plain MXNet, only slower.

The environment variable ATTENTION_KERNELS=0 disables them, and ATTENTION_KERNELS_ISA=avx2 selects those for any
processor with AVX2 (`kernels.place`).
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional

import environment

if not hasattr(environment, 'need'):
    raise ImportError(f'{environment.__file__} hides the package environment of attention-networks; rename that file')

from kernels import graphs, place, views
from kernels.place import FOLDER, library_path, why_not

__all__ = [
    'SWITCH',
    'absence',
    'calls',
    'fuses',
    'fusing',
    'have',
    'in_bfloat16',
    'identity',
    'install',
    'library',
    'load',
    'loaded',
    'operator_function',
    'operator_handle',
    'pool_memory',
    'set_bfloat16',
]

SWITCH = 'ATTENTION_KERNELS'

_library: Any = None
_absence: Optional[str] = None
_fusing = False
_in_bfloat16 = False


def load() -> bool:
    """Load the kernels that were compiled for this machine and this MXNet; return whether MXNet has them.

    A library that is not as it was compiled is not loaded, which is reported on stderr, once.
    """
    global _absence
    if not loaded():
        before, _absence = _absence, _try_to_load()
        if _absence is not None and 'kernels/built' in _absence and _absence != before:
            print(f'going on without the kernels: {_absence}', file=sys.stderr)
    return loaded()


def _try_to_load() -> Optional[str]:
    """Return None, or the reason why the kernels cannot be loaded."""
    if os.environ.get(SWITCH) == '0':
        return f'{SWITCH}=0'
    reason = why_not()
    if reason is not None:
        return reason
    path, mend = library_path(), 'python -m kernels.build'
    if not path.exists():
        return f'they are not compiled; to have them: {mend}'
    reason = place.flaw(path)
    if reason is None:
        try:
            install(str(path))
        except OSError as error:
            reason = f'cannot be loaded ({error})'
    return reason and f'{path.relative_to(FOLDER.parent)} {reason}; to mend it: {mend}'


def absence() -> Optional[str]:
    """Return why MXNet does not have the kernels, as a phrase; None if it has, or `load` was not called."""
    return _absence


def install(path: str) -> None:
    """Give MXNet the kernels of a compiled library."""
    global _library
    import mxnet  # whose library ours is linked to

    library = ctypes.CDLL(path)
    library.kernel_calls.restype = ctypes.c_int64
    mxnet.nd.waitall()  # its threads look up operators as they run
    library.install_kernels()
    views.make_of_plain_arrays(library)
    graphs.fuse_what_is_traced()
    _library = library


def loaded() -> bool:
    """Return whether MXNet has the kernels."""
    return _library is not None


def have(dtype: str) -> bool:
    """Return whether our own operators compute with maps of this type in the networks that `training` trains."""
    return loaded() and (dtype == 'float32' or dtype == 'bfloat16' and bool(_library.has_narrow()))


def set_bfloat16(on: bool = True) -> None:
    """Say that networks of this process are traced with casts to bfloat16, as `training.precision` puts them."""
    global _in_bfloat16
    _in_bfloat16 = on


def in_bfloat16() -> bool:
    """Return whether what is traced computes in bfloat16, with kernels for it."""
    return _in_bfloat16 and have('bfloat16')


def identity() -> str:
    """Return an identifier of the kernels in use, by their sources and the processor; '' without kernels."""
    return place.identity() if loaded() else ''


def library() -> Any:
    """Return the compiled library; None if there is none."""
    return _library


def calls() -> int:
    """Return how many calls of operators the kernels have handled so far.

    Calls under way count once they have begun.
    """
    return _library.kernel_calls() if loaded() else 0


def pool_memory() -> bool:
    """Let all threads share the memory of freed arrays on CPUs, from now on; return whether the kernels can."""
    import mxnet

    mxnet.nd.waitall()
    return loaded() and bool(_library.pool_memory())


@contextmanager
def fusing(wanted: bool = True) -> Iterator[None]:
    """Let networks that are traced, or run, on CPUs use our own operators: see `have`.

    This is for training, since a graph with such an operator cannot be exported to plain MXNet. Without the kernels it
    has no effect.
    """
    global _fusing
    before, _fusing = _fusing, wanted and loaded()
    try:
        yield
    finally:
        _fusing = before


def fuses() -> bool:
    """Return whether our own operators are to be used now."""
    return _fusing


def operator_handle(name: str) -> ctypes.c_void_p:
    """Return the handle of the operator ``name`` in MXNet's C interface."""
    from mxnet.base import _LIB, OpHandle, c_str, check_call

    handle = OpHandle()
    check_call(_LIB.NNGetOpHandle(c_str(name), ctypes.byref(handle)))
    return handle


_functions: Dict[Any, Callable[..., Any]] = {}


def operator_function(F: Any, name: str) -> Callable[..., Any]:
    """Return our operator ``name`` for ``F``, which is `mxnet.ndarray` or `mxnet.symbol`.

    These modules list only the operators that MXNet came with.
    """
    if (F, name) not in _functions:
        from mxnet.ndarray.register import _make_ndarray_function
        from mxnet.symbol.register import _make_symbol_function

        handle = operator_handle(name)
        make = _make_ndarray_function if F.__name__ == 'mxnet.ndarray' else _make_symbol_function
        _functions[F, name] = make(handle, name, name)
    return _functions[F, name]
