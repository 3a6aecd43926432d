"""The learning rate of every step, a pure function of the step's number.

GluonCV's schedulers are used with MXNet's way of counting: the step with index t (from 0) is update t + 1,
so a linear warm-up gives the very first step a learning rate above its start, as in the original's log.
"""

import math
from dataclasses import dataclass
from typing import List, Optional, Sequence

from gluoncv.utils import LRScheduler, LRSequential

from environment import UsageError
from training.config.schedule import ScheduleSettings

__all__ = ['SHAPES', 'Schedule', 'make_schedule']

SHAPES = ('step', 'cosine', 'poly')


@dataclass
class Schedule:
    """`schedule(t)` is the learning rate of the step with index t.

    Linear from `warmup_lr` to `lr` over `warmup_epochs`, or else over `warmup_steps`; then, over the N steps that are
    left and with T counted from the end of the warm-up, m = `min_lr`, 'cosine': `m + (lr - m) (1 + cos(pi T / (N -
    1))) / 2`; 'poly': `m + (lr - m) (1 - T / (N - 1))^2`; 'step': `lr` times `decay` to the number of `decay_epochs`
    (absolute, 0-based, in force from the start of that epoch) that have come, and m at least. `decay_period` n > 0
    stands for every n-th epoch in place of the list.

    With `cycle_epochs` the cosine restarts after so many epochs (Loshchilov and Hutter, arXiv 1608.03983; as timm
    defines it): with C the steps of a cycle and T counted from its start, `m + (l - m) (1 + cos(pi T / C)) / 2`. From
    cycle to cycle C is multiplied by `cycle_mult` and l, which is `lr` in the first, by `cycle_decay`.

    With a `warmup_ratio` r the warm-up is mmdetection's: the steps after it are those of a schedule without warm-up,
    and the rate of step t of its W steps is multiplied by `r + (1 - r) t / W`.

    Raises `ValueError` for settings that make no schedule.
    """

    shape: str
    lr: float
    epochs: int
    steps_per_epoch: int
    warmup_epochs: int = 0
    warmup_lr: float = 0.0
    decay: float = 0.1
    decay_epochs: Sequence[int] = ()
    decay_period: int = 0
    warmup_steps: int = 0
    warmup_ratio: Optional[float] = None
    min_lr: float = 0.0
    cycle_epochs: int = 0
    cycle_mult: float = 1.0
    cycle_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f'shape is {self.shape!r}; allowed: {", ".join(SHAPES)}')
        epochs, per_epoch, warmup = self.epochs, self.steps_per_epoch, self.warmup_epochs
        if epochs < 1 or per_epoch < 1:
            raise ValueError(f'{epochs} epochs of {per_epoch} steps make no schedule; both must be at least 1')
        if warmup < 0 or warmup > epochs:
            raise ValueError(f'warmup_epochs is {warmup}; allowed: 0 to the number of epochs, {epochs}')
        self._warm = warmup * per_epoch or self.warmup_steps
        self._before = min(self._warm, self.steps) if self.warmup_ratio is None else 0
        phases: List[LRScheduler] = []
        if self._before:
            phases.append(_phase('linear', self._warm, base_lr=self.warmup_lr, target_lr=self.lr))
        if self.steps > self._before:
            phases.append(self._falls() if self.shape == 'step' else self._curve(self.steps - self._before))
        self._schedule = LRSequential(phases)

    @property
    def steps(self) -> int:
        """Return the number of steps of the whole run."""
        return self.epochs * self.steps_per_epoch

    def _falls(self) -> LRScheduler:
        """Return the phase after the warm-up, of constant rates."""
        period, epochs = self.decay_period, self.decay_epochs
        if period > 0:
            epochs = range(period, self.epochs, period)
        # One later, as the update numbers count from 1: the decay falls on the first step of its epoch.
        at = [epoch * self.steps_per_epoch - self._before + 1 for epoch in epochs]
        main = LRScheduler('step', base_lr=self.lr, step_iter=at, step_factor=self.decay)
        # Update numbers run to the number of steps inclusive.
        main.niters = self.steps - self._before + 1
        return main

    def _curve(self, steps: int) -> LRScheduler:
        """Return the phase after the warm-up, down to `min_lr`."""
        return _phase(self.shape, steps, base_lr=self.lr, target_lr=self.min_lr)

    def _cycle(self, step: int) -> float:
        """Return the rate of a step that comes so many after the warm-up, of a cosine that restarts."""
        length, rate = float(self.cycle_epochs * self.steps_per_epoch), self.lr
        while step >= length:
            step, length, rate = step - length, length * self.cycle_mult, rate * self.cycle_decay
        return self.min_lr + (rate - self.min_lr) * (1 + math.cos(math.pi * step / length)) / 2

    def __call__(self, step: int) -> float:
        if step < self._before:
            return float(self._schedule(step + 1))
        if self.shape == 'cosine' and self.cycle_epochs:
            rate = self._cycle(step - self._before)
        else:
            rate = max(self.min_lr, float(self._schedule(step + 1)))
        if self.warmup_ratio is None or step >= self._warm:
            return rate
        return rate * (self.warmup_ratio + (1 - self.warmup_ratio) * step / self._warm)


def _phase(shape: str, steps: int, base_lr: float, target_lr: float) -> LRScheduler:
    """GluonCV divides by steps - 1: a phase of a single step is its end for 'linear', its start otherwise."""
    if steps == 1:
        only = target_lr if shape == 'linear' else base_lr
        return LRScheduler('constant', base_lr=only, niters=1)
    return LRScheduler(shape, base_lr=base_lr, target_lr=target_lr, niters=steps)


def make_schedule(settings: ScheduleSettings, steps_per_epoch: int, images: int = 1) -> Schedule:
    """Return the schedule of a run whose steps are of `images` images.

    Raises:
        UsageError: the warm-up is longer than the run, or the rate begins below its minimum.
    """
    if settings.warmup_epochs > settings.num_epochs:
        raise UsageError(
            f'--warmup-epochs is {settings.warmup_epochs}; allowed: 0 to --num-epochs, which is {settings.num_epochs}'
        )
    if settings.min_lr > settings.lr:
        raise UsageError(f'--min-lr is {settings.min_lr:g}; allowed: 0 to --lr, which is {settings.lr:g}')
    scale = images / settings.scale_lr if settings.scale_lr else 1
    return Schedule(
        shape=settings.lr_mode,
        lr=settings.lr * scale,
        epochs=settings.num_epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=settings.warmup_epochs,
        warmup_lr=settings.warmup_lr * scale,
        decay=settings.lr_decay,
        decay_epochs=settings.decay_epochs,
        decay_period=settings.lr_decay_period,
        warmup_steps=settings.warmup_steps,
        warmup_ratio=settings.warmup_ratio,
        min_lr=settings.min_lr * scale,
        cycle_epochs=settings.cycle_epochs,
        cycle_mult=settings.cycle_mult,
        cycle_decay=settings.cycle_decay,
    )
