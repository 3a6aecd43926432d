"""What a RecordIO file is made from: folders of class folders, tar files, `.lst` files, other RecordIO files."""

from __future__ import annotations

import hashlib
import lzma
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

from environment import UsageError, UserError
from environment.files import explained
from environment.form import is_below
from environment.text import printable
from inference.images import SUFFIXES, ImageError, images_below, is_image
from training.data.recordio.framing import DamagedRecord, parse
from training.data.recordio.index import read_list
from training.data.recordio.records import walk
from training.data.tree import TRAIN, held_out_part, without_outer_folder

__all__ = ['Listing', 'Slices', 'list_images']


@dataclass(frozen=True)
class Listing:
    """Images to be packed into one file, in their order.

    Attributes:
        numbers, labels, names: of each image; the number becomes the record's key.
        store: `read(i)` gives the i-th image, encoded; `ImageError`.
        class_names: if known.
        damaged: sentences about what the source has lost before it was listed.
    """

    source: str
    numbers: List[int]
    labels: List[Tuple[float, ...]]
    names: List[str]
    store: Any
    class_names: Tuple[str, ...] = ()
    damaged: Tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.numbers)

    def title(self, i: int) -> str:
        """What the i-th image is called in messages."""
        return f'{self.source}/{self.names[i]}' if self.names[i] else f'record {self.numbers[i]} of {self.source}'

    def digest(self) -> str:
        """Tells listings apart: numbers, labels, names and classes, in hexadecimal."""
        digest = hashlib.sha256('\n'.join(self.class_names).encode('utf-8', 'surrogateescape'))
        for entry in zip(self.numbers, self.labels, self.names):
            digest.update(repr(entry).encode('utf-8', 'surrogateescape'))
        return digest.hexdigest()

    def shuffled(self, seed: int) -> Listing:
        """The same images, each with its number, in a random order: for readers that shuffle badly."""
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


class Slices:
    """Parts of a file, each an (offset, size)."""

    def __init__(self, path: Path, places: List[Tuple[int, int]]) -> None:
        self.path, self.places = path, places
        with explained('read', path):
            self._file = os.open(path, os.O_RDONLY)

    def __del__(self) -> None:
        if hasattr(self, '_file'):
            os.close(self._file)

    def read(self, i: int) -> bytes:
        """The i-th part; `ImageError` if the file has become shorter."""
        offset, size = self.places[i]
        data = os.pread(self._file, size, offset)
        if len(data) < size:
            raise ImageError(f'{self.path} ends inside the image at byte {offset}')
        return data


class _Records(Slices):
    def read(self, i: int) -> bytes:
        try:
            return bytes(parse(super().read(i)).image)
        except DamagedRecord as error:
            raise ImageError(f'the record at byte {self.places[i][0]} of {self.path} is damaged: {error}') from error


def list_images(source: Path, root: Optional[Path] = None) -> Dict[str, Listing]:
    """What is in `source`: {'train': ..., 'val': ...}, or one listing by another name.

    Args:
        source: a folder of class folders, directly or below train/ and val/ (test/); a tar file of one, or of one tar
            file for each class; an `.lst` file; a `.rec` file.
        root: where the paths of an `.lst` file begin; default: its own folder.
    """
    if source.is_dir():
        return _by_split(str(source), *_folder_tree(source))
    if not source.is_file():
        raise UsageError(f'{source} does not exist; give a folder of class folders, a .tar, a .lst or a .rec file')
    if source.suffix == '.lst':
        return {source.stem: _list_file(source, root or source.parent)}
    if source.suffix == '.rec':
        return {source.stem: _record_file(source)}
    if source.suffix == '.tar':
        return _by_split(str(source), *_tar_tree(source))
    raise UsageError(f'{source} is no folder, .tar, .lst or .rec file; unpack a compressed tar file first')


def _folder_tree(root: Path) -> Tuple[List[str], Any]:
    return sorted(images_below(root)), lambda chosen: _Files(root, chosen)


def _tar_tree(archive: Path) -> Tuple[List[str], Any]:
    places: Dict[str, Tuple[int, int]] = {}
    try:
        with open(archive, 'rb') as file, tarfile.open(fileobj=file, mode='r:') as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if member.isfile() and is_image(str(path)):
                    places[str(path)] = member.offset_data, member.size
                elif member.isfile() and path.suffix == '.tar':
                    # One tar file for each class inside, as ImageNet's training images come.
                    with open(archive, 'rb') as inner:
                        inner.seek(member.offset_data)
                        with tarfile.open(fileobj=inner, mode='r:') as part:
                            for image in part:
                                name = PurePosixPath(image.name)
                                if image.isfile() and is_image(str(name)):
                                    places[f'{path.with_suffix("")}/{name}'] = image.offset_data, image.size
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise UserError(
            f'{archive} is no intact tar file ({error}); get it again, or unpack it if it is compressed'
        ) from error
    places = without_outer_folder(places)
    return sorted(places), lambda chosen: Slices(archive, [places[full] for full in chosen])


def _by_split(source: str, paths: List[str], make_store: Any) -> Dict[str, Listing]:
    tops = {path.split('/', 1)[0] for path in paths if '/' in path}
    held_out = held_out_part(tops) if TRAIN in tops else None
    parts = {TRAIN: TRAIN + '/' if TRAIN in tops else ''}
    if held_out:
        parts['val'] = held_out + '/'
    class_names: List[str] = []
    listings = {}
    for split, prefix in parts.items():
        chosen = [path for path in paths if path.startswith(prefix)]
        inner = [path[len(prefix) :].split('/', 1) for path in chosen]
        outside = next((path for path, words in zip(chosen, inner) if len(words) < 2), None)
        if outside:
            raise UserError(f'{source}/{outside} lies outside the class folders; move it into one or remove it')
        if split == TRAIN:
            class_names = sorted({words[0] for words in inner})
        if not class_names:
            raise UserError(
                f'{source} has no class folders with images ({", ".join(sorted(SUFFIXES))}), directly or below train/'
            )
        label = {name: i for i, name in enumerate(class_names)}
        unknown = next((words[0] for words in inner if words[0] not in label), None)
        if unknown is not None:
            raise UserError(
                f'{source}/{prefix}{unknown} is a class that {TRAIN}/ does not have; add it there or remove it'
            )
        listings[split] = Listing(
            source,
            list(range(len(chosen))),
            [(float(label[words[0]]),) for words in inner],
            chosen,
            make_store(chosen),
            tuple(class_names),
        )
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
    return Listing(str(root), numbers, labels, names, _Files(root, names))


def _record_file(path: Path) -> Listing:
    """All intact records of a file, found without its index."""
    numbers, labels, places, damaged = [], [], [], []
    for offset, data, fault in walk(path):
        try:
            if fault is not None:
                raise DamagedRecord(fault)
            record = parse(data)
        except DamagedRecord as error:
            damaged.append(f'the record at byte {offset} of {path} is damaged: {error}')
            continue
        numbers.append(record.number)
        labels.append(tuple(record.labels.tolist()))
        places.append((offset, len(data)))
    if not numbers:
        raise UserError(f'{path} has no intact record ({damaged[0] if damaged else "it is empty"}); get it again')
    if len(set(numbers)) != len(numbers):
        numbers = list(range(len(numbers)))
    names = [''] * len(numbers)
    return Listing(str(path), numbers, labels, names, _Records(path, places), (), tuple(damaged))
