"""The flags of a classifier's loss, and of data sets with unbalanced classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from training.config.fields import Group, Idle, flag, switch
from training.config.flags import number
from training.config.loss import LossSettings

__all__ = ['ClassLossSettings', 'LabelSettings']


@dataclass(frozen=True)
class ClassLossSettings(LossSettings):
    """`LossSettings`, and the kind of loss."""

    loss: Optional[str] = flag(
        '--loss',
        choices=('softmax', 'bce', 'focal'),
        help='cross-entropy of the softmax or of the sigmoid of each class, or focal loss, which counts images the '
        'less the surer the network is (default: softmax; with several labels an image bce, and focal is of sigmoids)',
    )
    bce_target_threshold: Optional[float] = flag(
        '--bce-target-threshold',
        type=number(float, 0, 1, open_high=True),
        metavar='SHARE',
        help='with --loss bce: targets above it, of mixed or smoothed labels, become 1 and all others 0',
    )
    bce_sum: bool = switch(
        '--bce-sum', help='with sigmoids: add the losses of the classes, which are averaged otherwise'
    )
    focal_gamma: float = flag(
        '--focal-gamma',
        type=number(float, 0),
        default=2.0,
        help='with --loss focal: exponent of (1 - probability); 0 is cross-entropy',
    )
    class_weights: Optional[str] = flag(
        '--class-weights',
        metavar='auto|FILE',
        help='weight of each class in the loss: auto for images / (classes * images of the class), or with several '
        'labels an image for images without the label / images with it; or a YAML file of NAME: WEIGHT, or a CSV file '
        'of NAME,WEIGHT',
    )

    def idle(self) -> Idle:
        yield from super().idle()
        if self.loss == 'focal':
            yield ['bce_target_threshold'], '--loss bce, and it is focal'
        else:
            yield ['focal_gamma'], f'--loss focal, and it is {self.loss or "softmax"}'
        if self.loss == 'softmax':
            yield ['bce_target_threshold', 'bce_sum'], '--loss bce, and it is softmax'

    def idle_with(self, several: bool) -> Idle:
        """Yield what else has no effect on images of one label each, or of `several`."""
        if several:
            yield ['label_smoothing'], 'one label an image, and here are several'
        elif self.loss != 'bce':
            yield ['bce_target_threshold', 'bce_sum'], f'--loss bce, and it is {self.loss or "softmax"}'


@dataclass(frozen=True)
class LabelSettings(Group):
    """The labels that training sees, and how often."""

    title = 'labels'

    balanced_sampling: bool = switch(
        '--balanced-sampling',
        help='show all classes equally often: an epoch has as many images as before, of rare classes several times, '
        'each time changed anew',
    )
    label_noise: float = flag(
        '--label-noise',
        type=number(float, 0, 1, open_high=True),
        default=0.0,
        metavar='SHARE',
        help='move this share of the training labels to other classes, to try how robust a network is; by --seed',
    )
