"""From flags to the changes of training images."""

from typing import Any, Dict

from data.augmentation.auto import AutoAugment
from data.augmentation.erasing import Erasing
from training.config.augmentation import AugmentSettings

__all__ = ['further']


def further(asked: AugmentSettings) -> Dict[str, Any]:
    """Return the attributes of an augmentation that `asked` is about."""
    auto, erase = None, None
    if asked.auto_augment != 'off':
        drawn = asked.ra_magnitude, asked.ra_deviation, asked.ra_share
        auto = AutoAugment(asked.auto_augment, asked.ra_ops, *drawn)
    if asked.random_erase:
        erase = Erasing(asked.random_erase, (0.02, asked.erase_max_area), asked.erase_mode)
    return {'auto': auto, 'erase': erase}
