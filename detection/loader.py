"""Batches for detectors from a `CocoDataset`, decoded in threads, in an order that needs no state to be resumed.

The images of a batch have similar aspects (wider than high or not), as in mmdetection, so that batches contain little
padding. A batch depends only on (seed, epoch, image).
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from common.text import printable
from data.augmentation.draws import random_words
from data.bad import BadImages
from data.classification.decoder import Decoding
from data.coco.dataset import CocoDataset, CocoImage
from data.coco.orientation import QUARTER_TURNS, UPRIGHT, read_stored, told
from data.images import ImageError
from data.pixels import one_thread_each
from data.prefetch import prefetch
from data.sampler import Sampler
from detection.preprocessing import DetectionPreprocessing, flip
from environment import UserError
from training import seeds

__all__ = ['DetectionBatch', 'DetectionLoader', 'Targets', 'read_pixels']

log = logging.getLogger(__name__)

# Streams of random numbers within one epoch.
ORDER, BATCHES, FLIPS = 0, 1, 2


@dataclass(frozen=True)
class Targets:
    """The targets of a batch of N images.

    Attributes:
        indices: (N,) indices of the images in the data set.
        sizes: (N, 2) float32, height and width of each without padding.
        boxes: (N, M, 4) float32, x1, y1, x2, y2 in pixels of the input; padded with rows of -1.
        labels: (N, M) float32; padded with -1.
        seed: for random draws while the batch is trained on.
    """

    indices: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    seed: int

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, part: slice) -> Targets:
        """Return those of a part of the images; the part's first image goes into the seed of what is drawn."""
        arrays = (array[part] for array in (self.indices, self.sizes, self.boxes, self.labels))
        return Targets(*arrays, self.seed + (part.start or 0))


# batch index, data (N, 3, H, W) float32, targets, number of rows that count (all)
DetectionBatch = Tuple[int, np.ndarray, Targets, int]


class _Row(NamedTuple):
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    index: int


class _Work(NamedTuple):
    number: int
    chosen: np.ndarray
    rows: List[Optional[_Row]]


def read_pixels(image: CocoImage) -> Tuple[np.ndarray, int]:
    """Return (H, W, 3) uint8 RGB as stored, and the EXIF orientation.

    Raises `ImageError` if the file is damaged, or its size differs from that in the annotations.
    """
    pixels, orientation = read_stored(image.path)
    height, width = pixels.shape[:2]
    if (height, width) == (image.height, image.width):
        return pixels, orientation
    name = printable(str(image.path))
    sentence = f'{name} has {width} x {height} pixels, and its annotation says {image.width} x {image.height}'
    if orientation in QUARTER_TURNS and (width, height) == (image.height, image.width):
        sentence += (
            f', which it has when it is turned as its EXIF orientation {orientation} says; boxes are to be of the '
            'pixels as they are stored: store the image as it is shown, without the orientation'
        )
    raise ImageError(sentence)


class DetectionLoader:
    """`batches(epoch, start)` goes on where batch `start - 1` ended, as with `data.classification.loader.Loader`.

    In training every batch is full: the images of each aspect are shuffled, the first of them repeated until they fill
    the last step of all ranks, and the steps are shuffled. Scoring takes every image once, only images of one padded
    size together, so that nothing depends on the batch size. A damaged image is noted in `bad`; in training another
    takes its place, in scoring it is left out. A warning names the first image with an EXIF orientation.

    Args:
        dataset: images with boxes; for training after `CocoDataset.for_training`.
        sampler: batch size, worker, and whether images are shuffled, which makes it a loader for training; its seed is
            that of order, mirrors, and what is drawn in training. `last` has no meaning here.
        decoding: threads, and how many damaged images are put up with.
        mirror: whether every second image is mirrored in training.
    """

    def __init__(
        self,
        dataset: CocoDataset,
        preprocessing: DetectionPreprocessing,
        sampler: Sampler,
        decoding: Decoding = Decoding(threads=2),  # noqa: B008 (it is frozen)
        mirror: bool = True,
    ) -> None:
        one_thread_each()
        self.dataset, self.preprocessing, self.sampler, self.decoding = dataset, preprocessing, sampler, decoding
        self.train, self.mirror = sampler.shuffle, sampler.shuffle and mirror
        self.bad = BadImages(decoding.tolerance, len(dataset), dataset.name)
        self._told = threading.Event()  # that there are images with an orientation
        self._groups = self._aspects() if self.train else self._padded_sizes()
        self._scoring = None if self.train else self._scoring_order()

    @property
    def batch_size(self) -> int:
        """Return images per batch and rank."""
        return self.sampler.batch_size

    def __len__(self) -> int:
        """Return the number of this rank's batches per epoch."""
        if self._scoring is not None:
            return len(self._scoring)
        step = self.batch_size * self.sampler.size
        return sum(-(-len(group) // step) for group in self._groups)

    def _aspects(self) -> List[np.ndarray]:
        wide = np.array([image.width > image.height for image in self.dataset.images], dtype=bool)
        return [group for group in (np.flatnonzero(wide), np.flatnonzero(~wide)) if len(group)]

    def _padded_sizes(self) -> List[np.ndarray]:
        by_size: dict = {}
        for index, image in enumerate(self.dataset.images):
            by_size.setdefault(self.preprocessing.padded_size(image.width, image.height), []).append(index)
        return [np.array(group) for _, group in sorted(by_size.items())]

    def _scoring_order(self) -> List[np.ndarray]:
        batches = [
            group[start : start + self.batch_size]
            for group in self._groups
            for start in range(0, len(group), self.batch_size)
        ]
        return batches[self.sampler.rank :: self.sampler.size]

    def order(self, epoch: int) -> List[np.ndarray]:
        """Return the images of this rank's batches, in the order of the epoch."""
        if self._scoring is not None:
            return self._scoring
        step = self.batch_size * self.sampler.size
        words = random_words(self.sampler.seed, epoch, ORDER, len(self.dataset))
        steps: List[np.ndarray] = []
        for group in self._groups:
            shuffled = group[np.argsort(words[group], kind='stable')]
            filled = np.resize(shuffled, -(-len(group) // step) * step)  # repeats the first ones
            steps += list(filled.reshape(-1, step))
        places = np.argsort(random_words(self.sampler.seed, epoch, BATCHES, len(steps)), kind='stable')
        rank = self.sampler.rank
        mine = slice(rank * self.batch_size, (rank + 1) * self.batch_size)
        return [steps[place][mine] for place in places]

    def batches(self, epoch: int, start: int = 0) -> Iterator[DetectionBatch]:
        """Yield (batch index, data (N, 3, H, W) float32, `Targets`, N) from batch `start` on.

        Scoring's batches are shorter, or missing, where images are damaged. Closing the iterator ends its threads.
        """
        order = self.order(epoch)
        mirrored = np.zeros(len(self.dataset), dtype=bool)
        if self.mirror:
            mirrored = (random_words(self.sampler.seed, epoch, FLIPS, len(self.dataset)) >> np.uint64(63)).astype(bool)

        def begin(number: int) -> Tuple[_Work, int]:
            chosen = order[number]
            return _Work(number, chosen, [None] * len(chosen)), len(chosen)

        def work(batch: _Work, row: int) -> None:
            index = int(batch.chosen[row])
            found = self._row(index, mirrored)
            if found is None and self.train:
                found = self._replacement(index, mirrored)
            batch.rows[row] = found

        for batch in prefetch(begin, work, start, len(order), self.decoding.threads, self.decoding.ahead):
            rows = [row for row in batch.rows if row is not None]
            if rows:
                data, sizes = self.preprocessing.batch([row.image for row in rows])
                seed = seeds.derive(self.sampler.seed, 'targets', epoch, batch.number, self.sampler.rank)
                yield batch.number, data, _targets(rows, sizes, seed), len(rows)

    def _row(self, index: int, mirrored: np.ndarray) -> Optional[_Row]:
        """Image `index` as input with its boxes; None if it is damaged."""
        if index in self.bad:
            return None
        image = self.dataset.images[index]
        try:
            pixels, orientation = read_pixels(image)
        except ImageError as error:
            self.bad.add(index, str(error))
            return None
        if orientation != UPRIGHT and not self._told.is_set():
            self._told.set()
            log.warning('%s: %s', self.dataset.name, told(image.path, orientation))
        pixels = self.preprocessing.fit(pixels)
        boxes = self.preprocessing.scaled_boxes(image.boxes, image.width, image.height)
        if mirrored[index]:
            pixels, boxes = pixels[:, ::-1], flip(boxes, pixels.shape[1])
        return _Row(self.preprocessing.normalise(pixels), boxes, image.labels, index)

    def _replacement(self, index: int, mirrored: np.ndarray) -> _Row:
        """Return the next undamaged image of the same aspect."""
        group = next(group for group in self._groups if index in group)
        place = int(np.searchsorted(group, index))
        for other in [*group[place + 1 :], *group[:place]]:
            row = self._row(int(other), mirrored)
            if row is not None:
                return row
        raise UserError(f'no image of {self.dataset.name} can be read ({self.bad.sentences[0]}); get them again')


def _targets(rows: List[_Row], sizes: np.ndarray, seed: int) -> Targets:
    most = max(1, max(len(row.boxes) for row in rows))
    boxes = np.full((len(rows), most, 4), -1, dtype=np.float32)
    labels = np.full((len(rows), most), -1, dtype=np.float32)
    for i, row in enumerate(rows):
        boxes[i, : len(row.boxes)], labels[i, : len(row.boxes)] = row.boxes, row.labels
    return Targets(np.array([row.index for row in rows]), sizes, boxes, labels, seed)
