"""Check RecordIO files record by record, and rebuild their index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from common.files import atomic_write
from data.archive import Slices
from data.images import ImageError, read_image
from data.recordio.framing import DamagedRecord, label_fault, parse
from data.recordio.index import index_text, read_index
from data.recordio.packing import decoder_complaints, in_chunks
from data.recordio.records import RecordFile, walk
from environment import UserError

__all__ = ['Checked', 'check_file', 'write_index']


@dataclass(frozen=True)
class Checked:
    """The faults of a RecordIO file.

    Attributes:
        count: number of records, including bad ones.
        labels: number of distinct labels; largest: the largest of them.
        checksums: whether all intact records carry a checksum, so that every flipped bit is detected.
        bad: a sentence for each bad record, and for an index that does not match.
        doubtful: a sentence for each image that the decoder complained about.
    """

    count: int
    labels: int
    largest: Optional[float]
    checksums: bool
    bad: Tuple[str, ...]
    doubtful: Tuple[str, ...]


def check_file(path: Path, classes: Optional[int] = None, threads: int = 1) -> Checked:
    """Check every frame, checksum and label, decode every image, and compare the index."""
    keys = _keys(path)
    places: List[Tuple[int, int]] = []
    bad: Dict[int, str] = {}
    for offset, data, fault in walk(path):
        if fault is None:
            places.append((offset, len(data)))
        else:
            bad[offset] = f'{_title(path, keys, offset)} is damaged: {fault}'
    count = len(places) + len(bad)
    store = Slices(path, places)

    def examine(i: int) -> Any:
        """Return (label, whether there is a checksum), or what is wrong."""
        title = _title(path, keys, places[i][0])
        try:
            record = parse(store.read(i))
            fault = label_fault(record.labels, classes)
            if fault:
                return f'{title} {fault}'
            read_image(record.image, title)
        except DamagedRecord as error:
            return f'{title} is damaged: {error}'
        except ImageError as error:
            return str(error)
        return float(record.labels[0]), record.checked

    intact: List[Tuple[float, bool]] = []
    doubtful: List[str] = []
    with decoder_complaints() as quietly:
        for i, result, complaint in in_chunks(len(places), 0, examine, quietly, threads, path.name):
            if isinstance(result, str):
                bad[places[i][0]] = result
                continue
            intact.append(result)
            if complaint:
                title = _title(path, keys, places[i][0])
                doubtful.append(f'{title} decodes with complaints ({complaint.splitlines()[0]})')
    sentences = [sentence for _, sentence in sorted(bad.items())]
    try:
        RecordFile(path).close()
    except UserError as error:
        sentences += [str(error)] if str(error) not in sentences else []
    labels = [label for label, _ in intact]
    checksums = bool(intact) and all(checked for _, checked in intact)
    return Checked(count, len(set(labels)), max(labels, default=None), checksums, tuple(sentences), tuple(doubtful))


def _keys(path: Path) -> Dict[int, int]:
    """Return {offset: key} from the index as far as it can be read, to name records."""
    try:
        keys, offsets = read_index(path.with_suffix('.idx'), path)
    except UserError:  # told when the file is opened with its index
        return {}
    return dict(zip(offsets.tolist(), keys.tolist()))


def _title(path: Path, keys: Dict[int, int], offset: int) -> str:
    return f'record {keys[offset]} of {path}' if offset in keys else f'the record at byte {offset} of {path}'


def write_index(path: Path) -> int:
    """Rebuild the `.idx` file and return the number of records. Raises `UserError` for a damaged file."""
    numbers, offsets = [], []
    for offset, data, fault in walk(path):
        try:
            if fault is not None:
                raise DamagedRecord(fault)
            numbers.append(parse(data).number)
        except DamagedRecord as error:
            raise UserError(
                f'the record at byte {offset} of {path} is damaged: {error}; python scripts/make_recordio.py {path} '
                'FOLDER --leave-out packs the intact ones into a new file'
            ) from error
        offsets.append(offset)
    if not offsets:
        raise UserError(f'{path} is empty; get the file again')
    if len(set(numbers)) != len(numbers):
        numbers = list(range(len(numbers)))
    atomic_write(path.with_suffix('.idx'), lambda file: file.write(index_text(numbers, offsets)))
    return len(offsets)
