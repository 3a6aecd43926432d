"""Flags without effect: refused on the command line, reported if they come from elsewhere."""

from typing import List, Sequence

from training.config.fields import SettingsParser
from training.config.groups import Settings
from training.config.loss import LossSettings
from training.config.run import RunSettings
from training.config.schedule import ScheduleSettings
from training.config.settings import refuse

__all__ = ['refuse_idle', 'unreached']

_DEFAULTS = RunSettings()


def refuse_idle(parser: SettingsParser, settings: Settings, argv: Sequence[str]) -> None:
    """Raise `UsageError` for a flag of the run in `argv` that has no effect.

    Flags from a file or from a resumed run are accepted: a recipe with another schedule is none the worse for steps
    that it no longer takes.
    """
    given, values = parser.given(argv), settings.values()
    for group in (*settings.every(), settings):
        for names, why in group.idle():
            refuse(parser, values, [name for name in names if name in given], why)


def unreached(
    schedule: ScheduleSettings, loss: LossSettings, steps_per_epoch: int, run: RunSettings = _DEFAULTS
) -> List[str]:
    """Return a line for each part of the schedule that this run does not reach, or never leaves.

    These are reported and not refused, because a trial of a few epochs uses the settings of the whole run.
    """
    epochs = schedule.num_epochs
    length = f'the {epochs} epochs of this run' if epochs > 1 else 'the one epoch of this run'
    lines, falls = [], f'the learning rate never falls within {length}'
    late = [epoch for epoch in schedule.decay_epochs if epoch >= epochs]
    if schedule.lr_mode == 'step' and schedule.lr_decay_period:
        if schedule.lr_decay_period >= epochs:
            lines.append(f'--lr-decay-period {schedule.lr_decay_period}: {falls}')
    elif schedule.lr_mode == 'step' and late:
        some = f'the falls at {", ".join(map(str, late))} are not within {length}'
        what = falls if len(late) == len(schedule.decay_epochs) else some
        lines.append(f'--lr-decay-epoch {schedule.lr_decay_epoch}: {what}')
    if schedule.warmup_epochs and schedule.warmup_epochs == epochs:
        lines.append(f'--warmup-epochs {schedule.warmup_epochs}: the learning rate only warms up within {length}')
    steps = epochs * steps_per_epoch
    if schedule.warmup_steps >= steps and not schedule.warmup_epochs:
        told = f'the learning rate only warms up within the {steps} steps of this run'
        lines.append(f'--warmup-steps {schedule.warmup_steps}: {told}')
    cycles = schedule.cycle_epochs if schedule.lr_mode == 'cosine' else 0
    if cycles and cycles >= epochs - schedule.warmup_epochs:
        lines.append(f'--cycle-epochs {schedule.cycle_epochs}: the cosine never restarts within {length}')
    if loss.mixes and loss.mixup_off_epoch >= epochs:
        what = 'mixup' if loss.mixup else 'CutMix'
        lines.append(f'--mixup-off-epoch {loss.mixup_off_epoch}: {what} is off throughout {length}')
    validations = -(-epochs // run.val_interval)
    if run.val_interval >= epochs > 1:
        lines.append(f'--val-interval {run.val_interval}: of {length} only the last is validated')
    if run.patience >= validations:
        lines.append(f'--patience {run.patience}: {length} cannot end early, with {validations} validation(s)')
    return lines
