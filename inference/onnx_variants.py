"""Variants of a network's ONNX file: with the normalisation of pixels inside, in int8, for OpenVINO."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

import numpy as np

from common.files import atomic_write
from data.preprocessing import Preprocessing
from environment import UserError, import_extra
from inference.graph import Graph
from inference.onnx_file import finished
from inference.optimization.int8 import kept_in_float

__all__ = [
    'OpenvinoNetwork',
    'batches',
    'openvino_files',
    'quantize_file',
    'quantized_onnx',
    'quiet',
    'with_normalisation',
]

_BATCH = 8


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress the progress bars, logs and deprecation warnings of converters."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                yield
    finally:
        logging.disable(before)


def batches(images: np.ndarray) -> List[np.ndarray]:
    """Return calibration images in pieces that fit into memory."""
    return [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]


def with_normalisation(content: bytes, preprocessing: Preprocessing) -> bytes:
    """Return a file that takes pixels, ``pixels`` (N, size, size, 3) uint8 RGB, in place of ``data``.

    Images are scaled and cut outside. The numbers are those of :meth:`data.preprocessing.Preprocessing.batch`.
    """
    onnx = import_extra('onnx')
    helper = onnx.helper
    model = onnx.load_from_string(content)
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    scale = (1 / (255 * std)).astype(np.float32).reshape(3, 1, 1)
    shift = (-mean / std).astype(np.float32).reshape(3, 1, 1)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in (('pixels_scale', scale), ('pixels_shift', shift))
    )
    (data,) = (entry for entry in model.graph.input)
    nodes = [
        helper.make_node('Cast', ['pixels'], ['pixels_float'], to=onnx.TensorProto.FLOAT),
        helper.make_node('Transpose', ['pixels_float'], ['pixels_planes'], perm=[0, 3, 1, 2]),
        helper.make_node('Mul', ['pixels_planes', 'pixels_scale'], ['pixels_scaled']),
        helper.make_node('Add', ['pixels_scaled', 'pixels_shift'], [data.name]),
    ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *rest])
    del model.graph.input[:]
    size = preprocessing.size
    model.graph.input.append(helper.make_tensor_value_info('pixels', onnx.TensorProto.UINT8, ['N', size, size, 3]))
    return finished(model)


class _Reader:
    """Calibration images as ONNX Runtime expects them: one batch at a time, then None."""

    def __init__(self, images: np.ndarray) -> None:
        self._rest = iter(batches(images))

    def get_next(self) -> Optional[Dict[str, np.ndarray]]:
        batch = next(self._rest, None)
        return None if batch is None else {'data': batch}


def quantize_file(path: str, result: str, images: np.ndarray, **options: Any) -> None:
    """Write an ONNX file in int8 as ``result``: QDQ, unsigned maps, signed weights by channel.

    Ranges are those met in ``images``; ``options`` are further ones of ONNX Runtime's ``quantize_static``. Raises
    ``UserError`` if it cannot make it.
    """
    import_extra('onnxruntime')
    from onnxruntime import quantization

    try:
        with quiet():
            quantization.quantize_static(
                path,
                result,
                _Reader(images),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                **options,
            )
    except (IndexError, ValueError) as error:
        raise UserError(f'ONNX Runtime cannot quantize this network ({error})') from error
    content = finished(import_extra('onnx').load(result))
    atomic_write(Path(result), lambda file: file.write(content))


def quantized_onnx(content: bytes, graph: Graph, images: np.ndarray) -> bytes:
    """Return a file in int8: QDQ, ranges from ``images`` (N, 3, H, W), weights by channel.

    What MXNet's int8 leaves in float32 stays so here too: ``graph`` is the folded one that the file was written of, and
    :func:`inference.optimization.int8.kept_in_float` chooses. Raises ``UserError`` if ONNX Runtime cannot make it.
    """
    onnx = import_extra('onnx')
    kept: Set[str] = set(kept_in_float(graph, first_layer=False))
    model = onnx.load_from_string(content)
    excluded = [node.name for node in model.graph.node if node.name in kept]
    with tempfile.TemporaryDirectory() as folder:
        path, result = os.path.join(folder, 'float.onnx'), os.path.join(folder, 'int8.onnx')
        Path(path).write_bytes(model.SerializeToString())
        quantize_file(path, result, images, op_types_to_quantize=['Conv', 'Gemm'], nodes_to_exclude=excluded)
        return Path(result).read_bytes()


def openvino_files(content: bytes) -> Tuple[bytes, bytes]:
    """Return OpenVINO's IR of an ONNX file, in float32: the content of an ``.xml`` and of a ``.bin`` file."""
    openvino = import_extra('openvino')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'net.onnx'
        path.write_bytes(content)
        model = openvino.Core().read_model(str(path))
        openvino.save_model(model, str(Path(folder) / 'net.xml'), compress_to_fp16=False)
        return (Path(folder) / 'net.xml').read_bytes(), (Path(folder) / 'net.bin').read_bytes()


class OpenvinoNetwork:
    """An IR run by OpenVINO on the CPU: the network's inputs as arrays -> its outputs."""

    def __init__(self, xml: Path) -> None:
        openvino = import_extra('openvino')
        core = openvino.Core()
        settings: Dict[str, Any] = {'INFERENCE_PRECISION_HINT': 'f32'}
        threads = int(os.environ.get('OMP_NUM_THREADS', '0'))
        if threads:
            settings['INFERENCE_NUM_THREADS'] = threads
        self._compiled = core.compile_model(core.read_model(str(xml)), 'CPU', settings)

    def run(self, *inputs: np.ndarray) -> List[np.ndarray]:
        """Return the outputs, in order."""
        return list(self._compiled(list(inputs)).values())
