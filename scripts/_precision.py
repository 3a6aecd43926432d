"""The network of --params optimized as the flags of `_precision_flags` ask for."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import List, Sequence

import numpy as np

from environment import UserError
from inference import optimize
from inference.network import LoadedNetwork
from inference.sources import image_files

CALIBRATION_IMAGES = 256
_TITLES = {
    'own': 'the engine of this project',
    'mxnet': 'MXNet',
    'onnxruntime': 'ONNX Runtime',
    'openvino': 'OpenVINO',
}


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
    why = f' ({fast.note})' if getattr(fast, 'note', None) else ''
    print(f'optimized: {args.precision}, by {_TITLES[fast.engine]}{why}', file=sys.stderr)
    return dataclasses.replace(network, net=fast)
