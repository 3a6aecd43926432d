"""Event files for TensorBoard, which is needed to look at them alone.

A file is a row of records: the length of the content in 8 bytes, a checksum of these, the content, a checksum of it
(tensorflow/core/lib/io/record_writer.h). A content is a protocol buffer `Event` (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from pathlib import Path
from typing import Any, Iterable, List, Mapping

from common.files import explained, make_folder
from data.shown import png

__all__ = ['TensorBoard', 'crc32c']

_made = itertools.count()


def _table() -> List[int]:
    """Return the checksums of single bytes: CRC-32C (Castagnoli), bits reflected."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(content: bytes) -> int:
    """Return the checksum of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _masked(content: bytes) -> bytes:
    crc = crc32c(content)
    return struct.pack('<I', ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _record(content: bytes) -> bytes:
    length = struct.pack('<Q', len(content))
    return length + _masked(length) + content + _masked(content)


def _varint(value: int) -> bytes:
    """Return a whole number from 0, in groups of 7 bits."""
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*groups, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _event(step: int, what: bytes) -> bytes:
    return b'\x09' + struct.pack('<d', time.time()) + _number(2, step) + what


def _summary(values: Iterable[bytes]) -> bytes:
    return _bytes(5, b''.join(_bytes(1, value) for value in values))


class TensorBoard:
    """A writer of figures and pictures into a new file in `folder`, which voids those from `step` on in older files.

    A run that continues from a checkpoint thus has a single curve.
    """

    def __init__(self, folder: Path, step: int) -> None:
        make_folder(folder)
        name = f'events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(_made)}'
        self.path = folder / name
        version = b'\x09' + struct.pack('<d', time.time()) + _bytes(3, b'brain.Event:2')
        self._append(version)
        self._append(_event(step + 1, _bytes(7, _number(1, 1))))  # a session begins

    def _append(self, event: bytes) -> None:
        with explained('write', self.path), open(self.path, 'ab') as file:
            file.write(_record(event))

    def figures(self, step: int, figures: Mapping[str, float]) -> None:
        """One event with all of them."""
        values = [_bytes(1, tag.encode()) + b'\x15' + struct.pack('<f', value) for tag, value in figures.items()]
        self._append(_event(step, _summary(values)))

    def picture(self, step: int, tag: str, pixels: Any) -> None:
        """Store pixels (H, W, 3) uint8 as PNG."""
        height, width, colours = pixels.shape
        image = _number(1, height) + _number(2, width) + _number(3, colours) + _bytes(4, png(pixels))
        self._append(_event(step, _summary([_bytes(1, tag.encode()) + _bytes(4, image)])))

    def close(self, finished: bool) -> None:
        """Do nothing: all is written."""
