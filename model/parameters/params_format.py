"""Read MXNet's parameter format; the standard library and NumPy are all that this file imports.

The format is that of ``mx.nd.save`` with a dictionary of dense arrays (``src/ndarray/ndarray.cc``; little endian): list
magic 0x112, eight reserved bytes, the arrays, their names. Arrays come in each form that MXNet 1.9.1 reads: versions 1
to 3, and that of MXNet 0.9 and before, which begins with the number of dimensions. Reading does not trust the file:
every length is checked against what is there before it is used, where MXNet's own reader allocates or dies.
"""

from __future__ import annotations

import struct
from typing import Dict, Mapping, Optional, Tuple

import numpy as np

__all__ = ['ARRAY_V2', 'CPU', 'DENSE', 'FLAG_OF', 'LIST_MAGIC', 'decode_params', 'not_finite']

LIST_MAGIC = 0x112
ARRAY_V1, ARRAY_V2, ARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
DENSE = 0
CPU = 1
_BFLOAT16 = 12
_TYPE_FLAGS = {
    0: 'float32',
    1: 'float64',
    2: 'float16',
    3: 'uint8',
    4: 'int32',
    5: 'int8',
    6: 'int64',
    7: 'bool',
    _BFLOAT16: 'uint16',  # as it is stored
}
FLAG_OF = {np.dtype(name): flag for flag, name in _TYPE_FLAGS.items() if flag != _BFLOAT16}
_MOST_DIMENSIONS = 32


class _Reader:
    """A cursor over the file's bytes that never reads past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f'it ends at byte {len(self.data)}, and {size} more bytes are expected at byte {self.at}')
        piece = memoryview(self.data)[self.at : self.at + size]
        self.at += size
        return piece

    def numbers(self, count: int, code: str) -> Tuple[int, ...]:
        return struct.unpack(f'<{count}{code}', self.take(count * struct.calcsize('<' + code)))

    def number(self, code: str) -> int:
        return self.numbers(1, code)[0]


def _read_shape(reader: _Reader) -> Optional[Tuple[int, ...]]:
    """Return an array's shape; None for one that was never given a shape, of which nothing more is stored."""
    start = reader.at
    magic = reader.number('I')
    if magic in (ARRAY_V2, ARRAY_V3) and reader.number('i') != DENSE:
        raise ValueError(f'the array at byte {start} is sparse, and only dense ones are read')
    if magic in (ARRAY_V1, ARRAY_V2, ARRAY_V3):
        ndim, code = reader.number('i'), 'q'
    elif magic <= _MOST_DIMENSIONS:  # MXNet 0.9 and before
        ndim, code = magic, 'I'
    else:
        raise ValueError(f'byte {start} holds {magic:#x} where an array should begin')
    if not 0 <= ndim <= _MOST_DIMENSIONS:
        raise ValueError(f'the array at byte {start} claims {ndim} dimensions')
    return None if ndim == 0 and magic != ARRAY_V3 else reader.numbers(ndim, code)


def _read_array(reader: _Reader) -> np.ndarray:
    start = reader.at
    shape = _read_shape(reader)
    if shape is None:
        return np.zeros(0, np.float32)
    reader.take(8)  # the device it was saved from
    flag = reader.number('i')
    if flag not in _TYPE_FLAGS:
        raise ValueError(f'the array at byte {start} has the unknown type {flag}')
    dtype = np.dtype(_TYPE_FLAGS[flag]).newbyteorder('<')
    size = 1
    for extent in shape:  # Python's integers: an absurd shape cannot overflow into a small size
        if extent < 0:
            raise ValueError(f'the array at byte {start} has the shape {shape}')
        size *= extent
    content = np.frombuffer(reader.take(size * dtype.itemsize), dtype)
    if flag == _BFLOAT16:  # the upper half of a float32
        content = (content.astype(np.uint32) << 16).view(np.float32)
    try:
        return content.reshape(shape).copy()
    except ValueError as error:  # beyond what NumPy can count, where another extent is 0
        raise ValueError(f'the array at byte {start} has the shape {shape}') from error


def decode_params(data: bytes) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of the content of a parameter file; bfloat16 comes as float32.

    ``ValueError``, whose message completes 'this is not an intact parameter file: ...', for anything else.
    """
    reader = _Reader(data)
    if reader.number('Q') != LIST_MAGIC:
        raise ValueError('it does not begin as one')
    reader.take(8)
    arrays = []
    for _ in range(reader.number('Q')):  # ends by itself: every array takes bytes
        arrays.append(_read_array(reader))
    names = [bytes(reader.take(reader.number('Q'))).decode() for _ in range(reader.number('Q'))]
    if reader.at != len(data):
        raise ValueError(f'{len(data) - reader.at} bytes follow its end')
    if arrays and not names:
        raise ValueError(f'its {len(arrays)} arrays were saved as a list, without names')
    if len(names) != len(arrays) or len(set(names)) != len(names):
        raise ValueError(f'{len(arrays)} arrays have {len(set(names))} distinct names')
    return dict(zip(names, arrays))


def not_finite(arrays: Mapping[str, np.ndarray]) -> Optional[str]:
    """Return which array has a NaN or infinity, as 'fc.weight holds NaN or infinity (3 of its 40 values)', or None.

    Of several the first is named and the others are counted.
    """
    bad = [name for name, array in arrays.items() if array.dtype.kind == 'f' and not np.isfinite(array).all()]
    if not bad:
        return None
    array = arrays[bad[0]]
    count = array.size - int(np.isfinite(array).sum())
    others = f', and likewise {len(bad) - 1} more' if len(bad) > 1 else ''
    return f'{bad[0]} holds NaN or infinity ({count} of its {array.size} values){others}'
