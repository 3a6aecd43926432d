"""The flags for what a run reports, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from training.config.console import quiet_flag, verbose_flag
from training.config.fields import Group, Idle, flag, switch
from training.config.flags import number
from training.config.loggers import logger_names

__all__ = ['TellingSettings']


@dataclass(frozen=True)
class TellingSettings(Group):
    """What a run reports while it trains, and writes besides its parameters."""

    title = 'run'

    logger: str = flag(
        '--logger',
        type=logger_names,
        default='',
        metavar='NAMES',
        help='also report the figures of each step and epoch, and some training images, to tensorboard (event files in '
        "the run's folder), wandb, mlflow; separate several by commas",
    )
    tensorboard: bool = switch('--tensorboard', help='add tensorboard to --logger')
    log_images: int = flag(
        '--log-images',
        type=number(int, 0),
        default=10,
        metavar='EPOCHS',
        help='with --logger: epochs from one sheet of training images, as they are changed at random, to the next; '
        '0: none',
    )
    results: str = flag(
        '--results',
        default='',
        metavar='CSV',
        help='table of runs in which this one is entered at its end (default: results.csv beside its folder, if that '
        'is in a folder named runs)',
    )
    no_report: bool = switch('--no-report', help="leave no report.html in the run's folder")
    json: Optional[str] = flag('--json', metavar='FILE', help='write the final figures there')
    quiet: bool = quiet_flag()
    verbose: bool = verbose_flag()

    @property
    def loggers(self) -> List[str]:
        """Return the names of --logger and --tensorboard."""
        named = [name for name in self.logger.split(',') if name]
        return list(dict.fromkeys([*named, *(['tensorboard'] if self.tensorboard else [])]))

    def idle(self) -> Idle:
        if not self.loggers:
            yield ['log_images'], '--logger, which is not given'
