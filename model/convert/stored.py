"""Numbers as other frameworks store them, and archives of them: what the readers of state dictionaries share.

Nothing is allocated beyond what the file holds, except for copies in a wider precision if NumPy lacks the stored one.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from typing import Callable, Dict, List

import numpy as np

__all__ = ['Archive', 'WIDTHS', 'numbers']

_LARGEST_RATIO = 100  # of what an archive holds to its own size; weights hardly shrink
_SLACK = 1 << 24  # bytes, for small archives of zeros


def _float8(mantissa_bits: int, bias: int, only_nan: int) -> np.ndarray:
    """Return the 256 values of an 8-bit float without infinities.

    The bytes with ``only_nan`` as their last bits are NaN.
    """
    codes = np.arange(256)
    exponents, fractions = (codes & 0x7F) >> mantissa_bits, (codes & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    subnormal = exponents == 0
    values = np.where(subnormal, fractions, 1 + fractions) * 2.0 ** (np.maximum(exponents, 1) - bias)
    values = np.where(codes & 0x80, -values, values)
    values[codes == 0x80 if only_nan == 0x80 else (codes & 0x7F) == only_nan] = np.nan
    return values.astype(np.float32)


def _plain(kind: str) -> Callable[[bytes], np.ndarray]:
    return lambda data: np.frombuffer(data, np.dtype(kind).newbyteorder('<'))


def _upper_half(narrow: str, wide: str) -> Callable[[bytes], np.ndarray]:
    """Return a type that is the upper half of a wider one."""

    def decode(data: bytes) -> np.ndarray:
        bits = np.frombuffer(data, np.dtype(narrow).newbyteorder('<')).astype(f'u{np.dtype(wide).itemsize}')
        bits <<= 8 * np.dtype(narrow).itemsize
        return bits.view(wide)

    return decode


def _table(values: np.ndarray) -> Callable[[bytes], np.ndarray]:
    return lambda data: values[np.frombuffer(data, np.uint8)]


_DECODERS: Dict[str, Callable[[bytes], np.ndarray]] = {
    **{f'{kind}{8 * size}': _plain(f'{kind}{size}') for kind in 'iu' for size in (1, 2, 4, 8)},
    **{f'f{8 * size}': _plain(f'f{size}') for size in (2, 4, 8)},
    **{f'c{8 * size}': _plain(f'c{size}') for size in (8, 16)},
    'bool': lambda data: np.frombuffer(data, np.uint8) != 0,
    'bf16': _upper_half('u2', 'f4'),
    'f8_e5m2': _upper_half('u1', 'f2'),
    'f8_e4m3fn': _table(_float8(3, 7, 0x7F)),
    'f8_e4m3fnuz': _table(_float8(3, 8, 0x80)),
    'f8_e5m2fnuz': _table(_float8(2, 16, 0x80)),
}

#: Types of numbers, and the bytes of one.
WIDTHS: Dict[str, int] = {
    kind: 1 if kind.startswith(('f8', 'bool')) else int(kind.lstrip('iufcb')) // 8 for kind in _DECODERS
}


def numbers(kind: str, data: bytes) -> np.ndarray:
    """Return the numbers of the type ``kind``, one of :data:`WIDTHS`, that ``data`` holds, little endian, in a row.

    What NumPy has no type for comes as float32, or float16 where that holds it.
    """
    return _DECODERS[kind](data)


class Archive:
    """A zip archive whose members together are at most 100 times as large as the archive.

    Raises ``ValueError`` if it is damaged.
    """

    def __init__(self, data: bytes) -> None:
        try:
            self._file = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, LookupError) as error:
            raise ValueError(f'it is not an intact archive ({error})') from error
        self._members = {info.filename: info for info in self._file.infolist()}
        if len(self._members) < len(self._file.infolist()):
            raise ValueError('two members of the archive have one name')
        # Readers only go by the length of the list of members, and a list that is cut short has fewer.
        count = struct.unpack_from('<H', data, data.rfind(b'PK\x05\x06') + 10)[0]
        if count not in (len(self._members), 0xFFFF):
            raise ValueError(f'it claims to have {count} members, and has {len(self._members)}')
        if sum(info.file_size for info in self._members.values()) > _LARGEST_RATIO * len(data) + _SLACK:
            raise ValueError(f'it claims to hold more than {_LARGEST_RATIO} times its own size')
        self.names: List[str] = list(self._members)

    def read(self, name: str) -> bytes:
        """Return the content of a member, whose checksum is right."""
        if name not in self._members:
            raise ValueError(f'the archive lacks {name}')
        try:
            return self._file.read(self._members[name])
        except (
            zipfile.BadZipFile,
            zlib.error,
            NotImplementedError,
            RuntimeError,  # it is encrypted
            ValueError,
            OverflowError,
            EOFError,
            OSError,
            LookupError,
        ) as error:
            raise ValueError(f'{name} in the archive is damaged ({error})') from error
