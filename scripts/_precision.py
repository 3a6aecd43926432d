"""The flags with which a script runs the network of --params optimized, and the network that they ask for."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import List, Sequence

import numpy as np

from environment import UsageError, UserError
from inference import optimize
from inference.network import LoadedNetwork
from inference.optimization.optimizer import ENGINES, PRECISIONS
from inference.sources import image_files

CALIBRATION_IMAGES = 256
_TITLES = {
    'own': 'the engine of this project',
    'mxnet': 'MXNet',
    'onnxruntime': 'ONNX Runtime',
    'openvino': 'OpenVINO',
}
FLAGS = ('precision', 'engine', 'calibration')


def add_precision_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group('speed')
    group.add_argument(
        '--precision',
        choices=PRECISIONS,
        help='optimize the network of --params first: fused, and computed in this precision',
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


def spread(files: Sequence[str], count: int) -> List[str]:
    """So many of the files, evenly: folders of classes list one class after another."""
    return [files[i] for i in np.linspace(0, len(files) - 1, min(len(files), count)).astype(int)]


def optimized(network: LoadedNetwork, args: argparse.Namespace, batch: int) -> LoadedNetwork:
    """The network for batches of ``batch`` images in ``args.precision``; ``network`` itself where none is asked for."""
    if args.precision is None:
        return network
    size = network.preprocessing.size
    calibration = None
    if args.calibration is not None:
        files = list(image_files(args.calibration))
        if not files:
            raise UserError(f'--calibration {" ".join(args.calibration)} names no image')
        chosen = spread(files, CALIBRATION_IMAGES)
        calibration = network.preprocessing.batch(np.stack([network.preprocessing.fit(file) for file in chosen]))
    fast = optimize(network.net, (batch, 3, size, size), args.precision, calibration, engine=args.engine)
    why = f' ({fast.note})' if getattr(fast, 'note', None) and args.precision == 'float32' else ''
    print(f'optimized: {args.precision}, by {_TITLES[fast.engine]}{why}', file=sys.stderr)
    return dataclasses.replace(network, net=fast)
