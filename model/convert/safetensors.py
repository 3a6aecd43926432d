"""The format .safetensors, read and written: a length, a header in JSON and the arrays' bytes, little endian."""

from __future__ import annotations

import json
import math
import struct
from typing import Any, BinaryIO, Dict, List, Mapping, Tuple

import numpy as np

from common.schema import check_schema
from model.convert.stored import WIDTHS, numbers

__all__ = ['decode_safetensors', 'is_safetensors', 'write_safetensors']

_LARGEST_HEADER = 100_000_000  # bytes, as the format's own reader has it
_KINDS = {
    'F64': 'f64',
    'F32': 'f32',
    'F16': 'f16',
    'BF16': 'bf16',
    'F8_E5M2': 'f8_e5m2',
    'F8_E4M3': 'f8_e4m3fn',
    'I64': 'i64',
    'I32': 'i32',
    'I16': 'i16',
    'I8': 'i8',
    'U64': 'u64',
    'U32': 'u32',
    'U16': 'u16',
    'U8': 'u8',
    'BOOL': 'bool',
    'C64': 'c64',
}
_WRITTEN = {np.dtype(kind.replace('f', 'float').replace('i', 'int')): name for name, kind in list(_KINDS.items())[:3]}
_METADATA = '__metadata__'
_ENTRY = {'dtype': str, 'shape': [int], 'data_offsets': [int]}


def is_safetensors(data: bytes) -> bool:
    """Return whether the first bytes of a file are those of the format: a plausible length, and a table."""
    return len(data) >= 9 and struct.unpack_from('<Q', data)[0] <= _LARGEST_HEADER and data[8:9] == b'{'


def _table(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError('two of its entries have one name')
    return table


def _header(data: bytes) -> Tuple[Dict[str, Any], int]:
    """Return what the arrays are, and where their bytes begin."""
    if not is_safetensors(data):
        raise ValueError('it does not begin as one')
    start = 8 + struct.unpack_from('<Q', data)[0]
    if start > len(data):
        raise ValueError(f'it ends at byte {len(data)}, and its header at byte {start}')
    try:
        header = json.loads(data[8:start], object_pairs_hook=_table)
    except RecursionError as error:
        raise ValueError('its header is nested too deeply') from error
    header.pop(_METADATA, None)
    check_schema(header, {...: _ENTRY}, 'its header')
    return header, start


def decode_safetensors(data: bytes) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of the content of a file. Raises ``ValueError`` for anything else.

    As the format wants it, every byte belongs to one array.
    """
    header, start = _header(data)
    arrays, due = {}, start
    for name, entry in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
        kind, shape = _KINDS.get(entry['dtype']), entry['shape']
        if kind is None:
            raise ValueError(f'{name} is of the unknown type {entry["dtype"][:20]!r}')
        if min(shape, default=0) < 0 or len(entry['data_offsets']) != 2:
            raise ValueError(f'{name} has no sound shape and place')
        begin, end = (start + offset for offset in entry['data_offsets'])
        if begin != due or end - begin != math.prod(shape) * WIDTHS[kind] or end > len(data):
            raise ValueError(f'{name} does not fill its place between the arrays beside it')
        arrays[name] = numbers(kind, data[begin:end]).reshape(shape)
        due = end
    if due != len(data):
        raise ValueError(f'{len(data) - due} bytes belong to no array')
    return {name: arrays[name] for name in header}


def write_safetensors(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """Write ``{name: array}`` of floats to a file that is open for binary writing."""
    header: Dict[str, Any] = {_METADATA: {'format': 'pt'}}
    at = 0
    for name, array in arrays.items():
        header[name] = {
            'dtype': _WRITTEN[array.dtype],
            'shape': list(array.shape),
            'data_offsets': [at, at + array.nbytes],
        }
        at += array.nbytes
    text = json.dumps(header).encode()
    text += b' ' * (-len(text) % 8)  # so that the arrays begin at a multiple of 8
    file.write(struct.pack('<Q', len(text)) + text)
    for array in arrays.values():
        file.write(np.ascontiguousarray(array, array.dtype.newbyteorder('<')).tobytes())
