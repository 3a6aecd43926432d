"""Find objects on the images of a loader, and compute COCO's figures, with all ranks together."""

from typing import Any, Dict, Sequence

import mxnet as mx
import numpy as np
from mxnet import nd

from detection.loader import DetectionLoader
from detection.metrics import Found, average_precision
from detection.postprocess import DETECTIONS
from detection.step import parts_of
from training.distributed.ranks import Ranks

__all__ = ['detection_scores', 'found_by', 'gathered']

FIELDS = 6  # of a box that is found: its corners, score and label


def found_by(net: Any, loader: DetectionLoader, contexts: Sequence[Any]) -> Dict[int, Found]:
    """Return what a detector finds on a loader's images, by their indices in the data set, in pixels of the images."""
    found: Dict[int, Found] = {}
    for _, data, targets, _ in loader.batches(0):
        parts = parts_of(len(targets), len(contexts))
        outputs = [
            net(nd.array(data[part], ctx=context), nd.array(targets.sizes[part], ctx=context))
            for part, context in zip(parts, contexts)
        ]
        for part, output in zip(parts, outputs):
            for index, *rows in zip(targets.indices[part], *(array.asnumpy() for array in output)):
                found[int(index)] = _on_image(loader, int(index), *rows)
    return found


def _on_image(loader: DetectionLoader, index: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Found:
    image, kept = loader.dataset.images[index], labels >= 0
    boxes = loader.preprocessing.original_boxes(boxes[kept], image.width, image.height)
    return Found(boxes, scores[kept], labels[kept].astype(np.int64))


def gathered(found: Dict[int, Found], images: int, ranks: Ranks) -> Dict[int, Found]:
    """Return what all ranks found, each on its own images."""
    if ranks.size == 1:
        return found
    table = np.zeros((images, 1 + DETECTIONS * FIELDS))
    for index, one in found.items():
        rows = np.column_stack([one.boxes, one.scores, one.labels])
        table[index, 0] = 1 + len(rows)
        table[index, 1 : 1 + rows.size] = rows.ravel()
    table = ranks.total(table.ravel()).reshape(images, -1)
    everything = {}
    for index in np.flatnonzero(table[:, 0]):
        rows = table[index, 1:].reshape(DETECTIONS, FIELDS)[: int(table[index, 0]) - 1]
        everything[int(index)] = Found(rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int64))
    return everything


def detection_scores(job: Any, epoch: int = 0) -> Dict[str, float]:
    """Return COCO's figures on the validation images of a `training.loop.Job`, as columns of the history.

    Every image is scored once, after any epoch.
    """
    own = found_by(job.program, job.val_data, job.contexts)
    found = gathered(own, len(job.val_data.dataset), job.ranks)
    mx.nd.waitall()
    figures = average_precision(job.val_data.dataset, found) if job.ranks.first else None
    return {f'val_{name}': value for name, value in job.ranks.agree(figures).items()}
