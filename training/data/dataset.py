"""Images and labels in memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Sequence, Tuple

import numpy as np

from environment import UserError
from environment.text import printable
from inference.preprocessing import Preprocessing
from training.data.augment import Augment

__all__ = ['ImageDataset', 'check_classes']


@dataclass(frozen=True)
class ImageDataset:
    """Images of one size, held in memory.

    Attributes:
        images: (N, H, W, 3) uint8, RGB.
        labels: (N,) int64, indices of `class_names`.
        name, split: where they come from; split is 'train', 'test' or 'all'.
        preprocessing: what a network trained on them must see; its size is H and W.
        augment: the random changes under which the labels stay true (mirrored digits are no digits).
        unreadable: one sentence for each file that was left out because it could not be decoded.
        by_hash: whether the data came in one piece, of which a hash of the names chose this split.
        told: what a user has to know of how they were found: which folder is which part, what was left out.
    """

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
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(
                f'labels of {self.name} must lie in 0 .. {len(self.class_names) - 1}, '
                f'not {self.labels.min()} .. {self.labels.max()}'
            )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def limited(self, count: int) -> ImageDataset:
        """`count` of the images, evenly spaced, so that all classes are met even where files are sorted by
        class.
        """
        if count < 1:
            raise ValueError(f'the limit of images must be 1 or more, not {count}')
        if count >= len(self):
            return self
        chosen = np.arange(count) * len(self) // count
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def with_classes(self, class_names: Sequence[str]) -> ImageDataset:
        """The same images with labels that index `class_names`: those of the training images, or of a network.

        `UserError` if this dataset has a class that is not among them.
        """
        if tuple(class_names) == self.class_names:
            return self
        position = {name: i for i, name in enumerate(class_names)}
        unknown = [name for name in self.class_names if name not in position]
        if unknown:
            raise UserError(
                f'{self.name} has the class {unknown[0]!r}, which is not among the {len(position)} classes that are '
                f'trained ({", ".join(list(class_names)[:5])}, ...); give a dataset of these classes'
            )
        table = np.array([position[name] for name in self.class_names], dtype=np.int64)
        return replace(self, labels=table[self.labels], class_names=tuple(class_names))


def check_classes(name: str, labels: np.ndarray, class_names: Sequence[str]) -> Tuple[str, ...]:
    """`UserError` unless the images to train on are of two classes or more; a line on classes without any."""
    counts = np.bincount(labels, minlength=len(class_names))
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
