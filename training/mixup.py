"""Mixup: convex combinations of images and of their labels (Zhang et al., arXiv 1710.09412).

As in GluonCV's scripts there is one lambda ~ Beta(alpha, alpha) for a whole step, and the partner of an
image is the image at the mirrored place of the device's batch.
"""

from typing import Any

from training import seeds

__all__ = ['Mixup', 'mix']


class Mixup:
    """`mixup(epoch, step)` is lambda, 1.0 where mixup is off: a pure function of its arguments.

    The last `off_epochs` of `epochs` train on plain images. `ValueError` for an alpha that is not above 0.
    """

    def __init__(self, alpha: float, epochs: int, off_epochs: int = 0, seed: int = 0) -> None:
        if not alpha > 0:
            raise ValueError(f'the alpha of mixup is {alpha}; allowed: numbers above 0')
        self.alpha, self.seed = alpha, seed
        self.last_epoch = epochs - off_epochs

    def __call__(self, epoch: int, step: int) -> float:
        if epoch >= self.last_epoch:
            return 1.0
        return float(seeds.stream(self.seed, 'mixup', epoch, step).beta(self.alpha, self.alpha))


def mix(array: Any, share: float) -> Any:
    """`share * array + (1 - share) * array reversed along its first axis`, for an NDArray (N, ...)."""
    if share == 1.0:
        return array
    return share * array + (1.0 - share) * array.flip(axis=0)
