"""The flags with which a script optimizes the network of --params."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Optional

from environment import UsageError
from inference.choices import ENGINES, PRECISIONS
from training.config.fields import Group, flag

FLAGS = ('precision', 'engine', 'calibration')


@dataclass(frozen=True)
class Speed(Group):
    """Whether and how a network is optimized."""

    title = 'speed'

    precision: Optional[str] = flag(
        '--precision',
        choices=PRECISIONS,
        help='first optimize the network of --params: fuse it, and compute in this precision (default: float32 in our '
        'own engine for many images, unless --mode is given)',
    )
    engine: str = flag(
        '--engine',
        choices=ENGINES,
        default='auto',
        help='what runs it: the own engine, MXNet, another runtime that is installed, or the fastest of all',
    )
    calibration: Optional[List[str]] = flag(
        '--calibration', nargs='+', metavar='IMAGE', help='files, folders or globs from which int8 takes its ranges'
    )


def check_precision_flags(speed: Speed, mode: Optional[str], gpus: str) -> None:
    """Raise `UsageError` for flags that contradict one another, or --mode and --gpus."""
    if (speed.precision == 'int8') != (speed.calibration is not None):
        raise UsageError('--precision int8 and --calibration belong together; give a few hundred real images')
    if speed.engine != 'auto' and speed.precision is None:
        raise UsageError(f'--engine {speed.engine} is for an optimized network; add --precision')
    if speed.precision is not None and mode is not None:
        raise UsageError(
            f'--mode {mode} cannot be combined with --precision, which chooses how the network runs; leave it out'
        )
    if speed.precision is not None and ',' in gpus:
        raise UsageError(
            f'--gpus {gpus} cannot be combined with --precision: an optimized network runs on one device; give one'
        )
