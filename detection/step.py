"""Take a training step of a detector, with a limit on the norm of its gradient."""

from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
from mxnet import nd

from detection.loader import Targets
from training.distributed.ranks import Ranks
from training.mixup import Mixture
from training.optim.trainer import Trainer
from training.step import TrainingStep

__all__ = ['DetectionStep', 'parts_of']


def parts_of(images: int, devices: int) -> List[slice]:
    """Return which images each device takes; fewer parts than devices where there are fewer images."""
    bounds = np.linspace(0, images, min(images, devices) + 1).astype(int)
    return [slice(*pair) for pair in zip(bounds[:-1], bounds[1:])]


class DetectionStep(TrainingStep):
    """A `TrainingStep` on `Targets` in place of labels.

    Each device's loss is a mean over its own images (DCANet's), and the update is by the mean over devices and ranks,
    and over the parts of a batch if it is computed in several.
    """

    def __init__(
        self, detector: Any, trainer: Trainer, contexts: Sequence[Any], ranks: Ranks, clip_norm: float, part: int = 0
    ) -> None:
        super().__init__(detector, trainer, None, contexts, ranks, clip_norm, part)

    def _forward(self, data: Any, labels: Targets, mixture: Mixture) -> Tuple[List[Any], Callable[[], List[Any]]]:
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

    def _losses(self, labels: Targets) -> int:
        """Return how many losses a rank adds up: one for each device and part."""
        count, size = len(labels), self.part or len(labels)
        sizes = (min(size, count - start) for start in range(0, count, size))
        return sum(len(parts_of(each, len(self.contexts))) for each in sizes)
