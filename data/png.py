"""Check what Pillow ignores in PNG files, such as wrong checksums."""

from __future__ import annotations

import struct
import zlib
from typing import Optional, Union

__all__ = ['damaged_chunk', 'in_8_bits']

SIGNATURE = 8  # bytes
BIT_DEPTH, GREY = 24, 0  # a place in the file, and what stands behind it where there are no colours
HEAD = struct.Struct('>I4s')
TRANSPARENCY, END = b'tRNS', b'IEND'


def in_8_bits(level: int, data: Union[bytes, memoryview]) -> int:
    """Return a grey level as Pillow scales pixels; it scales those of 2 and 4 bits, but not the transparent level."""
    depth, kind = data[BIT_DEPTH], data[BIT_DEPTH + 1]
    return level * 255 // (2**depth - 1) if kind == GREY and depth in (2, 4) else level


def damaged_chunk(data: Union[bytes, memoryview]) -> Optional[str]:
    """Return the type of the first critical chunk whose checksum is wrong; None if all are right."""
    position, view = SIGNATURE, memoryview(data)
    while position + HEAD.size <= len(data):
        length, kind = HEAD.unpack_from(data, position)
        end = position + HEAD.size + length
        needed = not kind[0] & 0x20 or kind == TRANSPARENCY  # a capital letter is for what no reader may leave out
        if needed and zlib.crc32(view[position + 4 : end]).to_bytes(4, 'big') != bytes(view[end : end + 4]):
            return kind.decode('ascii', 'replace')
        if kind == END:
            break
        position = end + 4
    return None
