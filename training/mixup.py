"""Mixup and CutMix: mixtures of two images, and of their labels.

mixup   convex combinations (Zhang et al., arXiv 1710.09412).
CutMix  a rectangle of one image in the other, labels by area (Yun et al., arXiv 1905.04899).

As in GluonCV's scripts and in timm's for a batch, there is one lambda ~ Beta(alpha, alpha) for a whole step, and the
partner of an image is the image at the mirrored place of the device's batch. CutMix's rectangle, the same for all, has
the image's shape and 1 - lambda of its area; its centre lies anywhere in the image, and lambda becomes what is left.
"""

import math
from typing import Any, NamedTuple, Optional, Tuple

from mxnet import nd

from training import seeds

__all__ = ['PLAIN', 'Mixture', 'Mixup', 'mix', 'rectangle']

Box = Tuple[int, int, int, int]


class Mixture(NamedTuple):
    """A step's mixture: the share that an image and its label keep, and CutMix's box (top, bottom, left, right)."""

    share: float = 1.0
    box: Optional[Box] = None


PLAIN = Mixture()


def rectangle(share: float, y: float, x: float, height: int, width: int) -> Box:
    """Return the box in an image of this size that leaves `share` of it, with its centre at `y`, `x` in [0, 1).

    The box is clipped at the border, so more may be left.
    """
    side = math.sqrt(1 - share)
    h, w, middle, centre = int(height * side), int(width * side), int(y * height), int(x * width)
    top, bottom = max(middle - h // 2, 0), min(middle + (h + 1) // 2, height)
    left, right = max(centre - w // 2, 0), min(centre + (w + 1) // 2, width)
    return top, bottom, left, right


class Mixup:
    """`mixup(epoch, step, height, width)` is the mixture of a step: a pure function of its arguments.

    Args:
        alpha: of mixup; 0 for CutMix alone.
        epochs, off_epochs: the last `off_epochs` of `epochs` train on plain images.
        cutmix_alpha: of CutMix; 0 for mixup alone. `ValueError` where neither is above 0.
        probability: of a mixture of either kind.
        switch: the probability that it is CutMix, where there are both.
    """

    def __init__(
        self,
        alpha: float,
        epochs: int,
        off_epochs: int = 0,
        seed: int = 0,
        cutmix_alpha: float = 0.0,
        probability: float = 1.0,
        switch: float = 0.5,
    ) -> None:
        if not (alpha >= 0 and cutmix_alpha >= 0 and alpha + cutmix_alpha > 0):
            raise ValueError(f'the alphas of mixup and CutMix are {alpha} and {cutmix_alpha}; one must be above 0')
        if not (0 <= probability <= 1 and 0 <= switch <= 1):
            raise ValueError(f'the probabilities {probability} and {switch} of mixtures must lie in 0 .. 1')
        self.alpha, self.cutmix_alpha, self.seed = alpha, cutmix_alpha, seed
        self.probability, self.switch = probability, switch
        self.last_epoch = epochs - off_epochs

    def __call__(self, epoch: int, step: int, height: int, width: int) -> Mixture:
        if epoch >= self.last_epoch:
            return PLAIN
        mixed, switched, y, x = seeds.stream(self.seed, 'mixture', epoch, step).random(4).tolist()
        if mixed >= self.probability:
            return PLAIN
        cut = self.alpha == 0 or (self.cutmix_alpha > 0 and switched < self.switch)
        alpha = self.cutmix_alpha if cut else self.alpha
        share = float(seeds.stream(self.seed, 'mixup', epoch, step).beta(alpha, alpha))
        if not cut:
            return Mixture(share)
        top, bottom, left, right = rectangle(share, y, x, height, width)
        return Mixture(1 - (bottom - top) * (right - left) / (height * width), (top, bottom, left, right))


def mix(array: Any, share: float, box: Optional[Box] = None) -> Any:
    """`share * array + (1 - share) * array reversed along its first axis`, for an NDArray (N, ...).

    With a `box` of images (N, C, H, W) what is in it comes from the reversed ones, and all else stays.
    """
    if share == 1.0:
        return array
    if box is None:
        return share * array + (1.0 - share) * array.flip(axis=0)
    top, bottom, left, right = box
    place = {'begin': (None, None, top, left), 'end': (None, None, bottom, right)}
    return nd._internal._slice_assign(array, nd.slice(array, **place).flip(axis=0), **place)
