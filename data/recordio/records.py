"""Access the images of a RecordIO file at random, from any number of threads.

Opening a file reads its index and the header of every record, and compares them with each other and with the file's
length: a truncated file, a stale index or a wrong label is reported before training begins. Records are read with
`pread`, not through a memory map, where a file that shrinks during a run would kill the process.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO, Iterator, List, Optional, Tuple, Union

import numpy as np
from tqdm import tqdm

from common.files import explained
from data.recordio.framing import (
    CHECKSUM_TAG,
    FRAME,
    HEAD,
    LABELS,
    MAGIC,
    MAX_LENGTH,
    WHOLE,
    DamagedRecord,
    Record,
    content_of,
    label_fault,
    parse,
    split_word,
)
from data.recordio.index import read_index
from environment import UserError

__all__ = ['RecordFile', 'walk']

CHUNK = 4096  # heads
THREADS = 8  # that read heads: on a network disk each waits
REMEDY = (
    'make a new index with python scripts/make_recordio.py --index {0}, or get the file again; '
    'python scripts/make_recordio.py --check {0} lists its bad records'
)


class RecordFile:
    """The images of a `.rec` file and their labels.

    Args:
        path: the file.
        index: its index; default: the same name ending in `.idx`.

    Attributes:
        keys: (N,) int64, the records' names in the index.
        labels: (N,) float32; whole numbers, 0 or more.
        checked: whether the records carry checksums.

    Raises:
        UserError: the file or its index is missing, empty or damaged, the two do not match, or a label is invalid.
    """

    def __init__(self, path: Union[str, os.PathLike], index: Optional[Union[str, os.PathLike]] = None) -> None:
        self.path = Path(path)
        index_path = Path(index) if index else self.path.with_suffix('.idx')
        with explained('read', self.path):
            self._file = os.open(self.path, os.O_RDONLY)
        try:
            self._size = os.fstat(self._file).st_size
            if self._size == 0:
                raise UserError(f'{self.path} is empty; get the file again')
            if hasattr(os, 'posix_fadvise'):  # no reading ahead: the order is random
                os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)
            self.keys, self._offsets = read_index(index_path, self.path)
            self._index_path = index_path
            heads = self._heads()
            self._spans = self._check(heads)
            self.labels = self._labels(heads)
            self.checked = self._checksums(heads)
        except BaseException:
            self.close()
            raise
        # A file is not expected to rot while it is read: each checksum is compared once.
        self._verified = np.zeros(len(self.keys), dtype=bool)

    def __len__(self) -> int:
        return len(self.keys)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. May be called repeatedly."""
        file, self._file = getattr(self, '_file', None), None
        if file is not None:
            os.close(file)

    def name(self, i: int) -> str:
        """Name a record for messages: 'record 7 of FILE'."""
        return f'record {self.keys[i]} of {self.path}'

    def read(self, i: int) -> Record:
        """Return the i-th record of the index.

        Raises `DamagedRecord`, also for a file that has changed since it was opened.
        """
        span = int(self._spans[i])
        data = self._pread(span, int(self._offsets[i]))
        if len(data) < span:
            raise DamagedRecord('the file has become shorter since it was opened')
        record = parse(memoryview(data), check=not self._verified[i])
        self._verified[i] = True
        return record

    def _pread(self, count: int, offset: int) -> bytes:
        try:
            return os.pread(self._file, count, offset)
        except OSError as error:
            raise DamagedRecord(f'it cannot be read ({error.strerror})') from error

    def _heads(self) -> np.ndarray:
        """Read frame and header of every record, (N,) of dtype `HEAD`.

        Raises `UserError` if one lies beyond the file's end.
        """
        far = int(self._offsets.argmax())
        if self._offsets[far] + HEAD.itemsize > self._size:
            raise UserError(
                f'{self._index_path} says that {self.name(far)} begins at byte {self._offsets[far]}, but the file ends '
                f'at byte {self._size}: it is truncated, or the index is stale; {REMEDY.format(self.path)}'
            )
        offsets = self._offsets.tolist()

        def read(start: int) -> List[bytes]:
            return [os.pread(self._file, HEAD.itemsize, offset) for offset in offsets[start : start + CHUNK]]

        heads: List[bytes] = []
        with explained('read', self.path), ThreadPoolExecutor(THREADS) as pool:
            with tqdm(total=len(offsets), unit='record', desc=self.path.name, delay=2, disable=None) as bar:
                for chunk in pool.map(read, range(0, len(offsets), CHUNK)):
                    heads += chunk
                    bar.update(len(chunk))
        return np.frombuffer(b''.join(heads), HEAD).copy()

    def _check(self, heads: np.ndarray) -> np.ndarray:
        """Return each record's length in bytes, frame included. Raises `UserError` unless the records fill the file."""
        wrong = np.flatnonzero(heads['magic'] != MAGIC)
        if len(wrong):
            raise UserError(
                f'{self._index_path} says that {self.name(wrong[0])} begins at byte {self._offsets[wrong[0]]}, where '
                f'none begins ({len(wrong)} of {len(heads)} are like this): the index is stale or the file damaged; '
                + REMEDY.format(self.path)
            )
        order = np.argsort(self._offsets, kind='stable')
        following = np.append(self._offsets[order][1:], self._size)
        spans = np.empty(len(order), dtype=np.int64)
        spans[order] = following - self._offsets[order]
        lengths = (heads['word'] & MAX_LENGTH).astype(np.int64)
        told = FRAME.size + lengths + -lengths % 4
        for i in np.flatnonzero(heads['word'] >> 29 != WHOLE):  # few, and seldom any
            told[i] = self._joined(int(self._offsets[i]), int(spans[i]), heads[i : i + 1])
        if self._offsets[order[0]] != 0:
            raise UserError(
                f'{self._index_path} lacks the first record of {self.path}, its earliest is {self.keys[order[0]]} at '
                f'byte {self._offsets[order[0]]}: the index is stale; {REMEDY.format(self.path)}'
            )
        wrong = np.flatnonzero(told[order] != spans[order])
        if len(wrong):
            i = order[wrong[0]]
            if wrong[0] == len(order) - 1 and told[i] > spans[i]:
                reason = f'the file ends inside {self.name(i)}: it is truncated'
            elif wrong[0] == len(order) - 1:
                reason = (
                    f'{self.path} goes on after record {self.keys[i]}, the last that {self._index_path} names: '
                    'the index is stale'
                )
            else:
                reason = (
                    f'{self.name(i)} is {told[i]} bytes long, but {self._index_path} lets the next begin after '
                    f'{spans[i]}: the index is stale or the file damaged'
                )
            raise UserError(f'{reason}; {REMEDY.format(self.path)}')
        return spans

    def _joined(self, offset: int, span: int, head: np.ndarray) -> int:
        """Check a record in parts and store its header in `head`, even if split; return its length, -1 if damaged."""
        try:
            content = content_of(self._pread(span, offset))
        except DamagedRecord:
            return -1
        start = FRAME.size
        if len(content) >= HEAD.itemsize - start:
            head.view(np.uint8)[start:] = np.frombuffer(content, np.uint8, HEAD.itemsize - start)
        return span

    def _labels(self, heads: np.ndarray) -> np.ndarray:
        labels = heads['label'].copy()
        too_short = (heads['word'] >> 29 == WHOLE) & ((heads['word'] & MAX_LENGTH) < HEAD.itemsize - FRAME.size)
        for i in np.flatnonzero((heads['flag'] != 0) | too_short):
            try:
                record = parse(self._pread(int(self._spans[i]), int(self._offsets[i])))
            except DamagedRecord as error:
                raise UserError(f'{self.name(i)} has no usable label: {error}; {REMEDY.format(self.path)}') from error
            if record.labels.size != 1:
                raise UserError(f'{self.name(i)} {label_fault(record.labels)}')
            labels[i] = record.labels[0]
        with np.errstate(invalid='ignore'):
            wrong = np.flatnonzero(~((labels >= 0) & (labels < LABELS) & (labels == np.floor(labels))))
        if len(wrong):
            raise UserError(
                f'{self.name(wrong[0])} {label_fault(labels[wrong[:1]])} ({len(wrong)} of {len(labels)} are like '
                'this): pack the images again with the right labels'
            )
        return labels

    def _checksums(self, heads: np.ndarray) -> bool:
        tagged = heads['checksum'] >> np.uint64(32) == CHECKSUM_TAG
        # In our files either all records have one, or a bit of the file has flipped.
        if tagged.any() and not tagged.all():
            i = np.flatnonzero(~tagged)[0]
            raise UserError(
                f'{self.name(i)} has lost its checksum, which others in the file have: it is damaged; '
                + REMEDY.format(self.path)
            )
        renamed = np.flatnonzero(heads['number'] != self.keys) if tagged.all() else []
        if len(renamed):
            i = renamed[0]
            raise UserError(
                f'{self._index_path} calls a record {self.keys[i]} whose own number is {heads["number"][i]}: one '
                f'of the two is damaged; {REMEDY.format(self.path)}'
            )
        return bool(tagged.all())


def walk(path: Union[str, os.PathLike]) -> Iterator[Tuple[int, bytes, Optional[str]]]:
    """Yield (offset, framed record, what is wrong with its frame or None) for a RecordIO file without using its index.

    After damage it continues at the next magic number that can begin a record.
    """
    with explained('read', path), open(path, 'rb') as file:
        size = os.fstat(file.fileno()).st_size
        position = 0
        while position < size:
            data, fault = _record_at(file, position, size)
            if fault is None:
                yield position, data, None
                position += len(data)
            else:
                following = _next_record(file, position + 4, size)
                yield position, b'', fault
                position = following


def _record_at(file: BinaryIO, position: int, size: int) -> Tuple[bytes, Optional[str]]:
    """Return the framed record at `position` with all its parts, or what is wrong."""
    parts, start = [], position
    while True:
        frame = os.pread(file.fileno(), FRAME.size, position)
        if len(frame) < FRAME.size:
            return b'', 'the file ends inside a frame: it is truncated'
        magic, word = FRAME.unpack(frame)
        if magic != MAGIC:
            return b'', 'no record begins there' if not parts else 'a part of it is missing'
        kind, length = split_word(word)
        if (kind in (0, 1)) != (not parts):
            return b'', f'a part is of the kind {kind}, which cannot stand there'
        span = FRAME.size + length + -length % 4
        if position + span > size:
            return b'', f'its length of {length} bytes reaches beyond the end of the file'
        parts.append(span)
        position += span
        if kind in (0, 3):
            return os.pread(file.fileno(), position - start, start), None


def _next_record(file: BinaryIO, position: int, size: int) -> int:
    """Return the offset of the next magic number at a multiple of 4 bytes; `size` if there is none."""
    block = 1 << 20
    magic = FRAME.pack(MAGIC, 0)[:4]
    while position < size:
        data = os.pread(file.fileno(), block + 4, position)
        found = data.find(magic)
        while found >= 0 and (position + found) % 4:
            found = data.find(magic, found + 1)
        if found >= 0:
            return position + found
        position += block
    return size
