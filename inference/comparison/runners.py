"""Ways to run a network, for comparison: functions from a batch (N, 3, H, W) float32 to logits, as arrays."""

from __future__ import annotations

import os
from typing import Any, Callable, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UsageError
from inference.comparison.default_process import DefaultProcess
from inference.comparison.runtimes import onnxruntime_runner, openvino_runner
from inference.comparison.torch_process import TorchProcess
from inference.onnx_file import export_onnx
from inference.optimization.in_mxnet import Optimized
from inference.optimization.optimizer import optimize
from model.hybridization import MODES as HYBRIDIZED

__all__ = ['Runner', 'precisions_of', 'runner']

Runner = Callable[[np.ndarray], np.ndarray]
_PRECISIONS = {
    'optimized': ('float32', 'bfloat16', 'int8'),
    'own': ('float32', 'bfloat16', 'int8'),
    'onnxruntime': ('float32', 'int8'),
    'openvino': ('float32', 'bfloat16', 'int8'),
    'torch': ('float32', 'bfloat16'),
}


def precisions_of(mode: str) -> Tuple[str, ...]:
    """Return the precisions in which a mode can run here."""
    return _PRECISIONS.get(mode, ('float32',))


class _Mxnet:
    """A runner of an MXNet block; ``cut`` describes how an optimized network divides a batch."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self.cut = {'piece': block.piece, 'lanes': max(1, len(block.lanes))} if isinstance(block, Optimized) else None

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return self._block(mx.nd.array(batch)).asnumpy()


def runner(
    net: gluon.HybridBlock,
    mode: str,
    precision: str,
    shape: Tuple[int, ...],
    images: np.ndarray,
    folder: os.PathLike[str],
) -> Runner:
    """Return a runner of ``net`` in a mode and precision, for batches of ``shape``; ``images`` calibrate int8.

    In the modes of Gluon the runner owns ``net``. ``folder`` receives its ONNX file, which is reused for other batches
    of the same network. If the runner has a method ``close``, call it in the end. Raises ``UsageError`` for a precision
    that the mode lacks, ``UserError`` if the mode's package is missing.
    """
    if precision not in precisions_of(mode):
        raise UsageError(f'the mode {mode} has no {precision}; it has {", ".join(precisions_of(mode))}')
    if mode in HYBRIDIZED:
        options = HYBRIDIZED[mode]
        if options is not None:
            net.hybridize(**options)
        return _Mxnet(net)
    if mode == 'defaults':
        return DefaultProcess(net, shape)
    if mode == 'optimized':
        return _Mxnet(optimize(net, shape, precision, images if precision == 'int8' else None, engine='mxnet'))
    if mode == 'own':
        return optimize(net, shape, precision, images if precision == 'int8' else None, engine='own').run
    if mode == 'torch':
        return TorchProcess(net, shape, precision)
    path = os.path.join(folder, 'net.onnx')
    if not os.path.exists(path):
        export_onnx(net, path, shape[2:])
    if mode == 'onnxruntime':
        return onnxruntime_runner(path, precision, images)
    return openvino_runner(path, shape, precision, images)
