"""Define the byte layout of MXNet's RecordIO files.

A record is framed by a magic number and a word of 3 bits of kind and 29 bits of length, and padded to a multiple of 4
bytes (dmlc-core, `include/dmlc/recordio.h`). Content that contains the magic number at a multiple of 4 bytes is split
there into parts; the number itself is omitted, and restored when the parts are joined. For images the content begins
with a header of label and number (MXNet, `mxnet.recordio.IRHeader`).

Our own files use the header's last field, which MXNet sets to 0 and ignores, for a checksum of everything else.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

__all__ = [
    'FRAME',
    'HEAD',
    'MAGIC',
    'MAX_LENGTH',
    'DamagedRecord',
    'LABELS',
    'Record',
    'checksum_of',
    'label_fault',
    'pack',
    'parse',
    'split_word',
]

MAGIC = 0xCED7230A
FRAME = struct.Struct('<II')  # magic number; kind << 29 | length
HEADER = struct.Struct('<IfQQ')  # number of labels that follow (0: none, this is the one), label, number, checksum
# Frame and header as they lie in the file.
HEAD = np.dtype(
    [('magic', '<u4'), ('word', '<u4'), ('flag', '<u4'), ('label', '<f4'), ('number', '<u8'), ('checksum', '<u8')]
)
MAX_LENGTH = (1 << 29) - 1
LABELS = 1 << 24  # a label is a float32, which counts no further
WHOLE, FIRST, MIDDLE, LAST = range(4)
# The upper half of a checksum, the letters 'CRC3': other files hold 0 or numbers of their own there.
CHECKSUM_TAG = 0x43524333
_MAGIC_BYTES = struct.pack('<I', MAGIC)

Buffer = Union[bytes, memoryview]


def label_fault(labels: Sequence[float], classes: Optional[int] = None) -> str:
    """Return what is wrong with an image's labels for classification, to follow 'it'; '' if nothing is.

    `classes` is the number of classes, if known.
    """
    if len(labels) != 1:
        return f'has {len(labels)} labels, and records with several labels are not supported: give each image one'
    label = float(labels[0])
    if 0 <= label < (classes or LABELS) and label == int(label):
        return ''
    return f'has the label {label:.9g}; allowed are whole numbers from 0 to {(classes or LABELS) - 1}'


class DamagedRecord(ValueError):
    """The bytes are not an intact record; the message says why."""


@dataclass(frozen=True)
class Record:
    """One image of a RecordIO file.

    Attributes:
        labels: float32; one for classification.
        number: the image's number in the list that the file was made from.
        image: the encoded image.
        checked: whether the record carried a checksum, which was right.
    """

    labels: np.ndarray
    number: int
    image: Buffer
    checked: bool = False


def split_word(word: int) -> Tuple[int, int]:
    """Split a part's word into (kind, length)."""
    return word >> 29, word & MAX_LENGTH


def checksum_of(content: Buffer) -> int:
    """Return the value of the header's last field: the CRC-32 of the content without that field, above it our tag."""
    return CHECKSUM_TAG << 32 | zlib.crc32(content[HEADER.size :], zlib.crc32(content[: HEADER.size - 8]))


def _frame(kind: int, part: Buffer) -> List[Buffer]:
    return [FRAME.pack(MAGIC, kind << 29 | len(part)), part, bytes(-len(part) % 4)]


def pack(labels: np.ndarray, number: int, image: bytes) -> bytes:
    """Return a framed record with a checksum. One label goes into the header, several follow it."""
    labels = np.asarray(labels, dtype='<f4').reshape(-1)
    flag, first = (0, float(labels[0])) if labels.size == 1 else (labels.size, 0.0)
    further = labels.tobytes() if flag else b''
    body = HEADER.pack(flag, first, number, 0)[:-8] + bytes(8) + further + image
    if len(body) > MAX_LENGTH:
        raise ValueError(f'an image of {len(image)} bytes is too long for a record, whose limit is {MAX_LENGTH} bytes')
    content = body[: HEADER.size - 8] + struct.pack('<Q', checksum_of(body)) + body[HEADER.size :]
    cuts = []
    position = content.find(_MAGIC_BYTES)
    while position >= 0:
        if position % 4 == 0:
            cuts.append(position)
            position += 3
        position = content.find(_MAGIC_BYTES, position + 1)
    if not cuts:
        return b''.join(_frame(WHOLE, content))
    starts, ends = [0, *(cut + 4 for cut in cuts)], [*cuts, len(content)]
    kinds = [FIRST, *[MIDDLE] * (len(cuts) - 1), LAST]
    return b''.join(piece for kind, a, b in zip(kinds, starts, ends) for piece in _frame(kind, content[a:b]))


def content_of(data: Buffer) -> Buffer:
    """Return the content of the framed record that fills `data`. Raises `DamagedRecord`."""
    position, parts = 0, []
    while True:
        if len(data) - position < FRAME.size:
            raise DamagedRecord('it ends inside a frame')
        magic, word = FRAME.unpack_from(data, position)
        kind, length = split_word(word)
        if magic != MAGIC:
            raise DamagedRecord('its magic number is wrong')
        if kind not in ((WHOLE, FIRST) if not parts else (MIDDLE, LAST)):
            raise DamagedRecord(f'a part of it is of the kind {kind}, which cannot stand there')
        start, position = position + FRAME.size, position + FRAME.size + length + -length % 4
        if position > len(data):
            raise DamagedRecord(f'its length of {length} bytes reaches beyond its end')
        if any(data[start + length : position]):
            raise DamagedRecord('the bytes that fill it up are not 0')
        parts.append(data[start : start + length])
        if kind in (WHOLE, LAST):
            break
    if position != len(data):
        raise DamagedRecord(f'its length of {length} bytes ends before the next record begins')
    return parts[0] if len(parts) == 1 else _MAGIC_BYTES.join(parts)


def parse(data: Buffer, check: bool = True) -> Record:
    """Parse the record that fills `data`, frame included; compare its checksum if `check`. Raises `DamagedRecord`."""
    content = content_of(data)
    if len(content) < HEADER.size:
        raise DamagedRecord(f'its {len(content)} bytes are too few for a header')
    flag, label, number, checksum = HEADER.unpack_from(content)
    start = HEADER.size + 4 * flag
    if start > len(content):
        raise DamagedRecord(f'its header announces {flag} labels, for which it is too short')
    tagged = checksum >> 32 == CHECKSUM_TAG
    if check and tagged and checksum != checksum_of(content):
        raise DamagedRecord('its checksum does not fit its content')
    labels = np.frombuffer(content, '<f4', flag, HEADER.size) if flag else np.array([label], dtype=np.float32)
    return Record(labels, number, content[start:], tagged)
