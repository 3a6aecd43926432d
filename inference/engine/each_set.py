"""The plans of a network for every available instruction set, for export."""

from __future__ import annotations

from typing import Dict, Optional, Sequence

import numpy as np
from mxnet import gluon

import kernels.engine
from environment import UserError
from inference.engine.network import EngineNetwork, Unsupported, why_not
from inference.optimization.own import own_network

__all__ = ['plans_of']


def plans_of(
    net: gluon.HybridBlock,
    input_shape: Sequence[int],
    names: Optional[Sequence[str]] = None,
    precision: str = 'float32',
    calibration: Optional[np.ndarray] = None,
) -> Dict[str, EngineNetwork]:
    """Return the plans of a network for batches of ``input_shape`` by instruction set, the fastest first.

    ``names`` are some of `kernels.engine.at_hand`, by default all; sets without ``precision`` are omitted.
    ``calibration`` are the images (N, 3, H, W) from which int8 takes its ranges.

    Compiles the engine if necessary. Raises ``UserError`` if it is not available, or if the network has operators that
    it leaves to MXNet.
    """
    plans: Dict[str, EngineNetwork] = {}
    reason = None
    for name in kernels.engine.at_hand() if names is None else names:
        kernels.engine.build(name)
        reason = why_not(precision, name)
        if reason is not None:
            continue
        try:
            made = own_network(net, input_shape, precision, calibration, name)
        except Unsupported as error:
            raise UserError(f'the kind engine cannot be written: {error}; leave it out') from error
        if not isinstance(made, EngineNetwork):
            raise UserError(f'the kind engine cannot be written, as it runs without MXNet: {made.note}; leave it out')
        plans[name] = made
    if not plans:
        raise UserError(f'the kind engine cannot be written: {reason}; leave it out, or take another --precision')
    return plans
