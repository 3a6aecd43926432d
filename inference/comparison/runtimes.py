"""The same network in other runtimes, by way of its ONNX file, to be compared with."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from typing import Any, Callable, Iterator, List, Sequence, Tuple

import numpy as np

from environment import UserError
from inference.onnx_file import OnnxNetwork

__all__ = ['onnxruntime_runner', 'openvino_runner', 'torch_runner']

Runner = Callable[[np.ndarray], np.ndarray]
_CALIBRATION_BATCH = 8


def _package(name: str, mode: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).partition('.')[0]
        raise UserError(
            f'the mode {mode} needs the package {missing}, which is not installed; run '
            f'{sys.executable} -m pip install {missing}, or leave the mode out'
        ) from error


def _threads() -> int:
    return int(os.environ.get('OMP_NUM_THREADS', '0')) or (os.cpu_count() or 1)


def _batches(images: np.ndarray) -> List[np.ndarray]:
    return [images[start : start + _CALIBRATION_BATCH] for start in range(0, len(images), _CALIBRATION_BATCH)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the bars, logs and deprecations that converters print."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                yield
    finally:
        logging.disable(before)


class _Reader:
    """Calibration images as ONNX Runtime wants them: one batch at a time, then None."""

    def __init__(self, images: np.ndarray) -> None:
        self._rest = iter(_batches(images))

    def get_next(self) -> Any:
        batch = next(self._rest, None)
        return None if batch is None else {'data': batch}


def onnxruntime_runner(path: str, precision: str, images: np.ndarray) -> Runner:
    """ONNX Runtime in float32, or in int8 with ranges from ``images``: unsigned maps, signed weights by channel.

    The int8 form is kept beside the file, and read again. ``UserError`` where ONNX Runtime cannot make it.
    """
    if precision == 'float32':
        return OnnxNetwork(path).run
    quantization = _package('onnxruntime.quantization', 'onnxruntime in int8')
    quantized = os.path.splitext(path)[0] + '-int8.onnx'
    if not os.path.exists(quantized):
        try:
            with _quiet():
                quantization.quantize_static(
                    path,
                    quantized,
                    _Reader(images),
                    quant_format=quantization.QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                )
        except (IndexError, ValueError) as error:  # at a bias without channels, as SK networks have them folded
            raise UserError(f'ONNX Runtime cannot quantize this network ({error})') from error
    return OnnxNetwork(quantized).run


def openvino_runner(path: str, shape: Tuple[int, ...], precision: str, images: np.ndarray) -> Runner:
    """OpenVINO, compiled for ``shape``; in int8 quantized by NNCF, with ranges from ``images``.

    The int8 form is kept beside the file, and read again.
    """
    openvino = _package('openvino', 'openvino')
    core = openvino.Core()
    if precision == 'int8':
        quantized = os.path.splitext(path)[0] + '-int8.xml'
        if not os.path.exists(quantized):
            nncf = _package('nncf', 'openvino in int8')
            with _quiet():
                model = nncf.quantize(core.read_model(path), nncf.Dataset(_batches(images)), subset_size=len(images))
                openvino.save_model(model, quantized, compress_to_fp16=False)
        path = quantized
    model = core.read_model(path)
    model.reshape(list(shape))
    settings = {
        'PERFORMANCE_HINT': 'LATENCY',
        'INFERENCE_PRECISION_HINT': 'bf16' if precision == 'bfloat16' else 'f32',
        'INFERENCE_NUM_THREADS': _threads(),
    }
    compiled = core.compile_model(model, 'CPU', settings)
    return lambda batch: next(iter(compiled([batch]).values()))


def torch_runner(path: str, shape: Sequence[int]) -> Runner:
    """PyTorch: traced, frozen, and optimized for inference on a CPU. ``UserError`` where onnx2torch lacks an operator,
    as it does for CBAM's global maxima."""
    torch, onnx2torch = _package('torch', 'torch'), _package('onnx2torch', 'torch')
    torch.set_num_threads(_threads())
    try:
        with _quiet():
            converted = onnx2torch.convert(path).eval()
    except NotImplementedError as error:
        raise UserError(f'onnx2torch cannot convert this network ({error})') from error
    with _quiet(), torch.no_grad():
        frozen = torch.jit.optimize_for_inference(
            torch.jit.freeze(torch.jit.trace(converted, torch.zeros(tuple(shape))))
        )

    def run(batch: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return frozen(torch.from_numpy(batch)).numpy()

    return run
