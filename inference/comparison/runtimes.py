"""The same network in ONNX Runtime and OpenVINO, through its ONNX file, for comparison."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any, Callable, Tuple

import numpy as np

from environment import UserError
from inference.onnx_file import OnnxNetwork
from inference.onnx_variants import batches, quantize_file, quiet

__all__ = ['given_threads', 'onnxruntime_runner', 'openvino_runner']

Runner = Callable[[np.ndarray], np.ndarray]


def _package(name: str, mode: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition('.')[0]
        raise UserError(
            f'the mode {mode} needs the package {missing}, which is not installed; run '
            f'{sys.executable} -m pip install {missing}, or leave the mode out'
        ) from error


def given_threads() -> int:
    """Return the number of threads that a runtime gets."""
    return int(os.environ.get('OMP_NUM_THREADS', '0')) or (os.cpu_count() or 1)


def onnxruntime_runner(path: str, precision: str, images: np.ndarray) -> Runner:
    """Return a runner in ONNX Runtime: float32, or in int8 with ranges from ``images`` and weights scaled per channel.

    The int8 file is stored beside the original and reused. Raises ``UserError`` if ONNX Runtime cannot make it.
    """
    if precision == 'float32':
        return OnnxNetwork(path).run
    _package('onnxruntime', 'onnxruntime in int8')
    quantized = os.path.splitext(path)[0] + '-int8.onnx'
    if not os.path.exists(quantized):
        quantize_file(path, quantized, images)
    return OnnxNetwork(quantized).run


def openvino_runner(path: str, shape: Tuple[int, ...], precision: str, images: np.ndarray) -> Runner:
    """Return a runner in OpenVINO, compiled for ``shape``; int8 is quantized by NNCF, with ranges from ``images``.

    The int8 file is stored beside the original and reused.
    """
    openvino = _package('openvino', 'openvino')
    core = openvino.Core()
    if precision == 'int8':
        quantized = os.path.splitext(path)[0] + '-int8.xml'
        if not os.path.exists(quantized):
            nncf = _package('nncf', 'openvino in int8')
            with quiet():
                model = nncf.quantize(core.read_model(path), nncf.Dataset(batches(images)), subset_size=len(images))
                openvino.save_model(model, quantized, compress_to_fp16=False)
        path = quantized
    model = core.read_model(path)
    model.reshape(list(shape))
    settings = {
        'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_PRECISION_HINT': 'bf16' if precision == 'bfloat16' else 'f32',
        'INFERENCE_NUM_THREADS': given_threads(),
    }
    return _Openvino(core.compile_model(model, 'CPU', settings))


class _Openvino:
    """A runner of a compiled model; ``way`` names the kernels of its convolutions, such as ``brgconv_avx2_f32``."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        rows = [operator.get_rt_info() for operator in compiled.get_runtime_model().get_ops()]
        layers = [row for row in rows if 'Convolution' in str(row['layerType'].astype(str))]
        self.way = ' '.join(sorted({str(row['primitiveType'].astype(str)) for row in layers}))

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        return next(iter(self._compiled([batch]).values()))
