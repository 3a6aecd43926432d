"""Run a network in the project's own engine, in any of the engine's precisions."""

from __future__ import annotations

from typing import Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from inference.engine.narrow import Narrowing
from inference.engine.network import Network, engine_network, ranges_of
from inference.optimization.proof import first_layer_or_not

__all__ = ['own_network']


def own_network(
    net: gluon.HybridBlock,
    input_shape: Sequence[int],
    precision: str = 'float32',
    calibration: Optional[np.ndarray] = None,
    instructions: Optional[str] = None,
) -> Network:
    """Return `net` in the project's engine. Its answers have not been compared with those of `net` yet.

    Args:
        net: the network, with its parameters.
        input_shape: the batches that it is made for, (N, 3, H, W).
        precision: the precision to compute in.
        calibration: the images from which int8 takes its ranges.
        instructions: see `engine_network`.

    Raises:
        Unsupported: the engine cannot run this network.
        UserError: the int8 network's answers are wrong.
    """
    if precision == 'float32':
        return engine_network(net, input_shape, instructions=instructions)
    if precision == 'bfloat16':
        return engine_network(net, input_shape, instructions=instructions, narrowing=Narrowing(precision))
    ranges = ranges_of(net, calibration, instructions)
    some = mx.nd.array(calibration[:32])

    def network(first_layer: bool) -> Network:
        how = Narrowing(precision, ranges, not first_layer)
        return engine_network(net, input_shape, instructions=instructions, narrowing=how)

    return first_layer_or_not(network, some, net(some))[0]
