"""The flags with which a script runs the network of --params optimized."""

import argparse

from environment import UsageError
from inference.choices import ENGINES, PRECISIONS

FLAGS = ('precision', 'engine', 'calibration')


def add_precision_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('speed')
    group.add_argument(
        '--precision',
        choices=PRECISIONS,
        help='optimize the network of --params first: fused, and computed in this precision (default: float32 in our '
        'own engine for many images, unless --mode is given)',
    )
    group.add_argument(
        '--engine',
        choices=ENGINES,
        default='auto',
        help='what runs it: our own engine, MXNet, another runtime that is installed, or the fastest of all',
    )
    group.add_argument(
        '--calibration', nargs='+', metavar='IMAGE', help='files, folders or globs that int8 takes its ranges from'
    )


def check_precision_flags(args: argparse.Namespace) -> None:
    if (args.precision == 'int8') != (args.calibration is not None):
        raise UsageError('--precision int8 and --calibration belong together; give some hundred real images')
    if args.engine != 'auto' and args.precision is None:
        raise UsageError(f'--engine {args.engine} is for an optimized network; add --precision')
    if args.precision is not None and args.mode is not None:
        raise UsageError(
            f'--mode {args.mode} goes not with --precision, which chooses how the network runs; leave it out'
        )
    if args.precision is not None and ',' in args.gpus:
        raise UsageError(
            f'--gpus {args.gpus} goes not with --precision: an optimized network runs on one device; give one'
        )
