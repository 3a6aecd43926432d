"""MXNet's parameter files, read and written with NumPy alone.

The format is that of ``mx.nd.save`` with a dictionary of dense arrays (``src/ndarray/ndarray.cc``, versions 2 and 3;
little endian): list magic 0x112, eight reserved bytes, the arrays, their names. Reading does not trust the file: every
length is checked against what is there before it is used, where MXNet's own reader allocates or dies. Writing goes
through Python's file object, so a full disk is an error; MXNet's writer reports success there.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO, Dict, Mapping, Union

import numpy as np

from environment import UserError

__all__ = ['read_params_file', 'write_params_file']

_LIST_MAGIC = 0x112
_ARRAY_V1, _ARRAY_V2, _ARRAY_V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DENSE = 0
_CPU = 1
_TYPE_FLAGS = {
    0: 'float32',
    1: 'float64',
    2: 'float16',
    3: 'uint8',
    4: 'int32',
    5: 'int8',
    6: 'int64',
    7: 'bool',
}
_FLAG_OF = {np.dtype(name): flag for flag, name in _TYPE_FLAGS.items()}


class _Reader:
    """A cursor over the file's bytes that never reads past their end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> memoryview:
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f'it ends at byte {len(self.data)}, and {size} more bytes are due at byte {self.at}')
        piece = memoryview(self.data)[self.at : self.at + size]
        self.at += size
        return piece

    def number(self, code: str) -> int:
        return struct.unpack('<' + code, self.take(struct.calcsize(code)))[0]


def _read_array(reader: _Reader) -> np.ndarray:
    magic = reader.number('I')
    if magic not in (_ARRAY_V1, _ARRAY_V2, _ARRAY_V3):
        raise ValueError(f'byte {reader.at - 4} holds {magic:#x} where an array should begin')
    if magic != _ARRAY_V1 and reader.number('i') != _DENSE:
        raise ValueError(f'the array at byte {reader.at - 8} is sparse, and only dense ones are read')
    ndim = reader.number('i')
    if not 0 <= ndim <= 32:
        raise ValueError(f'the array at byte {reader.at - 4} claims {ndim} dimensions')
    shape = struct.unpack(f'<{ndim}q', reader.take(8 * ndim))
    if ndim == 0 and magic != _ARRAY_V3:
        return np.zeros(0, np.float32)  # an array that was never given a shape; nothing more is stored of it
    reader.take(8)  # the device it was saved from
    flag = reader.number('i')
    if flag not in _TYPE_FLAGS:
        raise ValueError(f'the array at byte {reader.at - 4} has the unknown type {flag}')
    dtype = np.dtype(_TYPE_FLAGS[flag])
    size = 1
    for extent in shape:  # Python's integers: an absurd shape cannot overflow into a small size
        if extent < 0:
            raise ValueError(f'the array at byte {reader.at} has the shape {shape}')
        size *= extent
    return np.frombuffer(reader.take(size * dtype.itemsize), dtype).reshape(shape).copy()


def read_params_file(path: Union[str, Path]) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of a file written by ``mx.nd.save``, ``save_parameters`` or :func:`write_params_file`.

    ``UserError`` when there is no such file, or it is damaged or something else.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror}); give the path of a .params file') from error
    reader = _Reader(data)
    try:
        if reader.number('Q') != _LIST_MAGIC:
            raise ValueError('it does not begin as one')
        reader.take(8)
        arrays = []
        for _ in range(reader.number('Q')):  # ends by itself: every array takes bytes
            arrays.append(_read_array(reader))
        names = [bytes(reader.take(reader.number('Q'))).decode() for _ in range(reader.number('Q'))]
        if reader.at != len(data):
            raise ValueError(f'{len(data) - reader.at} bytes follow its end')
        if len(names) != len(arrays) or len(set(names)) != len(names):
            raise ValueError(f'{len(arrays)} arrays have {len(set(names))} distinct names')
    except (ValueError, struct.error) as error:
        raise UserError(f'{path}: not an intact MXNet parameter file: {error}; fetch or save it again') from error
    return dict(zip(names, arrays))


def write_params_file(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` as MXNet would; ``file`` is open for binary writing. Equal arrays give equal bytes."""
    file.write(struct.pack('<QQQ', _LIST_MAGIC, 0, len(arrays)))
    for name, array in arrays.items():
        if array.dtype not in _FLAG_OF or array.ndim == 0:
            raise ValueError(f'{name}: MXNet stores no {array.dtype} array of shape {array.shape}')
        file.write(struct.pack('<IiI', _ARRAY_V2, _DENSE, array.ndim))
        file.write(struct.pack(f'<{array.ndim}q', *array.shape))
        file.write(struct.pack('<iii', _CPU, 0, _FLAG_OF[array.dtype]))
        file.write(np.ascontiguousarray(array).tobytes())
    file.write(struct.pack('<Q', len(arrays)))
    for name in arrays:
        encoded = name.encode()
        file.write(struct.pack('<Q', len(encoded)) + encoded)
