"""The flags of a run: its files, its end, and what it resumes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from training.config.fields import Group, flag, switch
from training.config.flags import duration, number

__all__ = ['RunSettings']


@dataclass(frozen=True)
class RunSettings(Group):
    """The files of a run, when it ends, and what it resumes."""

    title = 'run'

    save_dir: Optional[str] = flag(
        '--save-dir',
        help='folder of the run (default: runs/DATASET-MODEL, or runs/DATASET-MODEL-2 if that is there, and so on; '
        'with --resume the last of them)',
    )
    save_period: int = flag(
        '--save-period',
        type=number(int, 0),
        default=10,
        help='epochs between parameters that are kept besides the best and the last; 0: none',
    )
    logging_file: str = flag(
        '--logging-file',
        default='train.log',
        help="text log, inside the run's folder unless absolute; appended to",
    )
    log_interval: int = flag(
        '--log-interval', type=number(int, 0), default=0, help='batches between lines of the log; 0: none'
    )
    save_plot_dir: str = flag(
        '--save-plot-dir', default='.', help="folder of the error curve, inside the run's folder unless absolute"
    )
    checkpoint_interval: int = flag(
        '--checkpoint-interval',
        type=number(int, 0),
        default=200,
        help='batches between checkpoints; 0: after epochs only',
    )
    val_interval: int = flag(
        '--val-interval',
        type=number(int, 1),
        default=1,
        metavar='N',
        help='validate after every N-th epoch, and after the last; a row of history.csv is then of N epochs',
    )
    patience: int = flag(
        '--patience',
        type=number(int, 0),
        default=0,
        metavar='N',
        help='end after N validations in a row without improvement; 0: train all epochs',
    )
    max_time: Optional[str] = flag(
        '--max-time',
        type=duration,
        metavar='TIME',
        help='stop after this time, such as 90m or 1.5h, like Ctrl-C but with exit status 0; --resume continues for as '
        'long again',
    )
    keep: int = flag(
        '--keep',
        type=number(int, 1),
        default=3,
        help='how many of the newest checkpoints, and parameters of --save-period, are kept',
    )
    resume: bool = switch('--resume', help="continue from the newest intact checkpoint in the run's folder")
    resume_from: Optional[str] = flag(
        '--resume-from',
        metavar='FILE',
        help='start from the parameters in this .params file or checkpoint, at the first epoch',
    )
    resume_states: Optional[str] = None
    resume_epoch: int = 0
    config: Optional[str] = flag(
        '--config',
        metavar='YAML',
        help='file of flags, or a preset by name: a1, a2, a3 in train_imagenet.py, fast10, fast30, fast100 in '
        'train_cifar.py; the command line overrides it',
    )
