"""Score a network whose images may have several labels each, or none: average precision, F1, loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Sequence, Union

import numpy as np

from data.classification.loader import Loader
from training.class_scores import ClassScores, average_precision, class_scores
from training.distributed.ranks import Ranks
from training.evaluate import predictions

__all__ = ['SeveralScores', 'binary_cross_entropy', 'evaluate_several', 'several_scores']


@dataclass(frozen=True)
class SeveralScores:
    """Figures over `count` images.

    Attributes:
        mean_ap: mean of the classes' average precisions, of those that some image has.
        f1: mean of the classes' F1, where a class is found if its probability is above 1/2.
        loss: mean binary cross-entropy over images and classes, in nats.
        classes: precision, recall, F1 and average precision of each class.
    """

    mean_ap: float
    f1: float
    loss: float
    count: int
    classes: ClassScores = field(compare=False, repr=False)


def binary_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the loss of each image and class, (N, K), of their logits and labels of 0 and 1."""
    return np.logaddexp(0, logits) - labels * logits


def scored(logits: np.ndarray, labels: np.ndarray) -> SeveralScores:
    """Return the figures of images with these logits and labels, (N, K) both."""
    found = logits > 0
    counts = (found & (labels > 0)).sum(axis=0), found.sum(axis=0), (labels > 0).sum(axis=0)
    classes = class_scores(*counts, average_precision(logits, labels))
    loss = float(binary_cross_entropy(logits, labels).mean())
    return SeveralScores(classes.mean_ap, classes.macro()[2], loss, len(labels), classes)


def evaluate_several(
    net: Any,
    loader: Loader,
    ctx: Optional[Union[Any, Sequence[Any]]] = None,
    ranks: Optional[Ranks] = None,
) -> SeveralScores:
    """Score `net` on all images of `loader`, and of those of the other `ranks`.

    Raises `ValueError` if there are none, or the network has not an output for each label.
    """
    pairs = list(predictions(net, loader, ctx))
    classes = loader.dataset.classes
    for logits, labels in pairs:
        if logits.shape != labels.shape:
            raise ValueError(f'there are {labels.shape[1]} labels for the {logits.shape[1]} outputs of the network')
    rows = np.concatenate([np.concatenate(pair, axis=1) for pair in pairs]) if pairs else np.zeros((0, 2 * classes))
    rows = _gathered(rows, len(loader.dataset), ranks or Ranks())
    if not len(rows):
        raise ValueError('there are no images to score')
    return scored(rows[:, :classes], rows[:, classes:])


def _gathered(rows: np.ndarray, images: int, ranks: Ranks) -> np.ndarray:
    """Return the rows of all ranks."""
    if ranks.size == 1:
        return rows
    table = np.zeros((images, 1 + rows.shape[1]))
    mine = np.arange(ranks.rank, images, ranks.size)[: len(rows)]
    table[mine, 0], table[mine, 1:] = 1, rows
    table = ranks.total(table.ravel()).reshape(table.shape)
    return table[table[:, 0] > 0, 1:]


def several_scores(job: Any, epoch: int = 0) -> Dict[str, float]:
    """Return the history's columns for the validation images of a `training.loop.Job` after an epoch."""
    scores = evaluate_several(job.program, job.val_data, job.contexts, ranks=job.ranks)
    return {'val_loss': scores.loss, 'val_map': scores.mean_ap, 'val_f1': scores.f1}
