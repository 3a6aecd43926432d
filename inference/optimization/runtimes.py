"""Networks in ONNX Runtime or OpenVINO, if these are installed, with the same interface as all optimized networks."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from importlib import metadata
from typing import Callable, List, Optional, Sequence

import mxnet as mx
import numpy as np
from mxnet import gluon

from environment import UserError
from environment.health import first_line
from inference.choices import RUNTIMES
from inference.comparison.runtimes import onnxruntime_runner, openvino_runner
from inference.onnx_file import export_onnx

__all__ = ['RuntimeNetwork', 'described', 'installed', 'why_not_in']

_PRECISIONS = {'onnxruntime': ('float32',), 'openvino': ('float32', 'bfloat16')}


def installed() -> List[str]:
    """Return the runtimes that are installed and can be given a network."""
    found = {name for name in ('onnx', *RUNTIMES) if importlib.util.find_spec(name) is not None}
    return [name for name in RUNTIMES if {'onnx', name} <= found]


def described(runtime: str) -> str:
    """Return a runtime with its version."""
    try:
        return f'{runtime} {metadata.version(runtime)}'
    except metadata.PackageNotFoundError:  # a build of another name
        return runtime


def why_not_in(engine: str, precision: str, context: mx.Context) -> Optional[str]:
    """Return why a runtime cannot be used; None if it can."""
    if precision not in _PRECISIONS[engine]:
        return f'it has no {precision} here'
    return None if context.device_type == 'cpu' else 'it is for CPUs here'


class RuntimeNetwork(gluon.Block):
    """``(N, 3, H, W) float32 -> (N, classes) float32`` by another project's runtime, ``engine``.

    Any N; H and W are those of ``input_shape``. Raises `UserError` for a network that the runtime does not take.
    """

    note: Optional[str] = None

    def __init__(self, net: gluon.HybridBlock, input_shape: Sequence[int], precision: str, engine: str) -> None:
        super().__init__()
        self.engine, self.precision, self.input_shape = engine, precision, tuple(input_shape)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'net.onnx')
            try:
                export_onnx(net, path, input_shape[2:])
                self._run = self._runner(path)
            except UserError:
                raise
            except Exception as error:  # neither translators nor runtimes have a common base
                raise UserError(f'it does not take this network ({first_line(error)})') from error

    def _runner(self, path: str) -> Callable[[np.ndarray], np.ndarray]:
        none = np.zeros((0, *self.input_shape[1:]), np.float32)
        if self.engine == 'openvino':
            return openvino_runner(path, self.input_shape, self.precision, none)
        return onnxruntime_runner(path, self.precision, none)

    def run(self, images: np.ndarray) -> np.ndarray:
        """Return the answers to images (N, 3, H, W).

        Raises `ValueError` for other sizes than those of ``input_shape``.
        """
        if images.shape[1:] != self.input_shape[1:]:
            raise ValueError(f'images are {images.shape}; this network was made for (N, {self.input_shape[1:]})')
        count = self.input_shape[0]
        if len(images) == count or (self.engine == 'onnxruntime' and len(images)):
            return np.array(self._run(images))
        filled = np.zeros((-(-max(len(images), 1) // count) * count, *images.shape[1:]), np.float32)
        filled[: len(images)] = images
        parts = [np.array(self._run(filled[at : at + count])) for at in range(0, len(filled), count)]
        return np.concatenate(parts)[: len(images)]

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        if mx.autograd.is_recording():
            raise ValueError('an optimized network has no gradients; train the network that it was made from')
        return mx.nd.from_numpy(self.run(x.asnumpy()), zero_copy=False)
