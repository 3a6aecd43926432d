"""Look over a user's images before training: how many, of how many classes, and how large."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from common.text import printable
from data.classification.dataset import images_of_classes
from data.classification.sources import ImageSource
from data.images import ImageError, image_size
from data.preprocessing import Preprocessing

__all__ = ['Survey', 'survey']

LOOKED_AT = 400  # images whose headers are read
SMALL = 64  # pixels of a network's input below which little is left of a photo


@dataclass(frozen=True)
class Survey:
    """What there is.

    Attributes:
        name: of the data set, or of both its parts where these have names of their own.
        images, held_out: to train on and to validate on.
        class_names: of all classes.
        of_class: images of each class, held-out ones included.
        sizes: (height, width) in pixels of some of the images, evenly spread, in rising order of their area.
        several: whether an image may have several labels, or none.
    """

    name: str
    images: int
    held_out: int
    class_names: Tuple[str, ...]
    of_class: Tuple[int, ...]
    sizes: Tuple[Tuple[int, int], ...]
    several: bool = False

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def short(self) -> int:
        """Return the short side in pixels that half of the images reach; 0 where no size is known."""
        return int(np.median([min(size) for size in self.sizes])) if self.sizes else 0

    def sentence(self) -> str:
        """Return all this in words."""
        fewest, most = min(self.of_class), max(self.of_class)
        of_each = f'{most} of each' if fewest == most else f'{fewest} to {most} of each'
        labels = ', several or none for an image' if self.several else ''
        told = f'{self.images + self.held_out} images of {self.classes} classes{labels}, {of_each}'
        if self.sizes:
            smallest, middle, largest = (_size(self.sizes[i]) for i in (0, len(self.sizes) // 2, -1))
            differ = f'{smallest} to {largest} pixels, the middle one {middle}'
            told += f'; all of {smallest} pixels' if smallest == largest else f'; {differ}'
            few = len(self.sizes) < self.images + self.held_out
            told += f' (of {len(self.sizes)} that were looked at)' if few else ''
        return printable(f'{self.name}: {told}')

    def lines(self, preprocessing: Preprocessing) -> List[str]:
        """Return what a log says of the images, of how they are scaled, and a warning where little is left of them."""
        size, short = preprocessing.size, preprocessing.resize or preprocessing.size
        cut = f'the middle {size} x {size} of it' if short > size else f'{size} x {size} of it'
        scaled = f'{self.name}: each is scaled to a short side of {short} pixels, and the network sees {cut}'
        told = [self.sentence(), scaled]
        if size >= SMALL or self.short < 1.5 * size:
            return told
        return [
            *told,
            f'warning: each image is scaled down to {size} x {size} pixels, in which little of a photo is to be seen; '
            'a larger --input-size shows more, or a network without cifar_ in its name, which takes 224 pixels',
        ]


def survey(train: ImageSource, val: ImageSource) -> Survey:
    """Return what there is of images to train and to validate on; damaged ones are counted and have no size."""
    of_class = images_of_classes(train.labels, train.classes) + images_of_classes(val.labels, train.classes)
    return Survey(
        train.name if train.name == val.name else f'{train.name} and {val.name}',
        len(train),
        len(val),
        tuple(train.class_names),
        tuple(map(int, of_class)),
        tuple(sorted(_sizes([train, val]), key=lambda size: size[0] * size[1])),
        train.several,
    )


def _sizes(sources: Sequence[ImageSource]) -> List[Tuple[int, int]]:
    places = [(source, i) for source in sources for i in range(len(source))]
    sizes = []
    for k in range(min(LOOKED_AT, len(places))):
        source, i = places[k * len(places) // min(LOOKED_AT, len(places))]
        try:
            sizes.append(image_size(source.read(i), source.title(i)))
        except ImageError:
            continue  # of which training tells
    return sizes


def _size(size: Tuple[int, int]) -> str:
    return f'{size[1]} x {size[0]}'
