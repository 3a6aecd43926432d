"""List the images to pack: from class folders, tar files, `.lst` files or other RecordIO files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from common.schema import is_below
from common.text import printable
from data.archive import Slices, tar_places
from data.images import ImageError
from data.layout import Layout, folder_layout
from data.recordio.framing import DamagedRecord, label_fault, parse
from data.recordio.index import read_list
from data.recordio.parts import joined_name
from data.recordio.records import walk
from environment import UsageError, UserError

__all__ = ['Listing', 'join_records', 'list_images']


@dataclass(frozen=True)
class Listing:
    """Images to be packed into one file, in order.

    Attributes:
        numbers, labels, names: of each image; the number becomes the record's key.
        store: `read(i)` returns the i-th image, encoded, or raises `ImageError`.
        class_names: if known.
        damaged: sentences about images that the source had lost before it was listed.
        told: how the folders of the source were interpreted.
    """

    source: str
    numbers: List[int]
    labels: List[Tuple[float, ...]]
    names: List[str]
    store: Any
    class_names: Tuple[str, ...] = ()
    damaged: Tuple[str, ...] = ()
    told: str = ''

    def __len__(self) -> int:
        return len(self.numbers)

    def title(self, i: int) -> str:
        """Return what messages call the i-th image."""
        return f'{self.source}/{self.names[i]}' if self.names[i] else f'record {self.numbers[i]} of {self.source}'

    def digest(self) -> str:
        """Return a hash of numbers, labels, names and classes that identifies the listing, in hexadecimal."""
        digest = hashlib.sha256('\n'.join(self.class_names).encode('utf-8', 'surrogateescape'))
        for entry in zip(self.numbers, self.labels, self.names):
            digest.update(repr(entry).encode('utf-8', 'surrogateescape'))
        return digest.hexdigest()

    def shuffled(self, seed: int) -> Listing:
        """Return the images in random order, each with its number, for readers that shuffle poorly."""
        order = np.argsort(
            np.random.Philox(key=np.array([seed, 0], dtype=np.uint64)).random_raw(len(self)), kind='stable'
        )
        pick = lambda values: [values[i] for i in order]  # noqa: E731
        return Listing(
            self.source,
            pick(self.numbers),
            pick(self.labels),
            pick(self.names),
            _Reordered(self.store, order),
            self.class_names,
            self.damaged,
        )


class _Reordered:
    def __init__(self, store: Any, order: np.ndarray) -> None:
        self.store, self.order = store, order

    def read(self, i: int) -> bytes:
        return self.store.read(int(self.order[i]))


class _Files:
    def __init__(self, root: Path, names: List[str]) -> None:
        self.root, self.names = root, names

    def read(self, i: int) -> bytes:
        path = self.root / self.names[i]
        try:
            return path.read_bytes()
        except OSError as error:
            raise ImageError(f'{path} cannot be read ({error.strerror})') from error


class _Records(Slices):
    def read(self, i: int) -> bytes:
        try:
            return bytes(parse(super().read(i)).image)
        except DamagedRecord as error:
            raise ImageError(f'the record at byte {self.places[i][0]} of {self.path} is damaged: {error}') from error


def list_images(source: Path, root: Optional[Path] = None) -> Dict[str, Listing]:
    """List the images of `source`: {'train': ..., 'val': ...}, or one listing under another name.

    Args:
        source: a folder of class folders, directly or below train/ and val/ (test/); a tar file of one, or of one tar
            file per class; an `.lst` file; a `.rec` file.
        root: the folder that paths in an `.lst` file are relative to; default: the file's own.
    """
    if source.is_dir():
        layout = folder_layout(source)
        return _by_part(layout, lambda paths: _Files(source, paths))
    if not source.is_file():
        raise UsageError(f'{source} does not exist; give a folder of class folders, a .tar, a .lst or a .rec file')
    if source.suffix == '.lst':
        return {source.stem: _list_file(source, root or source.parent)}
    if source.suffix == '.rec':
        return {source.stem: _record_file(source)}
    if source.suffix == '.tar':
        layout, places = tar_places(source)
        return _by_part(layout, lambda paths: Slices(source, [places[path] for path in paths]))
    raise UsageError(f'{source} is not a folder, .tar, .lst or .rec file; unpack a compressed tar file first')


def _by_part(layout: Layout, make_store: Callable[[List[str]], Any]) -> Dict[str, Listing]:
    """Key the listings by part. A held-out part is called val if it is the only one."""
    place, start = f'{layout.name}/{layout.outer}'.rstrip('/'), len(layout.outer)
    told = layout.sentence(otherwise=': all images go into train.rec')
    listings = {}
    for part in layout.parts or ('train',):
        paths, labels = layout.members(part)
        numbers, each = list(range(len(paths))), [(float(label),) for label in labels]
        names = [path[start:] for path in paths]
        listings[part] = Listing(place, numbers, each, names, make_store(paths), layout.class_names, told=told)
    if set(listings) == {'train', 'test'}:
        listings['val'] = listings.pop('test')
    return listings


def _list_file(path: Path, root: Path) -> Listing:
    entries = read_list(path)
    if not entries:
        raise UserError(f'{path} names no images')
    numbers, labels, names = (list(column) for column in zip(*entries))
    outside = next((name for name in names if not is_below(name)), None)
    if outside is not None:
        raise UserError(
            f'{path} names the image {printable(outside)}, which is not below {root}; write paths that begin in one '
            'folder, and name that with --root'
        )
    return Listing(str(root), numbers, [(label,) for label in labels], names, _Files(root, names))


class _Joined:
    """Several stores, concatenated."""

    def __init__(self, listings: Sequence[Listing]) -> None:
        self.places = [(listing, i) for listing in listings for i in range(len(listing))]

    def read(self, i: int) -> bytes:
        listing, place = self.places[i]
        return listing.store.read(place)


def join_records(paths: Sequence[Path]) -> Dict[str, Listing]:
    """List the images of several `.rec` files, in this order, as one: {its name: ...}; see `joined_name`."""
    other = next((path for path in paths if path.suffix != '.rec'), None)
    if other is not None:
        raise UsageError(f'{other} is no .rec file, and only those are joined; give one source for each start')
    listings = [next(iter(list_images(path).values())) for path in paths]
    numbers = [number for listing in listings for number in listing.numbers]
    return {
        joined_name([path.stem for path in paths]): Listing(
            ' and '.join(map(str, paths)),
            numbers if len(set(numbers)) == len(numbers) else list(range(len(numbers))),
            [labels for listing in listings for labels in listing.labels],
            [''] * len(numbers),
            _Joined(listings),
            damaged=tuple(sentence for listing in listings for sentence in listing.damaged),
        )
    }


def _record_file(path: Path) -> Listing:
    """List all intact records of a file, found without its index."""
    numbers, labels, places, damaged = [], [], [], []
    for offset, data, fault in walk(path):
        try:
            if fault is not None:
                raise DamagedRecord(fault)
            record = parse(data)
        except DamagedRecord as error:
            damaged.append(f'the record at byte {offset} of {path} is damaged: {error}')
            continue
        wrong = label_fault(record.labels)
        if wrong:
            damaged.append(f'record {record.number} of {path} {wrong}')
            continue
        numbers.append(record.number)
        labels.append(tuple(record.labels.tolist()))
        places.append((offset, len(data)))
    if not numbers:
        raise UserError(f'{path} has nothing to pack: {damaged[0] if damaged else "it is empty"}; get another file')
    if len(set(numbers)) != len(numbers):
        numbers = list(range(len(numbers)))
    names = [''] * len(numbers)
    return Listing(str(path), numbers, labels, names, _Records(path, places), (), tuple(damaged))
