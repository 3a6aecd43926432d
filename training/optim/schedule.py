"""The learning rate of every step, a pure function of the step's number.

GluonCV's schedulers are used with MXNet's way of counting: the step with index t (from 0) is update t + 1,
so a linear warm-up gives the very first step a learning rate above its start, as in the original's log.
"""

from typing import List, Optional, Sequence

from gluoncv.utils import LRScheduler, LRSequential

__all__ = ['MODES', 'Schedule', 'parse_epochs']

MODES = ('step', 'cosine', 'poly')


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

    def __init__(
        self,
        mode: str,
        lr: float,
        epochs: int,
        steps_per_epoch: int,
        warmup_epochs: int = 0,
        warmup_lr: float = 0.0,
        decay: float = 0.1,
        decay_epochs: Sequence[int] = (),
        decay_period: int = 0,
        warmup_steps: int = 0,
        warmup_ratio: float = 0.0,
    ) -> None:
        if mode not in MODES:
            raise ValueError(f'mode is {mode!r}; allowed: {", ".join(MODES)}')
        if epochs < 1 or steps_per_epoch < 1:
            raise ValueError(f'{epochs} epochs of {steps_per_epoch} steps make no schedule; both must be at least 1')
        if warmup_epochs < 0 or warmup_epochs > epochs:
            raise ValueError(f'warmup_epochs is {warmup_epochs}; allowed: 0 to the number of epochs, {epochs}')
        self.steps = epochs * steps_per_epoch
        first_steps = warmup_epochs * steps_per_epoch
        phases: List[LRScheduler] = []
        if first_steps:
            phases.append(_phase('linear', first_steps, base_lr=warmup_lr, target_lr=lr))
        if self.steps > first_steps:
            if mode == 'step':
                if decay_period > 0:
                    decay_epochs = range(decay_period, epochs, decay_period)
                # One later, as the update numbers count from 1: the decay falls on the first step of its
                # epoch.
                at = [(epoch - warmup_epochs) * steps_per_epoch + 1 for epoch in decay_epochs]
                main = LRScheduler('step', base_lr=lr, step_iter=at, step_factor=decay)
                main.niters = self.steps - first_steps + 1  # update numbers run to `steps` inclusive
            else:
                main = _phase(mode, self.steps - first_steps, base_lr=lr, target_lr=0.0)
            phases.append(main)
        self._schedule = LRSequential(phases)
        self._warmup = warmup_steps, warmup_ratio

    def __call__(self, step: int) -> float:
        (steps, ratio), rate = self._warmup, float(self._schedule(step + 1))
        return rate * (ratio + (1 - ratio) * step / steps) if step < steps else rate


def _phase(mode: str, steps: int, base_lr: float, target_lr: float) -> LRScheduler:
    """GluonCV divides by steps - 1: a phase of a single step is its end for 'linear', its start otherwise."""
    if steps == 1:
        only = target_lr if mode == 'linear' else base_lr
        return LRScheduler('constant', base_lr=only, niters=1)
    return LRScheduler(mode, base_lr=base_lr, target_lr=target_lr, niters=steps)


def parse_epochs(text: Optional[str]) -> List[int]:
    """'40,60' as [40, 60]; `ValueError` for anything but whole numbers."""
    return sorted(int(part) for part in (text or '').split(',') if part.strip())
