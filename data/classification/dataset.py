"""Images and labels in memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import ClassVar, Optional, Sequence, Tuple, TypeVar

import numpy as np

from common.text import printable
from data.augmentation.shift import Augment
from data.preprocessing import Preprocessing
from environment import UserError

__all__ = ['ImageDataset', 'Labelled', 'check_classes', 'images_of_classes', 'moved_labels']

Own = TypeVar('Own', bound='Labelled')


class Labelled:
    """The common base of frozen dataclasses of labelled images.

    Attributes:
        labels: (N,) int64, indices of `class_names`; or, if an image may have several or none, (N, K) int64 of 0 and 1,
            with a column for each class.
        class_names: of all classes.
        name: of the data set.
        rows: the fields with a row for each image.
    """

    labels: np.ndarray
    class_names: Tuple[str, ...]
    name: str
    rows: ClassVar[Tuple[str, ...]]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self.class_names)

    @property
    def several(self) -> bool:
        """Return whether an image may have several labels, or none."""
        return self.labels.ndim == 2

    def limited(self: Own, count: Optional[int]) -> Own:
        """Return `count` evenly spaced images, or all for None.

        Spacing them evenly includes all classes even if files are sorted by class.
        """
        if count is not None and count < 1:
            raise ValueError(f'the limit of images must be 1 or more, not {count}')
        if count is None or count >= len(self.labels):
            return self
        chosen = np.arange(count) * len(self.labels) // count
        return replace(self, **{name: getattr(self, name)[chosen] for name in self.rows})

    def with_classes(self: Own, class_names: Sequence[str]) -> Own:
        """Return the same images with labels that index `class_names`, those of the training images or of a network.

        Raises `UserError` if the names do not determine how: see `moved_labels`.
        """
        if tuple(class_names) == self.class_names:
            return self
        table = moved_labels(self.class_names, class_names, self.name)
        if self.several:
            labels = np.zeros((len(self.labels), len(class_names)), dtype=self.labels.dtype)
            labels[:, table] = self.labels
        else:
            labels = table[self.labels]
        return replace(self, labels=labels, class_names=tuple(class_names))


@dataclass(frozen=True)
class ImageDataset(Labelled):
    """Images of one size, held in memory.

    Attributes:
        images: (N, H, W, 3) uint8, RGB.
        labels: (N,) int64, indices of `class_names`, or (N, K) 0 and 1: see `Labelled`.
        name, split: where they come from; split is 'train', 'test' or 'all'.
        preprocessing: what a network trained on them must see; its size is H and W.
        augment: the random changes under which the labels stay true (mirrored digits are no digits).
        unreadable: one sentence for each file that was left out because it could not be decoded.
        by_hash: whether the data came in one piece, of which a hash of the names chose this split.
        told: what a user has to know of how they were found: which folder is which part, what was left out.
    """

    rows = ('images', 'labels')

    images: np.ndarray
    labels: np.ndarray
    class_names: Tuple[str, ...]
    name: str
    split: str
    preprocessing: Preprocessing
    augment: Augment = field(default_factory=Augment)
    unreadable: Tuple[str, ...] = ()
    by_hash: bool = False
    told: Tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = self.preprocessing.size
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (size, size, 3):
            raise ValueError(
                f'images of {self.name} must be uint8 of shape (N, {size}, {size}, 3), '
                f'not {self.images.dtype} of {self.images.shape}'
            )
        if len(self.labels) != len(self.images):
            raise ValueError(f'{self.name} has {len(self.images)} images but {len(self.labels)} labels')
        if self.several:
            if self.labels.shape[1] != len(self.class_names) or not np.isin(self.labels, (0, 1)).all():
                raise ValueError(f'labels of {self.name} must be 0 and 1, {len(self.class_names)} for each image')
        elif len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f'labels of {self.name} must lie in 0 .. {len(self.class_names) - 1}, '
                f'not {self.labels.min()} .. {self.labels.max()}'
            )

    def __len__(self) -> int:
        return len(self.images)


def moved_labels(own: Sequence[str], others: Sequence[str], name: str) -> np.ndarray:
    """Return the indices among `others` of a data set's classes, which have the same names in another order.

    Raises:
        UserError: a class is not among them, or its name is not unique.
    """
    places = {each: label for label, each in enumerate(others)}
    several = {each for names in (own, others) for each, count in Counter(names).items() if count > 1}
    for each in own:
        if each not in places:
            raise UserError(
                f'{name} has the class {each!r}, which is not among the {len(others)} classes that are trained '
                f'({", ".join(list(others)[:5])}, ...); give a dataset of these classes'
            )
        if each in several:
            raise UserError(
                f'{name} has other classes than are trained, and there are several of the name {each!r}, so that names '
                'do not say which is which; give each class a name of its own'
            )
    return np.array([places[each] for each in own], dtype=np.int64)


def images_of_classes(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the number of images of each class (K,), of labels as those of `Labelled`."""
    return labels.sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=classes)


def check_classes(name: str, labels: np.ndarray, class_names: Sequence[str]) -> Tuple[str, ...]:
    """Raise `UserError` unless there are training images of two classes or more.

    Return a line on classes without any.
    """
    counts = images_of_classes(labels, len(class_names))
    met, missed = np.flatnonzero(counts), np.flatnonzero(counts == 0)
    if len(met) < 2:
        of = f', {class_names[met[0]]!r}' if len(met) else ''
        raise UserError(
            f'{name} has images of one class only{of}, of which there is nothing to learn; give a folder of two class '
            'folders or more, or labels of as many classes'
        )
    if not len(missed):
        return ()
    shown = [class_names[i] for i in missed[:10]] + ([f'{len(missed) - 10} more'] if len(missed) > 10 else [])
    return (printable(f'{len(missed)} of {len(class_names)} classes have no image to train on: {", ".join(shown)}'),)
