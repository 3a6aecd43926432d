"""The kinds in which a network can be exported, as one table.

It defines how each is written, what that requires, and how it is run for comparison.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

import kernels.engine
from data.images import read_image
from environment import UserError
from environment.health import installed
from inference import portable, portable_engine
from inference.engine.each_set import plans_of
from inference.exported_folder import ONNX, ONNX_IMAGES, ONNX_INT8, ONNX_PIXELS, OPENVINO, TORCH, ExportedFolder
from inference.graph import Graph, trace
from inference.network import LoadedNetwork
from inference.onnx_file import EXTRAS, OPSET, OnnxNetwork, content_of, onnx_content, prepared
from inference.onnx_images import OPSET_IMAGES, geometry, with_preprocessing
from inference.onnx_variants import OpenvinoNetwork, openvino_files, quantized_onnx, with_normalisation
from inference.optimization.in_mxnet import Optimized
from inference.optimization.optimizer import optimize
from inference.optimization.proof import TOLERANCE, difference
from inference.torch_source import Unwritten, torch_source
from model.convert import to_state_dict
from model.convert.safetensors import write_safetensors

__all__ = ['KINDS', 'Kind', 'Request', 'possible_kinds']

INFINITE = float('inf')
PIXELS = 'pixels: (N, size, size, 3) uint8 RGB, scaled and cut'
IMAGES = 'images: (N, H, W, 3) uint8 RGB, of any size'
# Heights and widths of images that are drawn where there are none: larger, smaller, tall, wide, and halves to round.
DRAWN = ((300, 400), (641, 427), (97, 61), (225, 225), (64, 515), (224, 337))


@dataclasses.dataclass
class Request:
    """What is exported, and how; ``info`` is what travels with the network.

    ``images`` are the network's input, ``pictures`` the same before all preprocessing, as :meth:`Preprocessing.fit`
    takes them, where they are known.
    """

    network: LoadedNetwork
    info: Mapping[str, Any]
    images: np.ndarray
    precision: str = 'float32'
    batch_size: int = 1
    calibration: Optional[np.ndarray] = None
    reference: Optional[Callable[[np.ndarray], np.ndarray]] = None
    pictures: Sequence[Any] = ()

    @property
    def sides(self) -> Tuple[int, ...]:
        """Return the shape of the network's input, without the number of images."""
        return tuple(self.images.shape[1:])

    def expected(self) -> np.ndarray:
        """Return what the network gives for the images; ``reference`` says it for one that came otherwise."""
        if self.reference is not None:
            return self.reference(self.images)
        return self.network.net(mx.nd.array(self.images)).asnumpy()

    def pixels(self) -> np.ndarray:
        """Return the images as they were before they were normalised, (N, size, size, 3) uint8."""
        known = self.network.preprocessing
        shares = self.images.transpose(0, 2, 3, 1) * np.array(known.std) + np.array(known.mean)
        return np.clip(np.rint(255 * shares), 0, 255).astype(np.uint8)


class Kind(NamedTuple):
    """A form of an exported network.

    Attributes:
        write: ``(request, folder) -> entry`` writes its files; the entry is its row of ``files`` in export.json.
        prove: ``(request, folder, entry, expected) -> figures`` runs it on the request's images, where ``expected`` are
            the network's logits; None if what runs it is not installed here.
        needs: packages without which it cannot be written.
        tolerance: ``(request) -> largest difference`` of a logit that is allowed, relative to the largest.
        asked: whether it is only written when it is asked for.
        calibrated: whether it wants real images to calibrate with.
        why_not: why this machine cannot write it, as a phrase; None if it can.
    """

    write: Callable[[Request, ExportedFolder], Dict[str, Any]]
    prove: Callable[[Request, Path, Dict[str, Any], np.ndarray], Optional[Dict[str, Any]]]
    needs: Tuple[str, ...] = ()
    tolerance: Callable[[Request], float] = lambda request: TOLERANCE['float32']
    asked: bool = False
    calibrated: bool = False
    why_not: Callable[[], Optional[str]] = lambda: None


def _figures(answer: np.ndarray, expected: np.ndarray) -> Dict[str, Any]:
    """Return how far logits are off.

    ``difference`` (relative to the largest logit) and ``same_class`` (share of images).
    """
    found = difference(mx.nd.array(answer), mx.nd.array(expected))
    figures = {'difference': found, 'images': len(expected)}
    if expected.ndim == 2 and expected.shape[1] > 1:
        figures['same_class'] = float((answer.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return figures


def _by_running(
    load: Callable[[Path, Dict[str, Any]], Callable[[np.ndarray], np.ndarray]], pixels: bool = False
) -> Any:
    """Return a proof by ``load(folder, entry)``, a function from images, or their pixels, to logits."""

    def prove(request: Request, folder: Path, entry: Dict[str, Any], expected: np.ndarray) -> Dict[str, Any]:
        images = request.pixels() if pixels else request.images
        return _figures(load(folder, entry)(images), expected)

    return prove


def _in_int8(symbol: mx.sym.Symbol, arrays: Mapping[str, mx.nd.NDArray]) -> Dict[str, np.ndarray]:
    """Return the weights of int8 convolutions in int8, and ``NAME:scale`` beside each, one for every output channel."""
    packed = {}
    for node in Graph.of(symbol, {}).nodes():
        if node.op == '_sg_mkldnn_conv' and node.true('quantized'):
            name = node.inputs[1].node.name
            weight = arrays[name].asnumpy()
            largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
            scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            packed[name] = np.rint(weight / scale).astype(np.int8)
            packed[f'{name}:scale'] = scale
    return packed


def _write_mxnet(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    graph = trace(request.network.net)
    return new.write_network('network', graph.symbol(), graph.params)


def _write_optimized(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    shape = (request.batch_size, *request.sides)
    calibration = request.calibration if request.precision == 'int8' else None
    fast: Optimized = optimize(request.network.net, shape, request.precision, calibration, engine='mxnet')
    narrow = sorted(fast.program.bfloat16)
    arrays = dict(fast.program.arrays)
    for name in narrow:  # the file format has no bfloat16
        arrays[name] = mx.nd.amp_cast(arrays[name], dtype='float32')
    packed = _in_int8(fast.program.symbol, arrays) if fast.precision == 'int8' else {}
    values = {name: packed.get(name, array.asnumpy()) for name, array in arrays.items()}
    entry = new.write_network('optimized', fast.program.symbol, {**values, **packed})
    entry.update(
        precision=fast.precision,
        input_shape=list(fast.input_shape),
        piece=fast.piece,
        int8=sorted(name for name in packed if not name.endswith(':scale')),
        bfloat16=narrow,
    )
    return entry


def _portable(kind: str) -> Any:
    def load(folder: Path, entry: Dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
        run = portable.load(str(folder), kind)[0]
        return lambda images: run(mx.nd.array(images)).asnumpy()

    return _by_running(load)


def _write_onnx(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    content = onnx_content(request.network.net, request.sides, request.info)
    new.write(ONNX, lambda file: file.write(content))
    return {'file': ONNX, 'opset': OPSET, 'input': 'data', 'batch': 'any'}


def _write_pixels(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    network = request.network
    content = onnx_content(network.net, request.sides, {**request.info, 'input': PIXELS})
    content = with_normalisation(content, network.preprocessing)
    new.write(ONNX_PIXELS, lambda file: file.write(content))
    return {'file': ONNX_PIXELS, 'opset': OPSET, 'input': PIXELS, 'batch': 'any'}


def _write_images(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    network = request.network
    content = onnx_content(network.net, request.sides, {**request.info, 'input': IMAGES})
    content = with_preprocessing(content, network.preprocessing)
    new.write(ONNX_IMAGES, lambda file: file.write(content))
    return {'file': ONNX_IMAGES, 'opset': OPSET_IMAGES, 'input': IMAGES, 'batch': 'any'}


def _drawn(height: int, width: int) -> np.ndarray:
    """Return an image with detail of all sizes: noise, and noise enlarged."""
    random = np.random.RandomState(height + width)
    coarse = random.randint(0, 256, (-(-height // 16), -(-width // 16), 3))
    large = np.kron(coarse, np.ones((16, 16, 1)))[:height, :width]
    return ((large + random.randint(0, 256, (height, width, 3))) / 2).astype(np.uint8)


def _prove_images(request: Request, folder: Path, entry: Dict[str, Any], expected: np.ndarray) -> Dict[str, Any]:
    """Compare with the network behind our own preprocessing: logits, and in levels the pixels that it is given."""
    known = request.network.preprocessing
    pictures = [read_image(picture) for picture in request.pictures] or [_drawn(*sides) for sides in DRAWN]
    whole = OnnxNetwork(folder / entry['file'])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / 'geometry.onnx'
        path.write_bytes(geometry(known))
        scale = OnnxNetwork(path)
    fitted = np.stack([known.fit(picture) for picture in pictures])
    found = np.concatenate([scale.run(picture[np.newaxis]) for picture in pictures])
    logits = np.concatenate([whole.run(picture[np.newaxis]) for picture in pictures])
    apart = np.abs(found.astype(np.int64) - fitted)
    wanted = np.concatenate(
        [request.network.net(mx.nd.array(known.batch(each[np.newaxis]))).asnumpy() for each in fitted]
    )
    return {**_figures(logits, wanted), 'levels': int(apart.max()), 'differing': float((apart > 0).mean())}


def _write_int8(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    graph = prepared(request.network.net, request.sides)
    content = content_of(graph, {'data': request.sides}, request.info)
    content = quantized_onnx(content, graph, request.images if request.calibration is None else request.calibration)
    new.write(ONNX_INT8, lambda file: file.write(content))
    return {'file': ONNX_INT8, 'opset': OPSET, 'input': 'data', 'batch': 'any', 'calibrated_on': len(request.images)}


def _write_openvino(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    files = openvino_files(onnx_content(request.network.net, request.sides, request.info))
    for name, content in zip(OPENVINO, files):
        new.write(name, lambda file, content=content: file.write(content))
    return {'file': OPENVINO[0], 'weights': OPENVINO[1], 'input': 'data', 'batch': 'any'}


def _run_onnx(folder: Path, entry: Dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    return OnnxNetwork(folder / entry['file']).run


def _run_openvino(folder: Path, entry: Dict[str, Any]) -> Callable[[np.ndarray], np.ndarray]:
    run = OpenvinoNetwork(folder / entry['file']).run
    return lambda images: run(images)[0]


def _write_torch(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    network = request.network
    try:
        source = torch_source(network.net, network.name, request.sides[1])
    except Unwritten as error:
        raise UserError(f'{network.name} has no form for PyTorch: {error}; leave torch out of --kinds') from error
    images = request.images[:4]
    known = {'images': images, 'logits': network.net(mx.nd.array(images)).asnumpy()}
    new.write(TORCH[0], lambda file: file.write(source.encode()))
    new.write(TORCH[1], lambda file: write_safetensors(file, to_state_dict(network.net)))
    new.write(TORCH[2], lambda file: write_safetensors(file, known))
    return {'file': TORCH[0], 'params': TORCH[1], 'check': TORCH[2]}


def _prove_torch(
    request: Request, folder: Path, entry: Dict[str, Any], expected: np.ndarray
) -> Optional[Dict[str, Any]]:
    """Check in a process of its own, as a user would: the two frameworks bring libraries of the same name."""
    if not installed('torch'):
        return None
    done = subprocess.run(
        [sys.executable, entry['file']], cwd=str(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    if done.returncode:
        told = done.stderr.decode(errors='replace').strip().splitlines()
        raise UserError(
            f'the PyTorch module does not run ({told[-1] if told else done.returncode}); report this network'
        )
    return json.loads(done.stdout.decode())


def _write_engine(request: Request, new: ExportedFolder) -> Dict[str, Any]:
    shape = (request.batch_size, *request.sides)
    calibration = request.calibration if request.precision == 'int8' else None
    plans = plans_of(request.network.net, shape, precision=request.precision, calibration=calibration)
    return new.write_plans(plans)


def _prove_engine(request: Request, folder: Path, entry: Dict[str, Any], expected: np.ndarray) -> Dict[str, Any]:
    """Return the figures of the worst of the plans for all instruction sets."""
    found = []
    for row in entry['sets']:
        run, _ = portable_engine.load(str(folder), instructions=row['name'])
        found.append(_figures(run(request.images), expected))
    return max(found, key=lambda figures: figures['difference'])


def _by_precision(request: Request) -> float:
    return TOLERANCE.get(request.precision, INFINITE)


KINDS: Dict[str, Kind] = {
    'mxnet': Kind(_write_mxnet, _portable('mxnet')),
    'optimized': Kind(_write_optimized, _portable('optimized'), tolerance=_by_precision),
    'onnx': Kind(_write_onnx, _by_running(_run_onnx), EXTRAS),
    'onnx-pixels': Kind(_write_pixels, _by_running(_run_onnx, pixels=True), EXTRAS, asked=True),
    # A level of a pixel in a thousand, which rounding may move, is all that differs in what the network is given.
    'onnx-images': Kind(_write_images, _prove_images, EXTRAS, tolerance=lambda request: 0.02, asked=True),
    'onnx-int8': Kind(
        _write_int8, _by_running(_run_onnx), EXTRAS, tolerance=lambda request: INFINITE, asked=True, calibrated=True
    ),
    'openvino': Kind(_write_openvino, _by_running(_run_openvino), ('onnx', 'openvino'), asked=True),
    'engine': Kind(_write_engine, _prove_engine, tolerance=_by_precision, asked=True, why_not=kernels.engine.why_not),
    'torch': Kind(_write_torch, _prove_torch, tolerance=lambda request: 1e-5, asked=True),
}


def possible_kinds() -> List[str]:
    """Return those of ``KINDS`` that are written where none is asked for.

    All that need nothing which is not installed.
    """
    return [name for name, kind in KINDS.items() if not kind.asked and all(map(installed, kind.needs))]
