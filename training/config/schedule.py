"""The flags of the learning rate over a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from training.config.fields import Group, Idle, flag
from training.config.flags import epoch_list, number

__all__ = ['ScheduleSettings']


@dataclass(frozen=True)
class ScheduleSettings(Group):
    """The length of a run, and the learning rate over its steps."""

    title = 'learning rate'

    num_epochs: int = flag('--num-epochs', type=number(int, 1), default=1, help='passes over the training images')
    lr: float = flag('--lr', type=number(float, 0, open_low=True), default=0.1, help='learning rate after the warm-up')
    lr_mode: str = flag(
        '--lr-mode',
        choices=('step', 'cosine', 'poly'),
        default='step',
        help='decrease by --lr-decay at some epochs, or to --min-lr along a cosine or a parabola',
    )
    lr_decay: float = flag('--lr-decay', type=number(float, 0), default=0.1, help='factor of a step')
    lr_decay_epoch: str = flag(
        '--lr-decay-epoch',
        type=epoch_list,
        default='40,60',
        help='epochs after which a step is made, separated by commas',
    )
    lr_decay_period: int = flag(
        '--lr-decay-period', type=number(int, 0), default=0, help='if above 0, a step every this many epochs instead'
    )
    min_lr: float = flag('--min-lr', type=number(float, 0), default=0.0, help='lowest learning rate')
    cycle_epochs: int = flag(
        '--cycle-epochs',
        type=number(int, 0),
        default=0,
        help='if above 0, the cosine restarts after this many epochs, counted from the end of the warm-up',
    )
    cycle_mult: float = flag(
        '--cycle-mult',
        type=number(float, 1),
        default=1.0,
        help='each cycle is this many times as long as the one before',
    )
    cycle_decay: float = flag(
        '--cycle-decay',
        type=number(float, 0, 1, open_low=True),
        default=1.0,
        help='and starts at this share of the rate at which the one before started',
    )
    warmup_epochs: int = flag(
        '--warmup-epochs', type=number(int, 0), default=0, help='epochs of linear warm-up, part of all'
    )
    warmup_steps: int = flag(
        '--warmup-steps', type=number(int, 0), default=0, help='or this many steps of linear warm-up'
    )
    warmup_lr: float = flag(
        '--warmup-lr', type=number(float, 0), default=0.0, help="learning rate at the warm-up's start"
    )
    warmup_ratio: Optional[float] = None  # share of the rate at the start of mmdetection's warm-up, instead of a rate
    scale_lr: Optional[int] = flag(
        '--scale-lr',
        type=number(int, 1),
        nargs='?',
        const=256,
        metavar='IMAGES',
        help='take --lr, --warmup-lr and --min-lr as meant for steps of this many images (256 if given without a '
        'number): scale '
        'to the images per step of all devices and processes',
    )

    @property
    def decay_epochs(self) -> List[int]:
        """Return the epochs of --lr-decay-epoch, in their order."""
        return sorted(int(part) for part in self.lr_decay_epoch.split(',') if part)

    def idle(self) -> Idle:
        if self.lr_mode != 'step':
            yield ['lr_decay', 'lr_decay_epoch', 'lr_decay_period'], f'--lr-mode step, and it is {self.lr_mode}'
        elif self.lr_decay_period:
            yield ['lr_decay_epoch'], f'other steps than those of --lr-decay-period {self.lr_decay_period}'
        if self.lr_mode != 'cosine':
            yield ['cycle_epochs', 'cycle_mult', 'cycle_decay'], f'--lr-mode cosine, and it is {self.lr_mode}'
        elif not self.cycle_epochs:
            yield ['cycle_mult', 'cycle_decay'], 'a cosine that restarts, and --cycle-epochs is 0'
        if self.warmup_epochs:
            yield ['warmup_steps'], f'a warm-up by steps, and --warmup-epochs is {self.warmup_epochs}'
        elif not self.warmup_steps:
            yield ['warmup_lr', 'warmup_ratio'], 'a warm-up, and --warmup-epochs and --warmup-steps are 0'
