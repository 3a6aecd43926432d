"""Read NumPy's .npz safely: an array's size is checked before it is allocated, and nothing is evaluated.

NumPy's own reader evaluates each header as Python code, and allocates whatever it claims.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Dict

import numpy as np

from model.convert.stored import Archive

__all__ = ['decode_npz']

_SUFFIX = '.npy'
_MAGIC = b'\x93NUMPY'
_LENGTHS = {b'\x01\x00': '<H', b'\x02\x00': '<I', b'\x03\x00': '<I'}  # of the header, by the format's version
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[fiubc]\d{1,2})', ?'fortran_order': (True|False), ?'shape': \(([\dL, ]{0,700})\),? ?\}\s*"
)


def _array(content: bytes) -> np.ndarray:
    if content[:6] != _MAGIC or content[6:8] not in _LENGTHS:
        raise ValueError('it does not begin as an array')
    code = _LENGTHS[content[6:8]]
    begin = 8 + struct.calcsize(code)
    end = begin + struct.unpack_from(code, content, 8)[0]
    header = _HEADER.fullmatch(content[begin:end])
    if header is None:
        raise ValueError('its header is not that of an array of numbers')
    kind, fortran, extents = header.groups()
    dtype = np.dtype(kind.decode())
    shape = tuple(int(extent.rstrip(b'L')) for extent in extents.replace(b' ', b'').split(b',') if extent)
    if math.prod(shape) * dtype.itemsize != len(content) - end:
        raise ValueError(f'its shape {shape} does not fit its {len(content) - end} bytes')
    return np.frombuffer(memoryview(content)[end:], dtype).reshape(shape, order='F' if fortran == b'True' else 'C')


def decode_npz(archive: Archive) -> Dict[str, np.ndarray]:
    """Return ``{name: array}`` of an archive that ``numpy.savez`` wrote. Raises ``ValueError`` for anything else."""
    arrays = {}
    for member in archive.names:
        if not member.endswith(_SUFFIX):
            raise ValueError(f'{member} in it is not an array')
        name = member[: -len(_SUFFIX)]
        content = archive.read(member)
        try:
            arrays[name] = _array(content)
        except (ValueError, TypeError, struct.error) as error:
            raise ValueError(f'{name} in it is not a sound array: {error}') from error
    return arrays
