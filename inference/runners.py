"""Ways to run one network, to be compared: each a function from a batch (N, 3, H, W) float32 to logits, as arrays."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Callable, Dict, Optional, Tuple

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UsageError, import_extra
from inference.onnx_file import OnnxNetwork, export_onnx
from inference.optimizer import optimize

__all__ = ['MODES', 'Runner', 'precisions_of', 'runner']

Runner = Callable[[np.ndarray], np.ndarray]
_HYBRIDIZE: Dict[str, Optional[Dict[str, Any]]] = {
    'imperative': None,
    'hybrid': {},
    'static': {'static_alloc': True, 'static_shape': True},
}
MODES = (*_HYBRIDIZE, 'optimized', 'onnxruntime', 'openvino')
_PRECISIONS = {'optimized': ('float32', 'bfloat16', 'int8'), 'openvino': ('float32', 'bfloat16')}


def precisions_of(mode: str) -> Tuple[str, ...]:
    """The precisions that a mode has here."""
    return _PRECISIONS.get(mode, ('float32',))


def _mxnet(block: Any) -> Runner:
    return lambda batch: block(mx.nd.array(batch)).asnumpy()


def _openvino(path: str, shape: Tuple[int, ...], precision: str) -> Runner:
    openvino = import_extra('openvino')
    core = openvino.Core()
    model = core.read_model(path)
    model.reshape(list(shape))
    settings = {
        'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_PRECISION_HINT': {'float32': 'f32', 'bfloat16': 'bf16'}[precision],
        'INFERENCE_NUM_THREADS': int(os.environ.get('OMP_NUM_THREADS', '0')) or (os.cpu_count() or 1),
    }
    compiled = core.compile_model(model, 'CPU', settings)
    return lambda batch: next(iter(compiled([batch]).values()))


def runner(net: gluon.HybridBlock, mode: str, precision: str, shape: Tuple[int, ...], images: np.ndarray) -> Runner:
    """``net`` in a mode and a precision that it has, for batches of ``shape``; ``images`` calibrate int8.

    ``net`` is the runner's own in the modes of Gluon. ``UsageError`` for a precision that the mode has not.
    """
    if precision not in precisions_of(mode):
        raise UsageError(f'the mode {mode} has no {precision}; it has {", ".join(precisions_of(mode))}')
    if mode in _HYBRIDIZE:
        options = _HYBRIDIZE[mode]
        if options is not None:
            net.hybridize(**options)
        return _mxnet(net)
    if mode == 'optimized':
        return _mxnet(optimize(net, shape, precision, images if precision == 'int8' else None))
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, 'net.onnx')
        export_onnx(net, path, shape[2])
        if mode == 'onnxruntime':
            return OnnxNetwork(path).run
        return _openvino(path, shape, precision)
