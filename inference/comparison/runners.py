"""Ways to run one network, to be compared: each a function from a batch (N, 3, H, W) float32 to logits, as arrays."""

from __future__ import annotations

import os
from typing import Any, Callable, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UsageError
from inference.comparison.default_process import DefaultProcess
from inference.comparison.runtimes import onnxruntime_runner, openvino_runner, torch_runner
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
}


def precisions_of(mode: str) -> Tuple[str, ...]:
    """Return the precisions that a mode has here."""
    return _PRECISIONS.get(mode, ('float32',))


class _Mxnet:
    """A block of MXNet as a runner; ``cut`` says how an optimized network shares a batch out."""

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
    """``net`` in a mode and a precision that it has, for batches of ``shape``; ``images`` calibrate int8.

    ``net`` is the runner's own in the modes of Gluon. ``folder`` takes its ONNX file, for other batches of the same
    network to be read again. A runner with a method ``close`` wants it called in the end. ``UsageError`` for a
    precision that the mode has not, ``UserError`` if the package of the mode is missing.
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
    path = os.path.join(folder, 'net.onnx')
    if not os.path.exists(path):
        export_onnx(net, path, shape[2:])
    if mode == 'onnxruntime':
        return onnxruntime_runner(path, precision, images)
    if mode == 'openvino':
        return openvino_runner(path, shape, precision, images)
    return torch_runner(path, shape)
