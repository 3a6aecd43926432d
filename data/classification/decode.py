"""Encoded images of any size to one array, by a pool of threads."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, List, Optional, Sequence, Tuple, Union

import numpy as np
from tqdm import tqdm

from common.download import hasher
from data.bad import Tolerance
from data.classification.dataset import ImageDataset
from data.classification.memory import require_memory
from data.images import ImageError, read_image
from data.preprocessing import Preprocessing
from environment import UserError

__all__ = ['Gather', 'Item', 'Source', 'by_hash_sentence', 'decode_items', 'split_by_hash']

CHUNK = 256
HELD_OUT = 5  # every fifth image
FEWEST = HELD_OUT - HELD_OUT // 2  # images of a class of which one is held out
TINY = 8192  # bytes

log = logging.getLogger(__name__)


# A path, content, or a function that gives the content.
Source = Union[Path, bytes, Callable[[], bytes]]


@dataclass(frozen=True)
class Item:
    """One encoded image: its name for messages, its path, its content or what reads it, and its class.

    Where images may have several, `label` is a row (K,) of 0 and 1.
    """

    name: str
    source: Source
    label: Union[int, np.ndarray]


# What makes a data set of items, class names, name, split and preprocessing: all of it in memory, or a source of it.
Gather = Callable[[Sequence[Item], Sequence[str], str, str, Preprocessing], Any]


def held_out_by_hash(names: Sequence[str]) -> List[bool]:
    """Return which images of one class to hold out: the fifth of them with the smallest MD5 of their names."""

    def key(i: int) -> Tuple[bytes, str]:
        digest = hasher('md5')
        digest.update(os.fsencode(names[i]))
        return digest.digest(), names[i]

    chosen = set(sorted(range(len(names)), key=key)[: (len(names) + HELD_OUT // 2) // HELD_OUT])
    return [i in chosen for i in range(len(names))]


def split_by_hash(labels: Sequence[int], names: Sequence[str], split: str, name: str) -> np.ndarray:
    """Return (N,) bool.

    Which images of data that came in one piece belong to the split, a fifth of each class being held out.

    Raises `UserError` if there are too few of each class to hold one out.
    """
    labels, keep = np.asarray(labels), np.ones(len(labels), dtype=bool)
    if split == 'all':
        return keep
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        keep[members] = np.array(held_out_by_hash([names[i] for i in members])) == (split != 'train')
    if split != 'train' and not keep.any():
        most = np.bincount(labels).max()
        raise UserError(
            f'{name} has too few images to hold out a fifth of each class: there are {most} at most, and {FEWEST} '
            'are needed; add images, or move some of each class below a folder val/ and the others below train/'
        )
    return keep


def by_hash_sentence(labels: Sequence[int]) -> str:
    """Return how images without a split are divided, for the end of a sentence."""
    counts = np.bincount(labels)
    few = int(np.count_nonzero((counts > 0) & (counts < FEWEST)))
    but = f', but none of {few} classes with fewer than {FEWEST}' if few else ''
    return f': every fifth image of each class is held out{but}'


def _size(source: Source) -> int:
    if isinstance(source, bytes):
        return len(source)
    try:
        return len(source()) if callable(source) else source.stat().st_size
    except (ImageError, OSError):  # a damaged part of an archive, or a dangling link, which decoding will report
        return 0


def _useful_threads(items: Sequence[Item]) -> int:
    """Return one thread per processor, but a single one for tiny images.

    With those, threads wait for the interpreter longer than they decode.
    """
    sample = [item.source for item in items[:: 1 + len(items) // 64]]
    total = sum(map(_size, sample))
    return 1 if total < TINY * len(sample) else os.cpu_count() or 1


def decode_items(
    items: Sequence[Item],
    class_names: Sequence[str],
    name: str,
    split: str,
    preprocessing: Preprocessing,
    workers: Optional[int] = None,
    tolerance: Tolerance = Tolerance(),  # noqa: B008 (it is frozen)
) -> ImageDataset:
    """Decode `items` to an `ImageDataset`, its geometry done.

    Unreadable files are left out, listed in the dataset's `unreadable`, and summed up in one warning of the log. Raises
    `UserError` if they are more than the `tolerance` allows, or if nothing is left.
    """
    if not items:
        raise UserError(f'{name} has no images for the split {split}; check the path')
    if workers is not None and workers < 1:
        raise UserError(f'the number of decoding threads must be 1 or more, not {workers}')
    size = preprocessing.size
    require_memory(name, len(items), size)
    images = np.empty((len(items), size, size, 3), dtype=np.uint8)
    failures: List[Optional[str]] = [None] * len(items)

    def decode(start: int) -> int:
        chunk = items[start : start + CHUNK]
        for i, item in enumerate(chunk, start):
            try:
                source = item.source() if callable(item.source) else item.source
                images[i] = preprocessing.fit(read_image(source, item.name))
            except ImageError as error:
                failures[i] = str(error)
        return len(chunk)

    with ThreadPoolExecutor(workers or _useful_threads(items)) as pool:
        # A bar for those who wait longer than two seconds at a terminal.
        with tqdm(total=len(items), unit='image', desc=f'{name} {split}', delay=2, disable=None) as bar:
            for done in pool.map(decode, range(0, len(items), CHUNK)):
                bar.update(done)

    unreadable = tuple(failure for failure in failures if failure)
    if len(unreadable) > tolerance.of(len(items)) or len(unreadable) == len(items):
        raise tolerance.refusal(len(unreadable), len(items), f'the split {split} of {name}', unreadable[0])
    labels = np.array([item.label for item in items], dtype=np.int64)
    if unreadable:
        log.warning('%d of %d images of %s are left out (%s)', len(unreadable), len(items), name, unreadable[0])
        readable = np.array([failure is None for failure in failures])
        images, labels = images[readable], labels[readable]
    return ImageDataset(
        images=images,
        labels=labels,
        class_names=tuple(class_names),
        name=name,
        split=split,
        preprocessing=preprocessing,
        unreadable=unreadable,
    )
