"""Optimize the network of --params as the flags of `_precision_flags` ask."""

from __future__ import annotations

from typing import Any, List, Sequence

import numpy as np

from _precision_flags import Speed
from common.console import remark, timed
from environment import UserError
from environment.health import first_line
from inference.engine.network import why_not
from inference.network import LoadedNetwork
from inference.sources import image_files

CALIBRATION_IMAGES = 256
#: Number of images from which making a plan saves more time than it takes.
MANY = 500
_TITLES = {
    'own': 'the engine of this project',
    'mxnet': 'MXNet',
    'onnxruntime': 'ONNX Runtime',
    'openvino': 'OpenVINO',
}


def spread(files: Sequence[str], count: int) -> List[str]:
    """Return this many of the files, evenly spread, since folders of classes list one class after another."""
    return [files[i] for i in np.linspace(0, len(files) - 1, min(len(files), count)).astype(int)]


def optimized(
    network: LoadedNetwork, speed: Speed, batch: int, images: int, ctx: Any, may_be_planned: bool = True
) -> LoadedNetwork:
    """Return the network for batches of `batch` images in the precision of `speed`.

    If no precision is requested and it `may_be_planned`, it runs in float32 in the project's engine, provided that this
    is available and there are enough `images` for a plan to pay off; otherwise `network` is returned unchanged.
    """
    if speed.precision is None:
        return _planned(network, batch) if may_be_planned and _worth_a_plan(images, ctx) else network
    calibration = None
    if speed.calibration is not None:
        files = list(image_files(speed.calibration))
        if not files:
            raise UserError(f'--calibration {" ".join(speed.calibration)} contains no image')
        calibration = spread(files, CALIBRATION_IMAGES)
    with timed(f'optimizing for {speed.precision}'):
        return _told(network.optimized(speed.precision, batch, speed.engine, calibration))


def _worth_a_plan(images: int, ctx: Any) -> bool:
    return images >= MANY and ctx.device_type == 'cpu' and why_not() is None


def _planned(network: LoadedNetwork, batch: int) -> LoadedNetwork:
    try:
        with timed('making a plan for the engine'):
            return _told(network.optimized('float32', batch, 'own'))
    except (UserError, ValueError) as error:  # a network that no engine but MXNet takes
        remark(f'not optimized: {first_line(error)}')
        return network


def _told(network: LoadedNetwork) -> LoadedNetwork:
    fast = network.net
    why = f' ({fast.note})' if getattr(fast, 'note', None) else ''
    remark(f'optimized: {fast.precision}, by {_TITLES[fast.engine]}{why}')
    return network
