"""CIFAR-10 and CIFAR-100 from the files of their authors.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, https://www.cs.toronto.edu/~kriz/cifar.html

Both versions of the archives are read, packed or unpacked; nothing is unpacked on the disk and nothing is
unpickled.
"""

from __future__ import annotations

import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Dict, List, Optional, Tuple, Union

import numpy as np

from common.download import Checksum, check_file, download
from common.files import expanded, explained
from data.classification.cifar_names import CIFAR10, CIFAR100_COARSE, CIFAR100_FINE
from data.classification.cifar_pickle import PickleError, read_batch
from data.classification.dataset import ImageDataset
from data.images import images_below
from data.preprocessing import CIFAR_MEAN, CIFAR_STD, Preprocessing
from environment import UserError

__all__ = ['CIFAR', 'Archive', 'Cifar', 'load_cifar']

SITE = 'https://www.cs.toronto.edu/~kriz/'
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Archive:
    """One version of a dataset: the archive's name and MD5, the folder inside, and its files for each split."""

    name: str
    md5: str
    folder: str
    train: Tuple[str, ...]
    test: Tuple[str, ...]
    is_pickle: bool

    @property
    def files(self) -> Tuple[str, ...]:
        return self.train + self.test


@dataclass(frozen=True)
class Cifar:
    """A labelling of a dataset.

    Attributes:
        label_column, label_bytes: which of the bytes before an image (binary version) is the label.
        label_key: the entry with the labels (python version).
        train_images, test_images: how many there must be.
    """

    name: str
    title: str
    archives: Tuple[Archive, ...]
    class_names: Tuple[str, ...]
    label_bytes: int
    label_column: int
    label_key: str
    train_images: int = 50000
    test_images: int = 10000


_CIFAR10 = (
    Archive(
        'cifar-10-binary.tar.gz',
        'c32a1d4ab5d03f1284b67883e8d87530',
        'cifar-10-batches-bin',
        tuple(f'data_batch_{i}.bin' for i in range(1, 6)),
        ('test_batch.bin',),
        is_pickle=False,
    ),
    Archive(
        'cifar-10-python.tar.gz',
        'c58f30108f718f92721af3b95e74349a',
        'cifar-10-batches-py',
        tuple(f'data_batch_{i}' for i in range(1, 6)),
        ('test_batch',),
        is_pickle=True,
    ),
)
_CIFAR100 = (
    Archive(
        'cifar-100-binary.tar.gz',
        '03b5dce01913d631647c71ecec9e9cb8',
        'cifar-100-binary',
        ('train.bin',),
        ('test.bin',),
        is_pickle=False,
    ),
    Archive(
        'cifar-100-python.tar.gz',
        'eb9058c3a382ffc7106e4002c42a8d85',
        'cifar-100-python',
        ('train',),
        ('test',),
        is_pickle=True,
    ),
)
CIFAR = {
    'cifar10': Cifar('cifar10', 'CIFAR-10', _CIFAR10, CIFAR10, 1, 0, 'labels'),
    'cifar100': Cifar('cifar100', 'CIFAR-100', _CIFAR100, CIFAR100_FINE, 2, 1, 'fine_labels'),
    'cifar100_coarse': Cifar('cifar100_coarse', 'CIFAR-100', _CIFAR100, CIFAR100_COARSE, 2, 0, 'coarse_labels'),
}

# The content of files by their names.
Reader = Callable[[Tuple[str, ...]], List[bytes]]


def _folder_reader(folder: Path) -> Reader:
    def read(names: Tuple[str, ...]) -> List[bytes]:
        contents = []
        for path in (folder / name for name in names):
            with explained('read', path):
                contents.append(path.read_bytes())
        return contents

    return read


def _archive_reader(path: Path) -> Reader:
    def read(names: Tuple[str, ...]) -> List[bytes]:
        found: Dict[str, bytes] = {}
        try:
            # As a stream: going back in a compressed file would mean to start again.
            with tarfile.open(path, 'r|*') as archive:
                for member in archive:
                    base = member.name.rsplit('/', 1)[-1]
                    if member.isfile() and base in names:
                        found[base] = archive.extractfile(member).read()
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            raise UserError(f'{path} is a damaged archive ({error}); delete it and download it again') from error
        missing = [name for name in names if name not in found]
        if missing:
            raise UserError(f'{path} does not contain {missing[0]}; delete it and download it again')
        return [found[name] for name in names]

    return read


def is_place(data_dir: Union[str, os.PathLike]) -> bool:
    """Return whether CIFAR's archives or unpacked files are there, or may be put there as there are no images."""
    place = expanded(data_dir)
    known = {
        name for source in CIFAR.values() for each in source.archives for name in (each.name, each.folder, *each.files)
    }
    if not place.is_dir():
        return not place.exists() or place.name in known
    names = set(os.listdir(place))
    return bool(names & known) or not (any(place.glob('*.rec')) or any(images_below(place)))


def _default_folder(name: str) -> Path:
    """Return where Gluon keeps its datasets, so that files it has downloaded are found."""
    root = os.environ.get('MXNET_HOME') or os.path.join('~', '.mxnet')
    return expanded(root) / 'datasets' / name.replace('_coarse', '')


def _find(source: Cifar, data_dir: Path) -> Optional[Tuple[Archive, Reader, Path]]:
    """Return complete unpacked files, else archives. Raises `UserError` if there is only an incomplete folder."""
    incomplete = None
    for archive in source.archives:
        for folder in (data_dir, data_dir / archive.folder):
            missing = [name for name in archive.files if not (folder / name).is_file()]
            if not missing:
                return archive, _folder_reader(folder), folder
            if len(missing) < len(archive.files):
                incomplete = f'{folder} has some files of {source.title} but not {missing[0]}'
    for archive in source.archives:
        path = data_dir / archive.name
        if path.is_file():
            check_file(path, Checksum('md5', archive.md5))
            return archive, _archive_reader(path), path
    if incomplete:
        raise UserError(f'{incomplete}; unpack {" or ".join(a.name for a in source.archives)} there once more')
    return None


def _open(source: Cifar, data_dir: Optional[Union[str, os.PathLike]]) -> Tuple[Archive, Reader, Path]:
    folder = _default_folder(source.name) if data_dir is None else expanded(data_dir)
    if folder.is_file():
        for archive in source.archives:
            if folder.name == archive.name:
                check_file(folder, Checksum('md5', archive.md5))
                return archive, _archive_reader(folder), folder
        names = ' or '.join(archive.name for archive in source.archives)
        raise UserError(f'--data-dir {folder} is a file but not {names}; give that archive or a folder with it')
    found = _find(source, folder)
    if found is None:
        first = source.archives[0]
        names = ' or '.join(archive.name for archive in source.archives)
        remedy = (
            f'put {names} (from {SITE}cifar.html) into {folder} or name the folder that has it with '
            f'--data-dir; a folder of class folders is given as --dataset FOLDER'
        )
        download(SITE + first.name, folder / first.name, Checksum('md5', first.md5), remedy)
        found = first, _archive_reader(folder / first.name), folder / first.name
    return found


def _parse_binary(source: Cifar, data: bytes) -> Tuple[np.ndarray, np.ndarray]:
    """Split the content into records of label bytes and 3 x 32 x 32 pixels.

    Raises `ValueError` if the length does not fit.
    """
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, source.label_bytes + PIXELS)
    return records[:, source.label_bytes :], records[:, source.label_column].astype(np.int64)


def _parse_pickle(source: Cifar, data: bytes) -> Tuple[np.ndarray, np.ndarray]:
    table = read_batch(data)
    if not isinstance(table.get('data'), np.ndarray) or not isinstance(table.get(source.label_key), list):
        raise PickleError(f'it lacks the array data or the list {source.label_key}')
    return table['data'].reshape(-1, PIXELS), np.array(table[source.label_key], dtype=np.int64)


def load_cifar(source: Cifar, split: str, data_dir: Optional[Union[str, os.PathLike]] = None) -> ImageDataset:
    """Load 'train', 'test' or 'all' of a row of `CIFAR`; see `load_dataset`."""
    archive, read, where = _open(source, data_dir)
    names = {'train': archive.train, 'test': archive.test, 'all': archive.files}[split]
    expected = {'train': source.train_images, 'test': source.test_images}
    expected['all'] = sum(expected.values())
    parse = _parse_pickle if archive.is_pickle else _parse_binary
    pixels, labels = [], []
    for name, data in zip(names, read(names)):
        try:
            batch, wanted = parse(source, data)
            if len(batch) != len(wanted) or not 0 <= wanted.min() <= wanted.max() < len(source.class_names):
                raise ValueError('labels and images do not fit together')
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f'{name} in {where} is not an intact batch of {source.title} ({error}); delete it and unpack '
                f'{archive.name} once more'
            ) from error
        pixels.append(batch)
        labels.append(wanted)
    count = sum(map(len, pixels))
    if count != expected[split]:
        raise UserError(
            f'{where} holds {count} images for {split} instead of the {expected[split]} of {source.title}; '
            f'delete it and use {archive.name} once more'
        )
    # Planes of red, green, blue to pixels, batch by batch to spare memory.
    images = np.empty((count, 32, 32, 3), dtype=np.uint8)
    start = 0
    for batch in pixels:
        images[start : start + len(batch)] = batch.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        start += len(batch)
    return ImageDataset(
        images=images,
        labels=np.concatenate(labels),
        class_names=source.class_names,
        name=source.name,
        split=split,
        preprocessing=Preprocessing(32, CIFAR_MEAN, CIFAR_STD),
    )
