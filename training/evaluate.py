"""Score a network on a dataset: every image once, for any batch size and devices."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Deque, Dict, Iterator, List, Optional, Sequence, Tuple, Union

import mxnet as mx
import numpy as np
from mxnet import gluon

from data.classification.loader import Loader
from training.class_scores import ClassScores, class_scores
from training.distributed.ranks import Ranks

__all__ = ['Scores', 'answers', 'classification_scores', 'cross_entropy', 'evaluate', 'predictions']

# Batches in flight before their results are awaited, so that the devices always have work.
LAG = 2


@dataclass(frozen=True)
class Scores:
    """Figures over `count` images.

    Attributes:
        top1, top5: share (0 to 1) of images whose label is the first, or among the first five, of the network's
            classes; of equal logits the class with the lower index comes first, and NaN comes before everything.
        loss: mean softmax cross-entropy against the hard labels, in nats.
        count: number of images.
        classes: precision, recall and F1 of each class.
    """

    top1: float
    top5: float
    loss: float
    count: int
    classes: Optional[ClassScores] = field(default=None, compare=False, repr=False)


def answers(
    net: Any,
    loader: Loader,
    ctx: Optional[Union[Any, Sequence[Any]]] = None,
    dtype: str = 'float32',
    epoch: int = 0,
) -> Iterator[Tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield (data (N, 3, H, W) float32, logits (N, K) float64, labels (N,) int64) batch by batch, without padding.

    Args:
        net: (N, 3, H, W) -> (N, K).
        loader: the images.
        ctx: a device or several, each of which takes a slice of every batch; default: the current one.
        dtype: what the data are cast to for the network.
        epoch: of the loader; with last='wrap' each has other images.
    """
    contexts = [mx.current_context()] if ctx is None else list(ctx) if isinstance(ctx, (list, tuple)) else [ctx]
    pending: Deque[Tuple[List[Any], np.ndarray, np.ndarray]] = deque()

    def finish() -> Tuple[np.ndarray, np.ndarray, np.ndarray]:
        outputs, data, labels = pending.popleft()
        logits = np.concatenate([output.astype('float32').asnumpy() for output in outputs])
        return data, logits[: len(labels)].astype(np.float64), labels

    for _, data, labels, n_valid in loader.batches(epoch):
        if n_valid == 0:
            continue  # a worker without an image in the padded last batch
        used = contexts[: len(data)]
        slices = gluon.utils.split_and_load(data, used, even_split=False)
        outputs = [net(part if dtype == 'float32' else part.astype(dtype)) for part in slices]
        pending.append((outputs, data[:n_valid], labels[:n_valid]))
        if len(pending) > LAG:
            yield finish()
    while pending:
        yield finish()


def predictions(
    net: Any,
    loader: Loader,
    ctx: Optional[Union[Any, Sequence[Any]]] = None,
    dtype: str = 'float32',
    epoch: int = 0,
) -> Iterator[Tuple[np.ndarray, np.ndarray]]:
    """Yield the same as `answers`, without the data."""
    for _, logits, labels in answers(net, loader, ctx, dtype, epoch):
        yield logits, labels


def _positions(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return how many classes come before the label's, (N,)."""
    rows = np.arange(len(labels))
    own = logits[rows, labels][:, np.newaxis]
    # With this comparison, a NaN on either side never counts in favour of the label.
    behind = (own > logits) | ((own == logits) & (np.arange(logits.shape[1]) > labels[:, np.newaxis]))
    return logits.shape[1] - 1 - behind.sum(axis=1)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the softmax cross-entropy of each row of logits, (N,), in nats; NaN or infinite where the logits are."""
    highest = logits.max(axis=1)
    with np.errstate(invalid='ignore'):  # inf - inf is NaN, which is the right result
        shifted = logits - highest[:, np.newaxis]
    return np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]


def evaluate(
    net: Any,
    loader: Loader,
    ctx: Optional[Union[Any, Sequence[Any]]] = None,
    dtype: str = 'float32',
    ranks: Optional[Ranks] = None,
    epoch: int = 0,
) -> Scores:
    """Score `net` on all images of `loader` (which must not discard any), and of those of the other `ranks`.

    Arguments as for `predictions`.

    Ranks and losses are computed in float64 on the host and added up image by image, so that batch size and devices
    change the figures only as far as they change the network's own rounding. Raises `ValueError` if the loader would
    leave out images, has none, or has labels beyond the network's classes.
    """
    if loader.sampler.last == 'discard' or loader.augment is not None:
        raise ValueError("scoring needs a Loader with last='keep', 'pad' or 'wrap' and without augmentation")
    counts = np.zeros((3, loader.dataset.classes), np.int64)  # right, taken for the class, of the class
    top1 = top5 = count = 0
    losses: List[np.ndarray] = []
    for logits, labels in predictions(net, loader, ctx, dtype, epoch):
        if labels.max() >= logits.shape[1]:
            raise ValueError(f'label {labels.max()} lies beyond the {logits.shape[1]} outputs of the network')
        positions = _positions(logits, labels)
        top1, top5, count = (
            top1 + int((positions < 1).sum()),
            top5 + int((positions < 5).sum()),
            count + len(labels),
        )
        losses.append(cross_entropy(logits, labels))
        counts += _counted(labels, logits.argmax(axis=1), counts.shape[1])
    if ranks is not None and ranks.size > 1:
        sums = [top1, top5, count, float(np.sum([part.sum() for part in losses]))]
        total = ranks.total([*sums, *counts.ravel().tolist()])
        top1, top5, count, loss = total[:4].tolist()
        counts = total[4:].astype(np.int64).reshape(counts.shape)
        losses = [np.array([loss / max(count, 1)])]
    if count == 0:
        raise ValueError('there are no images to score')
    loss = float(np.concatenate(losses).mean())
    return Scores(top1 / count, top5 / count, loss, int(count), class_scores(*counts))


def _counted(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each class are right, taken for it, of it: (3, K)."""
    parts = (labels[labels == predicted], predicted, labels)
    return np.stack([np.bincount(part, minlength=classes)[:classes] for part in parts])


def classification_scores(job: Any, epoch: int = 0) -> Dict[str, float]:
    """Return the history's columns for the validation images of a `training.loop.Job` after an epoch."""
    scores = evaluate(job.program, job.val_data, job.contexts, ranks=job.ranks, epoch=epoch)
    return {'val_loss': scores.loss, 'val_top1': scores.top1, 'val_top5': scores.top5}
