"""The flags of a teacher, and of the average of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from training.config.fields import Group, Idle, flag
from training.config.flags import number

__all__ = ['DistillationSettings']


@dataclass(frozen=True)
class DistillationSettings(Group):
    """A teacher whose predictions are used besides the labels, and the average of the weights."""

    title = 'distillation and averaging'

    teacher: Optional[str] = flag(
        '--teacher',
        help='network to learn from: a .params file with its manifest, a run folder for its best one, public '
        "weights as --use-pretrained names them, or any network of ours or of GluonCV's that has such weights",
    )
    teacher_params: Optional[str] = flag(
        '--teacher-params',
        metavar='FILE',
        help="parameters of --teacher, which then is any name of ours or of GluonCV's",
    )
    temperature: float = flag(
        '--temperature',
        type=number(float, 0, open_low=True),
        default=20.0,
        help='of the softmax of teacher and student',
    )
    hard_weight: float = flag(
        '--hard-weight', type=number(float, 0), default=0.5, help='weight of the labels; 1 or more: no distillation'
    )
    ema: Optional[float] = flag(
        '--ema',
        type=number(float, 0, 1, open_low=True, open_high=True),
        metavar='DECAY',
        help='validate a moving average of the weights, such as 0.9999, as well, and keep the better of both',
    )

    @property
    def teaches(self) -> bool:
        """Return whether there is a teacher: with a hard weight of 1 or more it would have no effect."""
        return bool(self.teacher) and self.hard_weight < 1

    def idle(self) -> Idle:
        if not self.teacher:
            yield ['teacher_params', 'temperature', 'hard_weight'], '--teacher, which is not given'
