"""Create a RecordIO file: decode every image to verify it, scale it down if asked to, and frame it with a checksum.

The file grows as FILE.rec.part, in the listing's order, and is renamed when complete. A second start continues where
the first was interrupted, and produces the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple

import cv2
import numpy as np
from tqdm import tqdm

from common.files import atomic_write, explained, sha256_file, write_json
from common.schema import TABLE, read_json
from data.images import ImageError, read_image
from data.pixels import one_thread_each, shrink
from data.recordio.framing import DamagedRecord, pack, parse
from data.recordio.index import index_text, list_line
from data.recordio.listing import Listing
from data.recordio.records import walk
from environment import UserError

__all__ = ['Packed', 'Quietly', 'decoder_complaints', 'in_chunks', 'pack_images']

CHUNK = 256


@dataclass(frozen=True)
class Packed:
    """A finished file, or one that was abandoned because images cannot be read.

    Attributes:
        unreadable, doubtful: a sentence for each image left out, and for each that the decoder complained about.
        sha256: of the file, '' if it was abandoned.
        beside: the SHA-256 of its .idx and its .lst.
    """

    path: Path
    count: int
    bytes: int
    sha256: str
    unreadable: Tuple[str, ...]
    doubtful: Tuple[str, ...]
    beside: Mapping[str, str] = field(default_factory=dict)


class Quietly:
    """Redirect stderr while decoders write their complaints to a file of ours."""

    def __init__(self, stream: Any, complaints: int) -> None:
        self.stream, self._complaints, self._read = stream, complaints, 0

    def complained(self) -> str:
        """Return what was written since the last call."""
        text = os.pread(self._complaints, 1 << 20, self._read)
        self._read = os.fstat(self._complaints).st_size
        return text.decode(errors='replace').strip()


@contextmanager
def decoder_complaints() -> Iterator[Quietly]:
    """Capture the complaints of libjpeg, which repairs what it can and reports it only on the process's stderr."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as complaints, os.fdopen(os.dup(2), 'w') as stream:
        os.dup2(complaints.fileno(), 2)
        try:
            yield Quietly(stream, complaints.fileno())
        finally:
            stream.flush()
            os.dup2(stream.fileno(), 2)


def in_chunks(
    count: int, first: int, decode: Callable[[int], Any], quietly: Quietly, threads: int, title: str
) -> Iterator[Tuple[int, Any, str]]:
    """Yield (i, decode(i), the decoder's complaint or '') for i from `first` to `count` - 1, with a progress bar.

    Complaints do not name their image, so the images of a chunk with complaints are decoded again, one by one.
    """
    one_thread_each()
    with ThreadPoolExecutor(threads) as pool, tqdm(
        total=count, initial=first, unit='image', desc=title, file=quietly.stream, disable=None
    ) as bar:
        for start in range(first, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            quietly.complained()
            results = list(pool.map(decode, numbers))
            complaints = [''] * len(numbers)
            if quietly.complained():
                for k, i in enumerate(numbers):
                    decode(i)
                    complaints[k] = quietly.complained()
            yield from zip(numbers, results, complaints)
            bar.update(len(numbers))


def _encoded(listing: Listing, i: int, resize: Optional[int], quality: int) -> bytes:
    """Return the i-th image as it goes into the file. Raises `ImageError` if it cannot be decoded."""
    data = listing.store.read(i)
    image = read_image(data, listing.title(i))
    if resize is None or min(image.shape[:2]) <= resize:
        return data
    small = cv2.cvtColor(shrink(image, resize), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode('.jpg', small, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ImageError(f'{listing.title(i)} cannot be encoded as a JPEG')
    return encoded.tobytes()


_JOURNAL = {'settings': TABLE, 'unreadable': {...: str}, 'doubtful': {...: str}, ...: object}


class _Journal:
    """What a second start needs of the first: the same images and settings, and which images could not be read."""

    def __init__(self, path: Path, settings: Dict[str, Any]) -> None:
        self.path, self.settings = path, settings
        self.unreadable: Dict[int, str] = {}
        self.doubtful: Dict[int, str] = {}

    def load(self) -> bool:
        """Load the journal, and return whether there is one for these settings."""
        try:
            stored = read_json(self.path, _JOURNAL)
            if stored['settings'] != self.settings:
                return False
            self.unreadable = {int(i): sentence for i, sentence in stored['unreadable'].items()}
            self.doubtful = {int(i): sentence for i, sentence in stored['doubtful'].items()}
        except (OSError, ValueError):  # none, or not ours: start over
            return False
        return True

    def remove(self) -> None:
        """Delete the journal, which a finished file does not need."""
        self.path.unlink()

    def save(self) -> None:
        stored = {'settings': self.settings, 'unreadable': self.unreadable, 'doubtful': self.doubtful}
        atomic_write(self.path, lambda file: file.write(json.dumps(stored).encode()))


def _resume(part: Path, listing: Listing, journal: _Journal, still_bad: Callable[[int], bool]) -> Tuple[int, List[int]]:
    """Return (index to continue at, offsets of the records kept), and truncate `part` behind them."""
    offsets: List[int] = []
    place, end = 0, 0
    for offset, data, fault in walk(part):
        try:
            record = None if fault else parse(data)
        except DamagedRecord:
            record = None
        while place in journal.unreadable and still_bad(place):
            place += 1
        if record is None or not record.checked or place >= len(listing) or record.number != listing.numbers[place]:
            break
        offsets.append(offset)
        place, end = place + 1, offset + len(data)
    while place in journal.unreadable and still_bad(place):
        place += 1
    os.truncate(part, end)
    for sentences in (journal.unreadable, journal.doubtful):
        for i in [i for i in sentences if i >= place]:
            del sentences[i]
    return place, offsets


def pack_images(
    listing: Listing,
    path: Path,
    resize: Optional[int] = None,
    quality: int = 95,
    threads: int = 1,
    leave_out: bool = False,
    manifest: Optional[Callable[[Packed], Any]] = None,
) -> Packed:
    """Pack images into a RecordIO file.

    Args:
        listing: the images to pack, with their labels.
        path: the .rec file to write; its .idx and .lst are written beside it.
        resize: scale longer short sides down to this many pixels, as JPEG; other images stay byte-identical.
        quality: quality of these JPEGs.
        threads: number of decoding threads.
        leave_out: finish although images cannot be read. Otherwise they are all listed and the file is abandoned; a
            second start with this option continues from there.
        manifest: makes the content of a .json file beside it, which is written before the .rec file gets its final
            name, so that whoever finds the file also finds what it was made from.

    Raises:
        UserError: a full disk or the like; what was written stays for the next start.
    """
    settings = {'listing': listing.digest(), 'resize': resize, 'quality': quality if resize else None}
    part, journal = Path(f'{path}.part'), _Journal(Path(f'{path}.part.json'), settings)

    def encode(i: int) -> Any:
        try:
            return _encoded(listing, i, resize, quality)
        except ImageError as error:
            return error

    first, offsets = 0, []
    if part.is_file() and journal.load():
        with explained('write', part):
            first, offsets = _resume(part, listing, journal, lambda i: isinstance(encode(i), ImageError))
    else:
        with explained('write', part):
            part.write_bytes(b'')
    journal.save()
    with explained('write', part), open(part, 'ab') as file, decoder_complaints() as quietly:
        for i, result, complaint in in_chunks(len(listing), first, encode, quietly, threads, path.name):
            if isinstance(result, ImageError):
                journal.unreadable[i] = str(result)
                journal.save()
                continue
            if complaint:
                journal.doubtful[i] = f'{listing.title(i)} decodes with complaints ({complaint.splitlines()[0]})'
                journal.save()
            offsets.append(file.tell())
            file.write(pack(np.array(listing.labels[i]), listing.numbers[i], result))
        file.flush()
        os.fsync(file.fileno())
    return _finish(listing, path, part, journal, offsets, leave_out, manifest)


def _finish(
    listing: Listing,
    path: Path,
    part: Path,
    journal: _Journal,
    offsets: List[int],
    leave_out: bool,
    manifest: Optional[Callable[[Packed], Any]],
) -> Packed:
    unreadable = (*listing.damaged, *(sentence for _, sentence in sorted(journal.unreadable.items())))
    doubtful = tuple(sentence for _, sentence in sorted(journal.doubtful.items()))
    size = part.stat().st_size
    if unreadable and not leave_out:
        return Packed(path, len(offsets), size, '', unreadable, doubtful)
    if not offsets:
        raise UserError(f'{listing.source} has no image that can be read (the first: {unreadable[0]})')
    kept = [i for i in range(len(listing)) if i not in journal.unreadable]
    digest = sha256_file(part)
    lines = ''.join(list_line(listing.numbers[i], listing.labels[i], listing.names[i] or '-') for i in kept)
    contents = {
        '.lst': lines.encode('utf-8', 'surrogateescape'),
        '.idx': index_text([listing.numbers[i] for i in kept], offsets),
    }
    for suffix, content in contents.items():
        atomic_write(path.with_suffix(suffix), lambda file, content=content: file.write(content))
    beside = {suffix: hashlib.sha256(content).hexdigest() for suffix, content in contents.items()}
    packed = Packed(path, len(offsets), size, digest, unreadable, doubtful, beside)
    if manifest is not None:
        write_json(path.with_suffix('.json'), manifest(packed))
    with explained('write', path, str(part)):
        os.replace(part, path)
    journal.remove()
    return packed
