"""One training step of a detector, its gradient no longer than it may be, and its validation."""

from typing import Any, Callable, Dict, List, Sequence, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon, nd

from detection.evaluation import Found, average_precision
from detection.select import DETECTIONS
from training.data.detection import DetectionFeeder, Targets
from training.learning.step import TrainingStep
from training.loop import Job
from training.processes.ranks import Ranks

__all__ = ['DetectionStep', 'detection_scores', 'found_by', 'parts_of']

FIELDS = 6  # of a box that is found: its corners, score and label


def parts_of(images: int, devices: int) -> List[slice]:
    """Which images each device takes; fewer parts than devices where there are fewer images."""
    bounds = np.linspace(0, images, min(images, devices) + 1).astype(int)
    return [slice(*pair) for pair in zip(bounds[:-1], bounds[1:])]


class DetectionStep(TrainingStep):
    """As `TrainingStep`, on `Targets` in place of labels: each device's loss is a mean over its own images (DCANet's),
    and the update is by the mean over devices and ranks, with the gradient cut to the length `clip_norm`, if above 0.
    """

    def __init__(
        self, detector: Any, trainer: gluon.Trainer, contexts: Sequence[Any], ranks: Ranks, clip_norm: float
    ) -> None:
        super().__init__(detector, trainer, None, contexts, ranks)
        self.clip_norm = clip_norm

    def _forward(self, data: Any, labels: Targets, share: float) -> Tuple[List[Any], Callable[[], List[Any]]]:
        losses, results = [], []
        for device, (part, context) in enumerate(zip(parts_of(len(labels), len(self.contexts)), self.contexts)):
            random = np.random.RandomState([labels.seed, device])
            parts = self.program.losses(
                nd.array(data[part], ctx=context),
                nd.array(labels.sizes[part], ctx=context),
                nd.array(labels.boxes[part], ctx=context),
                nd.array(labels.labels[part], ctx=context),
                random,
            )
            losses.append(nd.add_n(*(loss.reshape(1) for loss in parts.values())))
            results.append((losses[-1], part.stop - part.start))

        def summed() -> List[Any]:
            return [
                nd.concat(loss.detach() * images, nd.zeros((1,), ctx=loss.context), dim=0) for loss, images in results
            ]

        return losses, summed

    def _update(self, labels: Targets, scale: float) -> None:
        parts = len(parts_of(len(labels), len(self.contexts))) * self.ranks.size * scale
        self.trainer.allreduce_grads()
        if self.clip_norm:
            for device, gradients in enumerate(self._all_gradients()):
                length = nd.sqrt(self._norm(device)) / parts
                factor = nd.minimum(self.clip_norm / (length + 1e-6), 1.0)
                for gradient in gradients:
                    nd.broadcast_mul(gradient, factor.reshape((1,) * gradient.ndim), out=gradient)
        self.trainer.update(parts)


def found_by(net: Any, feeder: DetectionFeeder, contexts: Sequence[Any]) -> Dict[int, Found]:
    """What a detector finds on the images of a feeder, by their places in its data set, in pixels of the images."""
    found: Dict[int, Found] = {}
    for _, data, targets, _ in feeder.batches(0):
        parts = parts_of(len(targets), len(contexts))
        outputs = [
            net(nd.array(data[part], ctx=context), nd.array(targets.sizes[part], ctx=context))
            for part, context in zip(parts, contexts)
        ]
        for part, output in zip(parts, outputs):
            for index, *rows in zip(targets.indices[part], *(array.asnumpy() for array in output)):
                found[int(index)] = _on_image(feeder, int(index), *rows)
    return found


def _on_image(feeder: DetectionFeeder, index: int, boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Found:
    image, kept = feeder.dataset.images[index], labels >= 0
    boxes = feeder.preprocessing.original_boxes(boxes[kept], image.width, image.height)
    return Found(boxes, scores[kept], labels[kept].astype(np.int64))


def gathered(found: Dict[int, Found], images: int, ranks: Ranks) -> Dict[int, Found]:
    """What all ranks have found, each on its own images."""
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


def detection_scores(job: Job) -> Dict[str, float]:
    """COCO's figures of the validation images, as columns of the history."""
    own = found_by(job.program, job.val_data, job.contexts)
    found = gathered(own, len(job.val_data.dataset), job.ranks)
    mx.nd.waitall()
    figures = average_precision(job.val_data.dataset, found) if job.ranks.first else None
    return {f'val_{name}': value for name, value in job.ranks.agree(figures).items()}
