"""Read and write the text files beside a RecordIO file.

`.idx` holds the offset of each record, `.lst` what the records were made from, `classes.txt` the names of the labels.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Iterable, List, Sequence, Tuple

import numpy as np

from common.files import explained
from data.recordio.framing import label_fault
from environment import UserError

__all__ = ['CLASSES', 'class_count', 'index_text', 'list_line', 'read_class_names', 'read_index', 'read_list']

CLASSES = 'classes.txt'
# As float() and int() read them, without underscores and the digits of other scripts.
_NUMBER = re.compile(r'[0-9]{1,18}')
_LABEL = re.compile(r'[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|[+-]?(inf|nan)', re.IGNORECASE)
FEW = 100_000  # classes; more than this is suspicious
AGAIN = 'python scripts/make_recordio.py --index FILE.rec makes a new one'


def read_index(path: Path, record_path: Path) -> Tuple[np.ndarray, np.ndarray]:
    """Return (keys, offsets in bytes), int64, in file order. Raises `UserError` naming a line that is not an entry."""
    if not path.is_file():
        raise UserError(f'{record_path} needs its index {path}, which does not exist; {AGAIN}')
    with explained('read', path):
        text = path.read_bytes()
    words = text.split()
    if not words:
        raise UserError(f'the index {path} is empty; {AGAIN}')
    try:
        if len(words) % 2 or text.count(b'\n') + (not text.endswith(b'\n')) != len(words) // 2:
            raise ValueError
        # Digits alone: int() also takes signs, underscores and other scripts.
        if not all(map(bytes.isdigit, words)):
            raise ValueError
        table = np.array(words).astype(np.int64).reshape(-1, 2)
    except (ValueError, OverflowError):
        number = next((i for i, line in enumerate(text.split(b'\n'), 1) if not _is_entry(line)), 1)
        raise UserError(
            f'line {number} of the index {path} is not a key, a tab and a number of bytes; {AGAIN}'
        ) from None
    keys, offsets = table[:, 0].copy(), table[:, 1].copy()
    if len(np.unique(keys)) != len(keys):
        values, counts = np.unique(keys, return_counts=True)
        raise UserError(f'the index {path} names the record {values[counts > 1][0]} twice; {AGAIN}')
    return keys, offsets


def _is_entry(line: bytes) -> bool:
    words = line.split()
    return len(words) == 2 and all(word.isdigit() and len(word) < 19 for word in words)


def index_text(keys: Iterable[int], offsets: Iterable[int]) -> bytes:
    """Return the content of an `.idx` file."""
    return b''.join(b'%d\t%d\n' % pair for pair in zip(keys, offsets))


def list_line(number: int, labels: Sequence[float], name: str) -> str:
    """Return a line of an `.lst` file as MXNet's im2rec.py writes it."""
    return '\t'.join([str(number), *(f'{label:f}' for label in labels), name]) + '\n'


def read_list(path: Path) -> List[Tuple[int, float, str]]:
    """Return (number, label, path of the image) for every line of an `.lst` file.

    Raises:
        UserError: a line is malformed, or its label is not valid for classification; the sentence names it.
    """
    with explained('read', path), open(path, encoding='utf-8-sig', errors='surrogateescape') as file:
        lines = file.read().split('\n')
    entries = []
    for i, line in enumerate(lines, 1):
        if not line.strip():
            continue
        words = line.split('\t')
        if not _is_line(words):
            raise UserError(
                f'line {i} of {path} is not "number, label, path" with tabs between; write it as MXNet\'s im2rec.py '
                'does'
            )
        labels = [float(word) for word in words[1:-1]]
        fault = label_fault(labels)
        if fault:
            raise UserError(f'line {i} of {path} {fault}')
        entries.append((int(words[0]), labels[0], words[-1]))
    numbers = sorted(number for number, *_ in entries)
    for number, following in zip(numbers, numbers[1:]):
        if number == following:
            raise UserError(f'{path} has the number {number} twice; each image needs its own')
    return entries


def _is_line(words: Sequence[str]) -> bool:
    """Return whether the parts of a line are a valid index number, labels and a possible file name."""
    return (
        len(words) > 2
        and _NUMBER.fullmatch(words[0].strip()) is not None
        and all(_LABEL.fullmatch(word.strip()) for word in words[1:-1])
        and words[-1].strip() != ''
        and '\0' not in words[-1]
    )


def class_count(labels: np.ndarray, name: str) -> int:
    """Return the number of unnamed classes that labels require.

    Raises `UserError` if it is so large that a label is wrong.
    """
    largest = int(labels.max())
    if largest >= max(len(labels), FEW):
        raise UserError(
            f'{name} has labels up to {largest} on {len(labels)} images; number the classes from 0 on and pack the '
            'images again'
        )
    return largest + 1


def read_class_names(record_path: Path) -> Tuple[str, ...]:
    """Return the lines of `classes.txt` beside a RecordIO file; () if there is none."""
    path = record_path.with_name(CLASSES)
    if not path.is_file():
        return ()
    try:
        names = tuple(path.read_text(encoding='utf-8').splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read as class names, one a line ({error}); fix it or remove it') from error
    if len(set(names)) != len(names):
        raise UserError(f'{path} names a class twice; fix it or remove it')
    return names
