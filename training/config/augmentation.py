"""The flags of random changes of training images shared by train_cifar.py and train_imagenet.py."""

from __future__ import annotations

from dataclasses import dataclass

from data.choices import AUTO_AUGMENTS, ERASE_MODES
from training.config.fields import Group, Idle, flag
from training.config.flags import number

__all__ = ['AugmentSettings']


@dataclass(frozen=True)
class AugmentSettings(Group):
    """Changes of images besides crops, mirroring and colours, as defined in `data.augmentation`."""

    title = 'augmentation'

    auto_augment: str = flag(
        '--auto-augment',
        choices=AUTO_AUGMENTS,
        default='off',
        help='RandAugment, or TrivialAugment in its wide space, as torchvision has them; in train_imagenet.py usually '
        'with --jitter 0 --lighting 0, as they change colours themselves',
    )
    ra_ops: int = flag(
        '--ra-ops',
        type=number(int, 1, 16),
        default=2,
        metavar='N',
        help='operations on each image, with --auto-augment rand',
    )
    ra_magnitude: int = flag(
        '--ra-magnitude',
        type=number(int, 0, 30),
        default=9,
        metavar='M',
        help="and how strong they are, up to 30; timm's m7 is 21",
    )
    ra_deviation: float = flag(
        '--ra-deviation',
        type=number(float, 0, 30),
        default=0.0,
        metavar='D',
        help="and by which standard deviation each strength varies; timm's mstd0.5 is 1.5",
    )
    ra_share: float = flag(
        '--ra-share',
        type=number(float, 0, 1, open_low=True),
        default=1.0,
        metavar='SHARE',
        help='and how often each of them is applied; timm does so half of the time, 0.5',
    )
    random_erase: float = flag(
        '--random-erase',
        type=number(float, 0, 1),
        default=0.0,
        metavar='SHARE',
        help='share of the images that lose a rectangle',
    )
    erase_max_area: float = flag(
        '--erase-max-area',
        type=number(float, 0.02, 1),
        default=1 / 3,
        metavar='SHARE',
        help='it is between 0.02 and this share of the image (default: a third)',
    )
    erase_mode: str = flag(
        '--erase-mode', choices=ERASE_MODES, default=ERASE_MODES[0], help='it becomes noise, or the mean colour'
    )
    aug_repeats: int = flag(
        '--aug-repeats',
        type=number(int, 1),
        default=1,
        metavar='TIMES',
        help='each image comes so many times one after another, each time changed otherwise; an epoch stays as long, '
        'so that it has so many times fewer images',
    )

    def idle(self) -> Idle:
        if self.auto_augment != 'rand':
            idle = ['ra_ops', 'ra_magnitude', 'ra_deviation', 'ra_share']
            yield idle, f'--auto-augment rand, and it is {self.auto_augment}'
        if not self.random_erase:
            yield ['erase_max_area', 'erase_mode'], 'erasing, and --random-erase is 0'
