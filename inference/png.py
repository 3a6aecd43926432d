"""Whether the chunks of a PNG file are those that were written: Pillow reads on where a checksum does not fit."""

from __future__ import annotations

import struct
import zlib
from typing import Optional, Union

__all__ = ['damaged_chunk']

SIGNATURE = 8  # bytes
HEAD = struct.Struct('>I4s')
TRANSPARENCY, END = b'tRNS', b'IEND'


def damaged_chunk(data: Union[bytes, memoryview]) -> Optional[str]:
    """The kind of the first chunk that pixels depend on and that differs from its checksum; None if all are right."""
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
