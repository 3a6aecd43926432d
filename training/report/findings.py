"""Find what a trained network gets right and wrong, in one pass over the validation images."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from data.preprocessing import Preprocessing
from data.shown import pixels_of
from training.evaluate import answers, cross_entropy

__all__ = ['Example', 'Findings', 'find']


@dataclass(frozen=True)
class Example:
    """An image and what the network said about it.

    Attributes:
        pixels: (H, W, 3) uint8, as the network sees it.
        label, predicted: classes.
        of_label, of_predicted: their probabilities.
        loss: cross-entropy of the label, in nats.
    """

    pixels: np.ndarray
    label: int
    predicted: int
    of_label: float
    of_predicted: float
    loss: float


@dataclass(frozen=True)
class Findings:
    """The result of :func:`find`.

    Attributes:
        confusion: (K, K) int64, images by label (row) and predicted class (column).
        hardest: the images with the highest loss, the hardest first.
        recognised: a correctly predicted image for each of some classes.
    """

    confusion: np.ndarray
    hardest: Tuple[Example, ...]
    recognised: Tuple[Example, ...]

    @property
    def count(self) -> int:
        """Return the number of images."""
        return int(self.confusion.sum())

    @property
    def correct(self) -> int:
        return int(np.trace(self.confusion))

    def most_confused(self, number: int) -> List[Tuple[int, int, int]]:
        """Return (label, predicted, images) of the commonest mistakes, the commonest first."""
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        order = np.argsort(-wrong, axis=None, kind='stable')[:number]
        rows, columns = np.unravel_index(order, wrong.shape)
        found = zip(rows.tolist(), columns.tolist(), wrong[rows, columns].tolist())
        return [(row, column, images) for row, column, images in found if images]


def _example(
    i: int,
    data: np.ndarray,
    labels: np.ndarray,
    predicted: np.ndarray,
    losses: np.ndarray,
    logits: np.ndarray,
    preprocessing: Preprocessing,
) -> Example:
    """Return the i-th image of a batch."""
    of_label, of_predicted = np.exp([-losses[i], -cross_entropy(logits[i : i + 1], predicted[i : i + 1])[0]])
    pixels = pixels_of(data[i], preprocessing)
    return Example(pixels, int(labels[i]), int(predicted[i]), float(of_label), float(of_predicted), float(losses[i]))


def find(
    net: Any,
    loader: Any,
    contexts: Sequence[Any],
    preprocessing: Preprocessing,
    classes: int,
    hardest: int = 16,
    recognised: int = 4,
    stop: Callable[[], bool] = lambda: False,
) -> Optional[Findings]:
    """Look at every image of `loader`, as `training.evaluate.evaluate` scores it; None if `stop()` turns true.

    Raises `ValueError` if the network's answers are not numbers.
    """
    confusion = np.zeros((classes, classes), np.int64)
    heap: List[Tuple[float, int, Example]] = []
    good: Dict[int, Example] = {}
    seen = 0
    for data, logits, labels in answers(net, loader, contexts):
        if stop():
            return None
        if not np.isfinite(logits).all():
            raise ValueError('the network gives NaN or infinity for some of the images')
        # The class of the lower index among equals, as `evaluate` ranks them.
        predicted, losses = logits.argmax(axis=1), cross_entropy(logits, labels)
        np.add.at(confusion, (labels, predicted), 1)

        batch = data, labels, predicted, losses, logits
        for i in np.argsort(-losses, kind='stable')[:hardest]:
            entry = float(losses[i]), -(seen + int(i))
            if len(heap) < hardest or entry > heap[0][:2]:
                heapq.heappush(heap, (*entry, _example(int(i), *batch, preprocessing)))
                if len(heap) > hardest:
                    heapq.heappop(heap)
        for label in np.unique(labels[predicted == labels]).tolist():
            if label not in good and len(good) < recognised:
                first = int(np.flatnonzero((labels == label) & (predicted == labels))[0])
                good[label] = _example(first, *batch, preprocessing)
        seen += len(labels)
    return Findings(confusion, tuple(entry[2] for entry in sorted(heap, reverse=True)), tuple(good.values()))
