"""Read encoded images from RecordIO files or folders of class folders, or make noise for benchmarks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Tuple, Union

import numpy as np

from data.archive import Place, Slices, tar_places
from data.augmentation.crop import ImagenetAugment
from data.classification.dataset import Labelled
from data.classification.decode import by_hash_sentence, split_by_hash
from data.images import ImageError
from data.layout import folder_layout
from data.preprocessing import Preprocessing
from data.recordio.framing import DamagedRecord
from data.recordio.index import CLASSES, class_count, read_class_names
from data.recordio.records import RecordFile
from environment import UserError

__all__ = [
    'ImageSource',
    'folder_sources',
    'noise_source',
    'record_source',
]


Encoded = Union[bytes, memoryview]


@dataclass(frozen=True, eq=False)
class ImageSource(Labelled):
    """Images that are read and decoded on demand.

    Attributes:
        store: `read(i)` and `name(i)` return the i-th image and its name.
        labels: (N,) int64, indices of `class_names`, or (N, K) 0 and 1: see `Labelled`.
        chosen: (N,) int64, the images of the store that belong to the dataset.
        name, split, preprocessing, augment, by_hash, told: as in `data.classification.dataset.ImageDataset`.
    """

    rows = ('labels', 'chosen')

    store: object
    labels: np.ndarray
    chosen: np.ndarray
    class_names: Tuple[str, ...]
    name: str
    split: str
    preprocessing: Preprocessing
    augment: ImagenetAugment = ImagenetAugment()
    by_hash: bool = False
    told: Tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def unreadable(self) -> Tuple[str, ...]:
        """None before they are read: see the loader's `bad`."""
        return ()

    def read(self, i: int) -> Union[Encoded, np.ndarray]:
        """Return image i, encoded or as (H, W, 3) uint8 RGB pixels. Raises `ImageError` if it cannot be read."""
        return self.store.read(int(self.chosen[i]))

    def title(self, i: int) -> str:
        """Return the name of image i in messages."""
        return self.store.name(int(self.chosen[i]))


class _Records:
    def __init__(self, file: RecordFile) -> None:
        self.file, self.name = file, file.name

    def read(self, i: int) -> Encoded:
        try:
            return self.file.read(i).image
        except DamagedRecord as error:
            raise ImageError(f'{self.name(i)} is damaged: {error}') from error


def record_source(
    path: Union[str, os.PathLike],
    index: Optional[Union[str, os.PathLike]],
    split: str,
    preprocessing: Preprocessing,
    classes: Optional[int] = None,
) -> ImageSource:
    """Return the images of a RecordIO file; see `RecordFile` for what is refused.

    Classes are named by the lines of `classes.txt` beside the file, those beyond it by their numbers.

    Args:
        path: the RecordIO file.
        index: its index file; None for the one beside it, or none.
        split: 'train' or 'val'.
        preprocessing: the network's.
        classes: the number of classes (default: as many as the labels need).

    Raises:
        UserError: the file is damaged, or a label is beyond `classes`.
    """
    file = RecordFile(path, index)
    labels = file.labels.astype(np.int64)
    names = read_class_names(file.path)
    count = classes or len(names) or class_count(labels, str(file.path))
    beyond = np.flatnonzero(labels >= count)
    if len(beyond):
        raise UserError(
            f'{file.name(beyond[0])} has the label {labels[beyond[0]]} ({len(beyond)} of {len(labels)} are like '
            f'this), and with {count} classes labels go from 0 to {count - 1}; give the right number of classes or '
            'pack the images again'
        )
    if len(names) > count:
        raise UserError(
            f'{file.path.with_name(CLASSES)} names {len(names)} classes and {count} are asked for; ask for as many, or '
            'remove the file'
        )
    class_names = (*names, *map(str, range(len(names), count)))
    return ImageSource(_Records(file), labels, np.arange(len(file)), class_names, str(path), split, preprocessing)


class _Files:
    def __init__(self, root: str, paths: List[str]) -> None:
        self.root, self.paths = root, paths

    def name(self, i: int) -> str:
        return os.path.join(self.root, self.paths[i])

    def read(self, i: int) -> Encoded:
        try:
            with open(self.name(i), 'rb') as file:
                return file.read()
        except OSError as error:
            raise ImageError(f'{self.name(i)} cannot be read ({error.strerror})') from error


class _Members(Slices):
    """Images in a tar file."""

    def __init__(self, archive: Path, paths: List[str], places: Mapping[str, Place]) -> None:
        super().__init__(archive, [places[path] for path in paths])
        self.paths = paths

    def name(self, i: int) -> str:
        return f'{self.path}/{self.paths[i]}'


def folder_sources(
    place: Union[str, os.PathLike], preprocessing: Preprocessing, classes: Optional[int] = None
) -> Tuple[ImageSource, ImageSource]:
    """Return the training and the validation images of a folder of class folders (see `Layout`), or of its tar file.

    Classes are sorted by name; if there are more `classes` than folders, the others are named by numbers. Raises
    `UserError` for more folders than `classes`.
    """
    place = Path(place)
    if place.is_dir():
        layout, places = folder_layout(place), None
    elif place.is_file():
        layout, places = tar_places(place)
    else:
        raise UserError(f'{place} is not a folder; it must be one of class folders with images, or a tar file of one')
    names = layout.class_names
    if classes is not None and len(names) > classes:
        raise UserError(f'{place} has {len(names)} class folders and {classes} classes are asked for; ask for as many')
    names += tuple(map(str, range(len(names), classes or 0)))

    def source(split: str) -> ImageSource:
        part = 'train' if split == 'train' or not layout.parts else layout.held_out(split)
        paths, listed = layout.members(part)
        labels, chosen = np.array(listed, dtype=np.int64), np.arange(len(paths))
        if not layout.parts:
            inner = [path[len(layout.outer) :].partition('/')[2] for path in paths]
            chosen = np.flatnonzero(split_by_hash(labels, inner, split, layout.name))
        title = os.path.join(place, layout.outer + layout.parts.get(part, '')).rstrip('/')
        store = _Files(str(place), paths) if places is None else _Members(place, paths, places)
        return ImageSource(
            store, labels[chosen], chosen, names, title, split, preprocessing, by_hash=not layout.parts, told=(told,)
        )

    if layout.parts:
        told = layout.sentence(unused=[part for part in layout.parts if part not in ('train', layout.held_out())])
    else:
        told = layout.sentence(otherwise=by_hash_sentence(layout.members('train')[1]))
    return source('train'), source('val')


class _Noise:
    """A few images over and over, since the speed does not depend on their content."""

    def __init__(self, count: int, size: int) -> None:
        random = np.random.Generator(np.random.PCG64(0))
        self.pixels = random.integers(0, 256, (min(count, 64), size, size, 3), dtype=np.uint8)

    def read(self, i: int) -> np.ndarray:
        return self.pixels[i % len(self.pixels)]

    def name(self, i: int) -> str:
        return f'image {i} of noise'


def noise_source(count: int, classes: int, split: str, preprocessing: Preprocessing) -> ImageSource:
    """Return `count` images of noise, already decoded, with all labels in turn."""
    store = _Noise(count, preprocessing.resize or preprocessing.size)
    labels = np.arange(count, dtype=np.int64) % classes
    return ImageSource(store, labels, np.arange(count), tuple(map(str, range(classes))), 'noise', split, preprocessing)
