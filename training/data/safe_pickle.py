"""Read the pickles of CIFAR's python version without unpickling: no code that a pickle names is ever looked
up.

A pickle may name any importable function and have it called. CIFAR's batches name three things of NumPy;
they get stand-ins of our own that only keep what they are given, and every other name is refused.
"""

from __future__ import annotations

import io
import pickle
import pickletools
from typing import Any, Dict, Tuple

import numpy as np

__all__ = ['PickleError', 'read_batch']


class PickleError(ValueError):
    """A pickle that asks for more than arrays of bytes, or is damaged."""


class _Dtype:
    """In place of numpy.dtype(name, align, copy)."""

    def __init__(self, name: str, *flags: Any) -> None:
        self.name = name

    def __setstate__(self, state: Any) -> None:
        """Byte order and fields, which a type of one byte does not have."""


class _Array:
    """In place of numpy.ndarray; filled by the state (version, shape, dtype, is_fortran, data)."""

    state: Tuple = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The uint8 array described by the state; `PickleError` for any other."""
        try:
            _, shape, dtype, fortran, data = self.state
            data = data.encode('latin1') if isinstance(data, str) else data
            if not isinstance(dtype, _Dtype) or dtype.name not in ('u1', '|u1') or fortran is not False:
                raise PickleError('its arrays are not plain arrays of bytes')
            return np.frombuffer(data, dtype=np.uint8).reshape(shape)
        except (TypeError, ValueError) as error:
            raise (
                error if isinstance(error, PickleError) else PickleError(f'an array is damaged ({error})')
            ) from error


def _reconstruct(*unused: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """In place of _codecs.encode, as Python 3 writes bytes into pickles that Python 2 can read."""
    if encoding != 'latin1':
        raise PickleError(f'it asks for the encoding {encoding!r}')
    return text.encode('latin1')


STAND_INS = {
    ('numpy.core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy._core.multiarray', '_reconstruct'): _reconstruct,
    ('numpy', 'ndarray'): _Array,
    ('numpy', 'dtype'): _Dtype,
    ('_codecs', 'encode'): _encode,
}


# Of protocols 2 to 4, without those that reach beyond the pickle (persistent objects, the extension
# registry).
OPCODES = frozenset(
    """
    PROTO FRAME STOP MARK POP POP_MARK DUP PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET
    NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 FLOAT BINFLOAT
    BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINBYTES SHORT_BINBYTES
    EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT SETITEM SETITEMS
    GLOBAL STACK_GLOBAL REDUCE BUILD
    """.split()
)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise PickleError(f'it asks for {module}.{name}, which image data have no use for')
        return STAND_INS[module, name]


def _check_opcodes(data: bytes) -> None:
    """Refuse what image data have no use for before anything is built.

    The memo is an array as long as its highest index: a few damaged bytes could ask for all of the memory.
    """
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name not in OPCODES:
            raise PickleError(f'it uses {opcode.name}')
        if opcode.name in ('PUT', 'BINPUT', 'LONG_BINPUT') and argument > count:
            raise PickleError(f'it numbers its object {count} as {argument}')


def read_batch(data: bytes) -> Dict[str, Any]:
    """The table {'data': uint8 array, 'labels': list, ...} of one CIFAR batch; `PickleError` for anything
    else.
    """
    try:
        # Python 2 wrote the arrays as strings; latin1 maps each byte to the character of the same number.
        _check_opcodes(data)
        table = _Unpickler(io.BytesIO(data), encoding='latin1').load()
    except PickleError:
        raise
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes, MemoryError too
        raise PickleError(f'it is damaged ({error or type(error).__name__})') from error
    if not isinstance(table, dict):
        raise PickleError('it holds no table')
    return {key: value.array() if isinstance(value, _Array) else value for key, value in table.items()}
