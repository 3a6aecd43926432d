"""Make small stand-ins for the data sets: the same formats, few images."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import pickle
import struct
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Dict, List, Optional, Sequence

import numpy as np
import pytest
from mxnet import recordio
from PIL import Image

from data.classification.cifar import CIFAR, Cifar
from data.classification.dataset import ImageDataset
from data.preprocessing import Preprocessing
from data.recordio.framing import pack
from data.recordio.index import index_text


def make_dataset(count: int, size: int = 8, classes: int = 3) -> ImageDataset:
    """Return random images: image i has the label i % classes, and its number in its first pixels."""
    images = np.random.RandomState(0).randint(0, 256, (count, size, size, 3)).astype(np.uint8)
    return ImageDataset(
        images=images,
        labels=np.arange(count, dtype=np.int64) % classes,
        class_names=tuple(f'class {i}' for i in range(classes)),
        name='random',
        split='train',
        preprocessing=Preprocessing(size, (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)),
    )


def write_images(folder: Path, count: int, size: int = 32, suffix: str = '.png', seed: int = 0) -> None:
    """Write `count` images of noise into `folder`, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.RandomState(seed)
    for i in range(count):
        Image.fromarray(random.randint(0, 256, (size, size, 3)).astype(np.uint8)).save(folder / f'{i:03d}{suffix}')


class SmallCifar:
    """Make CIFAR files with a few images in every batch.

    Attributes:
        images: {file name: (N, 32, 32, 3) uint8}, labels: {file name: {label key: list}}
        files: {archive name: {file name: content}}
    """

    per_file = 4

    def __init__(self, name: str) -> None:
        source = CIFAR[name]
        binary, python = source.archives
        random = np.random.RandomState(1)
        self.images: Dict[str, np.ndarray] = {}
        self.labels: Dict[str, Dict[str, list]] = {}
        self.files: Dict[str, Dict[str, bytes]] = {binary.name: {}, python.name: {}}
        keys = {1: ('labels',), 2: ('coarse_labels', 'fine_labels')}[source.label_bytes]
        for binary_name, python_name in zip(binary.files, python.files):
            pixels = random.randint(0, 256, (self.per_file, 3, 32, 32)).astype(np.uint8)
            limits = {'labels': 10, 'coarse_labels': 20, 'fine_labels': 100}
            labels = {key: random.randint(0, limits[key], self.per_file).tolist() for key in keys}
            flat = pixels.reshape(self.per_file, -1)
            columns = np.array([labels[key] for key in keys], dtype=np.uint8).T
            self.files[binary.name][binary_name] = np.concatenate([columns, flat], axis=1).tobytes()
            # The official files are of protocol 2.
            self.files[python.name][python_name] = pickle.dumps(
                {'data': flat, 'batch_label': 'one', 'filenames': ['a.png'] * self.per_file, **labels},
                protocol=2,
            )
            for file in (binary_name, python_name):
                self.images[file], self.labels[file] = pixels.transpose(0, 2, 3, 1), labels
        self.source = source

    def unpack(self, version: int, folder: Path) -> Path:
        """Put the files of version 0 (binary) or 1 (python) where tar would; return their folder."""
        archive = self.source.archives[version]
        inner = folder / archive.folder
        inner.mkdir(parents=True)
        for name, content in self.files[archive.name].items():
            (inner / name).write_bytes(content)
        return inner

    def pack(self, version: int, folder: Path) -> Path:
        """Write the archive; `sized` then knows its MD5."""
        archive = self.source.archives[version]
        path = folder / archive.name
        with tarfile.open(path, 'w:gz') as tar:
            for name, content in self.files[archive.name].items():
                info = tarfile.TarInfo(f'{archive.folder}/{name}')
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path

    def sized(self, *packed: Path) -> Cifar:
        """Return the table's row with the small number of images and the MD5 of the `packed` archives."""
        md5 = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in packed}
        archives = tuple(dataclasses.replace(a, md5=md5.get(a.name, a.md5)) for a in self.source.archives)
        train = len(archives[0].train) * self.per_file
        return dataclasses.replace(self.source, archives=archives, train_images=train, test_images=self.per_file)


@pytest.fixture(params=['cifar10', 'cifar100', 'cifar100_coarse'])
def small_cifar(request: pytest.FixtureRequest) -> SmallCifar:
    return SmallCifar(request.param)


def make_jpeg(seed: int, height: int = 24, width: int = 32, **options) -> bytes:
    """Return smooth colours, which survive JPEG: a gradient, a blob and a little noise."""
    random = np.random.RandomState(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    planes = [
        255 * (0.2 + 0.6 * (random.rand() * y + random.rand() * x)) + 5 * random.randn(height, width) for _ in '123'
    ]
    pixels = np.clip(np.stack(planes, axis=2), 0, 255).astype(np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, 'JPEG', quality=92, **options)
    return content.getvalue()


def write_rec(path: Path, images: Sequence[bytes], labels: Optional[Sequence[float]] = None) -> List[int]:
    """Write a file as scripts/make_recordio.py does, and return the offsets of its records."""
    offsets, content = [], b''
    for i, image in enumerate(images):
        offsets.append(len(content))
        content += pack(np.array([i % 3 if labels is None else labels[i]]), i, image)
    path.write_bytes(content)
    path.with_suffix('.idx').write_bytes(index_text(range(len(images)), offsets))
    return offsets


@pytest.fixture(scope='session')
def jpegs() -> List[bytes]:
    return [make_jpeg(i, 20 + 3 * i % 17, 24 + 5 * i % 19) for i in range(23)]


@pytest.fixture
def rec(tmp_path: Path, jpegs: List[bytes]) -> Path:
    """Return 23 images of 3 classes."""
    write_rec(tmp_path / 'train.rec', jpegs)
    return tmp_path / 'train.rec'


def write_records(path: Path, labels: Sequence[int], multi: bool = False) -> np.ndarray:
    """Write a RecordIO file with MXNet's own writer, and its index; return the images in it."""
    random = np.random.RandomState(len(labels))
    writer = recordio.MXIndexedRecordIO(str(path.with_suffix('.idx')), str(path), 'w')
    images = random.randint(0, 256, (len(labels), 8, 8, 3)).astype(np.uint8)
    for i, label in enumerate(labels):
        content = BytesIO()
        Image.fromarray(images[i]).save(content, 'PNG')
        # The number of labels (0: one in the header), the label, two numbers for the image; then further labels.
        if multi:
            head = struct.pack('<IfQQff', 2, 0.0, i, 0, label, 1.0)
        else:
            head = struct.pack('<IfQQ', 0, label, i, 0)
        writer.write_idx(i, head + content.getvalue())
    writer.close()
    return images
