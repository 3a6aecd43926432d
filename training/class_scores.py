"""Precision, recall and F1 of each class and their means, and average precision, as scikit-learn defines them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

__all__ = ['ClassScores', 'average_precision', 'class_scores', 'of_confusion']


@dataclass(frozen=True, eq=False)
class ClassScores:
    """Figures of K classes, 0 to 1 each; 0 if there is nothing to divide by.

    Attributes:
        precision: share of the images predicted as a class that belong to it.
        recall: share of a class's images that are recognised.
        f1: harmonic mean of the two.
        support: images of the class.
        met: classes that occur among labels or predictions; the means are over these.
        ap: average precision, if there may be several labels per image; NaN for a class without an image.
    """

    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    met: np.ndarray
    ap: Optional[np.ndarray] = None

    def macro(self) -> Tuple[float, float, float]:
        """Return precision, recall and F1, each the mean over classes."""
        first, second, third = (float(each[self.met].mean()) for each in (self.precision, self.recall, self.f1))
        return first, second, third

    def weighted(self) -> Tuple[float, float, float]:
        """Return precision, recall and F1, each averaged over images, with the figures of their classes."""
        share = self.support / max(self.support.sum(), 1)
        first, second, third = (float((each * share).sum()) for each in (self.precision, self.recall, self.f1))
        return first, second, third

    @property
    def balanced_accuracy(self) -> float:
        """Return the mean recall of the classes that have an image."""
        there = self.support > 0
        return float(self.recall[there].mean()) if there.any() else 0.0

    @property
    def mean_ap(self) -> float:
        """Return the mean of `ap` over the classes that have an image; NaN if none has."""
        known = self.ap[~np.isnan(self.ap)]
        return float(known.mean()) if len(known) else float('nan')

    def rows(self, names: Sequence[str]) -> List[Dict[str, Any]]:
        """Return the figures of each class, for files."""
        figures = {'precision': self.precision, 'recall': self.recall, 'f1': self.f1}
        if self.ap is not None:
            figures['ap'] = self.ap
        return [
            {
                'class': name,
                **{key: None if np.isnan(each[i]) else float(each[i]) for key, each in figures.items()},
                'support': int(self.support[i]),
            }
            for i, name in enumerate(names)
        ]

    def figures(self) -> Dict[str, Any]:
        """Return the means: 'balanced_accuracy', 'macro' and 'weighted' of three each, and 'map' if it is known."""
        names = ('precision', 'recall', 'f1')
        return {
            **({} if self.ap is None else {'map': None if np.isnan(self.mean_ap) else self.mean_ap}),
            'balanced_accuracy': self.balanced_accuracy,
            'macro': dict(zip(names, self.macro())),
            'weighted': dict(zip(names, self.weighted())),
        }


def class_scores(
    right: np.ndarray, taken: np.ndarray, support: np.ndarray, ap: Optional[np.ndarray] = None
) -> ClassScores:
    """Return the figures of classes from counts of images (K,): predicted correctly, predicted, and labelled."""

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return part / np.maximum(whole, 1)

    met = np.ones(len(support), dtype=bool) if ap is not None else (taken + support) > 0
    return ClassScores(
        share(right, taken), share(right, support), share(2 * right, taken + support), support, met, ap
    )  # fmt: skip


def of_confusion(confusion: np.ndarray) -> ClassScores:
    """Return the figures of a confusion matrix (K, K) with labels as rows and predictions as columns."""
    return class_scores(np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1))


def average_precision(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the average precision of each class, (K,); NaN for a class without an image.

    It is the sum over thresholds of precision times the gain in recall, without interpolation; images with equal scores
    count together.

    Args:
        scores: (N, K), higher if the class is more certain.
        labels: (N, K), 0 or 1.
    """
    return np.array([_of_class(scores[:, k], labels[:, k] > 0) for k in range(scores.shape[1])])


def _of_class(scores: np.ndarray, there: np.ndarray) -> float:
    if not there.any():
        return float('nan')
    order = np.argsort(-scores, kind='stable')
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)  # the last image of each score
    found = np.cumsum(there[order])[ends]
    won = np.diff(found, prepend=0) / there.sum()
    return float((won * found / (ends + 1)).sum())
