"""State dictionaries written without PyTorch, as ``torch.load(file, weights_only=True)`` reads them."""

from __future__ import annotations

import struct
import zipfile
from typing import BinaryIO, List, Mapping, Sequence

import numpy as np

__all__ = ['write_torch_file']

_STORAGES = {'float32': b'FloatStorage', 'float64': b'DoubleStorage', 'float16': b'HalfStorage'}
_FOLDER = 'state'
_ALIGNMENT = 64  # where the bytes of an array begin, so that they can be mapped into memory


def _text(text: str) -> bytes:
    encoded = text.encode()
    return b'X' + struct.pack('<I', len(encoded)) + encoded


def _number(number: int) -> bytes:
    encoded = number.to_bytes(number.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + struct.pack('<B', len(encoded)) + encoded


def _numbers(numbers: Sequence[int]) -> bytes:
    return b'(' + b''.join(map(_number, numbers)) + b't'


def _tensor(key: str, array: np.ndarray) -> bytes:
    """Return the call that makes a tensor of the storage ``key``, which it fills."""
    storage = b'(' + _text('storage') + b'ctorch\n' + _STORAGES[array.dtype.name] + b'\n' + _text(key) + _text('cpu')
    strides = [int(np.prod(array.shape[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim)]
    return (
        b'ctorch._utils\n_rebuild_tensor_v2\n('
        + (storage + _number(array.size) + b'tQ')
        + (_number(0) + _numbers(array.shape) + _numbers(strides))
        + b'\x89ccollections\nOrderedDict\n)RtR'  # no gradient, no hooks
    )


def _pickle(state: Mapping[str, np.ndarray]) -> bytes:
    pieces: List[bytes] = [b'\x80\x02}(']
    for place, (name, array) in enumerate(state.items()):
        pieces += [_text(name), _tensor(str(place), array)]
    return b''.join([*pieces, b'u.'])


def write_torch_file(file: BinaryIO, state: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` of floats to a file that is open for binary writing. Equal arrays give equal bytes."""
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            member = zipfile.ZipInfo(f'{_FOLDER}/{name}')
            # An extra field fills up; its head takes 4 bytes, and the member's own 30 besides its name.
            begin = file.tell() + 30 + len(member.filename.encode()) + 4
            filling = -begin % _ALIGNMENT
            member.extra = b'FB' + struct.pack('<H', filling) + b'Z' * filling
            archive.writestr(member, content)

        add('data.pkl', _pickle(state))
        add('byteorder', b'little')
        for place, array in enumerate(state.values()):
            add(f'data/{place}', np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes())
        add('version', b'3\n')
