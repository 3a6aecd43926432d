"""The learning rate of every step, a pure function of the step's number.

GluonCV's schedulers are used with MXNet's way of counting: the step with index t (from 0) is update t + 1,
so a linear warm-up gives the very first step a learning rate above its start, as in the original's log.
"""

from dataclasses import dataclass
from typing import List, Sequence

from gluoncv.utils import LRScheduler, LRSequential

from environment import UsageError
from training.config.groups import ScheduleSettings

__all__ = ['SHAPES', 'Schedule', 'make_schedule']

SHAPES = ('step', 'cosine', 'poly')


@dataclass
class Schedule:
    """`schedule(t)` is the learning rate of the step with index t.

    Linear from `warmup_lr` to `lr` over `warmup_epochs`; then, over the N steps that are left and with T
    counted from the end of the warm-up, 'cosine': `lr (1 + cos(pi T / (N - 1))) / 2`; 'poly': `lr (1 - T /
    (N - 1))^2`; 'step': `lr` times `decay` to the number of `decay_epochs` (absolute, 0-based, in force
    from the start of that epoch) that have come. `decay_period` n > 0 stands for every n-th epoch in place
    of the list.

    `warmup_steps` is another warm-up, mmdetection's, in place of the one by epochs: the rate of step t is multiplied
    by `warmup_ratio + (1 - warmup_ratio) t / warmup_steps` as long as that is below 1.

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
    warmup_ratio: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f'shape is {self.shape!r}; allowed: {", ".join(SHAPES)}')
        epochs, per_epoch, warmup = self.epochs, self.steps_per_epoch, self.warmup_epochs
        if epochs < 1 or per_epoch < 1:
            raise ValueError(f'{epochs} epochs of {per_epoch} steps make no schedule; both must be at least 1')
        if warmup < 0 or warmup > epochs:
            raise ValueError(f'warmup_epochs is {warmup}; allowed: 0 to the number of epochs, {epochs}')
        first_steps = warmup * per_epoch
        phases: List[LRScheduler] = []
        if first_steps:
            phases.append(_phase('linear', first_steps, base_lr=self.warmup_lr, target_lr=self.lr))
        if self.steps > first_steps:
            phases.append(self._falls() if self.shape == 'step' else self._curve(self.steps - first_steps))
        self._schedule = LRSequential(phases)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.epochs * self.steps_per_epoch

    def _falls(self) -> LRScheduler:
        """Return the phase after the warm-up, of constant rates."""
        period, epochs = self.decay_period, self.decay_epochs
        if period > 0:
            epochs = range(period, self.epochs, period)
        # One later, as the update numbers count from 1: the decay falls on the first step of its epoch.
        at = [(epoch - self.warmup_epochs) * self.steps_per_epoch + 1 for epoch in epochs]
        main = LRScheduler('step', base_lr=self.lr, step_iter=at, step_factor=self.decay)
        # Update numbers run to the number of steps inclusive.
        main.niters = (self.epochs - self.warmup_epochs) * self.steps_per_epoch + 1
        return main

    def _curve(self, steps: int) -> LRScheduler:
        """Return the phase after the warm-up, down to 0."""
        return _phase(self.shape, steps, base_lr=self.lr, target_lr=0.0)

    def __call__(self, step: int) -> float:
        steps, rate = self.warmup_steps, float(self._schedule(step + 1))
        ratio = self.warmup_ratio
        return rate * (ratio + (1 - ratio) * step / steps) if step < steps else rate


def _phase(shape: str, steps: int, base_lr: float, target_lr: float) -> LRScheduler:
    """GluonCV divides by steps - 1: a phase of a single step is its end for 'linear', its start otherwise."""
    if steps == 1:
        only = target_lr if shape == 'linear' else base_lr
        return LRScheduler('constant', base_lr=only, niters=1)
    return LRScheduler(shape, base_lr=base_lr, target_lr=target_lr, niters=steps)


def make_schedule(settings: ScheduleSettings, steps_per_epoch: int, images: int = 1) -> Schedule:
    """Return the schedule of a run whose steps are of `images` images.

    Raises:
        UsageError: the warm-up is longer than the run.
    """
    if settings.warmup_epochs > settings.num_epochs:
        raise UsageError(
            f'--warmup-epochs is {settings.warmup_epochs}; allowed: 0 to --num-epochs, which is {settings.num_epochs}'
        )
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
    )
