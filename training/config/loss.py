"""The flags of the loss that all training scripts share."""

from __future__ import annotations

from dataclasses import dataclass

from training.config.fields import Group, Idle, flag, switch
from training.config.flags import number

__all__ = ['LossSettings']


@dataclass(frozen=True)
class LossSettings(Group):
    """Smoothing of labels, and mixtures of images."""

    title = 'loss'

    label_smoothing: float = flag(
        '--label-smoothing',
        type=number(float, 0, 1, open_high=True),
        nargs='?',
        const=0.1,
        default=0.0,
        metavar='ETA',
        help='share of the label that is spread over all classes; 0.1 if given without a number',
    )
    mixup: bool = switch('--mixup', help='train on mixtures of two images')
    mixup_alpha: float = flag(
        '--mixup-alpha', type=number(float, 0, open_low=True), default=0.2, help='mixture shares ~ Beta(alpha, alpha)'
    )
    cutmix_alpha: float = flag(
        '--cutmix-alpha',
        type=number(float, 0),
        default=0.0,
        metavar='ALPHA',
        help='train on images with a rectangle of another one, its share of the area ~ Beta(alpha, alpha); 0: do not',
    )
    mixup_prob: float = flag(
        '--mixup-prob',
        type=number(float, 0, 1, open_low=True),
        default=1.0,
        help='share of the steps with mixup or CutMix',
    )
    mixup_switch_prob: float = flag(
        '--mixup-switch-prob',
        type=number(float, 0, 1),
        default=0.5,
        help='share of these that take CutMix, where there are both',
    )
    mixup_off_epoch: int = flag(
        '--mixup-off-epoch', type=number(int, 0), default=0, help='the last epochs do without mixup and CutMix'
    )

    @property
    def mixes(self) -> bool:
        """Return whether images are mixed."""
        return self.mixup or self.cutmix_alpha > 0

    def idle(self) -> Idle:
        if not self.mixup:
            yield ['mixup_alpha'], '--mixup, which is not given'
        if not self.mixes:
            yield ['mixup_off_epoch', 'mixup_prob'], '--mixup or --cutmix-alpha, which are not given'
        if not (self.mixup and self.cutmix_alpha):
            yield ['mixup_switch_prob'], '--mixup and --cutmix-alpha together, which are not both given'
