"""The flags of learning rates that differ between parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from training.config.fields import Group, flag
from training.config.flags import number

__all__ = ['LayerRates']


@dataclass(frozen=True)
class LayerRates(Group):
    """Learning rates of some parameters, instead of the schedule's."""

    title = 'learning rate'

    layer_decay: float = flag(
        '--layer-decay',
        type=number(float, 0, 1, open_low=True),
        default=1.0,
        help='times this is the rate of each residual block that of the block behind it: the further from the '
        'classifier, the slower',
    )
    head_lr: Optional[float] = flag(
        '--head-lr',
        type=number(float, 0, open_low=True),
        help="learning rate of the classifier, instead of --lr, following --lr's course (default: --lr)",
    )
