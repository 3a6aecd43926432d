"""Export a detector to a folder that does not need this project: MXNet's symbol and parameters, and a loader."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, Optional, Sequence, Tuple

import mxnet as mx
import numpy as np

from detection.detector import MULTIPLE, Detector
from detection.export_onnx import Apart, apart, detector_content, on_canvas, square
from detection.network import LoadedDetector
from environment import UserError
from inference import portable
from inference.exported_folder import DETECTOR_ONNX, DETECTOR_OPENVINO, ExportedFolder, exported_folder
from inference.graph import parameters_of
from inference.onnx_file import OnnxNetwork
from inference.onnx_variants import OpenvinoNetwork, openvino_files

__all__ = ['export_detector', 'trace_detector']

INPUTS = ('data', 'sizes')
TOLERANCE = 0.01  # pixels
ON_CANVAS = 0.1  # pixels: other runtimes round differently
SHARE_MISSED = 0.02  # of the boxes


def trace_detector(det: Detector) -> mx.sym.Symbol:
    """Return the whole of a detector's inference, suppression included, as a symbol ``(data, sizes) -> three arrays``.

    It takes batches of any number and size of images, as the detector itself does.
    """
    with mx.autograd.pause():  # some units have other forms if gradients are needed
        return mx.sym.Group(list(det(*(mx.sym.var(name) for name in INPUTS))))


def _arrays(det: Detector, symbol: mx.sym.Symbol) -> Dict[str, np.ndarray]:
    """Return the parameters under the names that ``SymbolBlock.imports`` expects."""
    values = parameters_of(det)
    statistics = set(symbol.list_auxiliary_states())
    names = [name for name in symbol.list_inputs() if name not in INPUTS]
    return {('aux:' if name in statistics else 'arg:') + name: values[name] for name in names}


def export_detector(
    network: LoadedDetector,
    folder: os.PathLike,
    images: Sequence[np.ndarray],
    kinds: Sequence[str] = ('mxnet',),
    canvas: Optional[Tuple[int, int]] = None,
) -> Dict[str, Any]:
    """Write ``folder``, run its detector on ``images`` (H, W, 3) uint8, and return how much its boxes differ.

    ``load.py`` in the folder loads it, and so does ``mx.gluon.SymbolBlock.imports(symbol, ['data', 'sizes'], params)``;
    ``export.json`` describes how to prepare images. Returns ``difference`` (of a corner, in pixels), ``boxes`` and
    ``images``. If ``kinds`` contains ``'onnx'`` or ``'openvino'``, these files are written too, for images on a
    ``canvas`` of this height and width (default: a square that fits everything the preprocessing returns). Their
    figures are under their names, with ``missed``: boxes that differ because rounding decided between two. An earlier
    export in the folder is replaced as a whole, or remains if anything goes wrong. Raises ``UserError`` if a box
    differs by more than a hundredth of a pixel, or has another class.
    """
    symbol = trace_detector(network.net)
    classes = network.classes
    info = {
        'task': network.task,
        'model': network.name,
        'model_kwargs': network.options,
        'class_names': None if classes is None else list(classes.names),
        'categories': None if classes is None or classes.ids is None else list(classes.ids),
        'preprocessing': network.preprocessing.to_dict(),
        'inputs': {
            'data': f'(N, 3, H, W) float32, RGB / 255, minus mean, divided by std; zeros up to multiples of {MULTIPLE}',
            'sizes': '(N, 2) float32, height and width of each image within the filling',
        },
        'outputs': 'boxes (N, 100, 4) x1, y1, x2, y2 in pixels of data; scores (N, 100); labels (N, 100), -1 for none',
        **({'plugins': network.net.plugins} if network.net.plugins else {}),
    }
    with exported_folder(folder) as new:
        entry = new.write_network('detector', symbol, _arrays(network.net, symbol))
        info['files'] = {'mxnet': {**entry, 'inputs': list(INPUTS)}}
        others = [kind for kind in kinds if kind != 'mxnet']
        if others:
            canvas = canvas or square(network.preprocessing.max_size)
            content = detector_content(network.net, symbol, canvas, info)
            info['files'].update({kind: _written(new, kind, content, canvas) for kind in others})
        new.write_info(info)
        proof = _prove(network, new.path, images, Path(folder))
        proof.update({kind: _prove_on_canvas(network, new.path, kind, images, canvas, folder) for kind in others})
        new.write_info({**info, 'proof': proof})
    return proof


def _written(new: ExportedFolder, kind: str, content: bytes, canvas: Tuple[int, int]) -> Dict[str, Any]:
    names = DETECTOR_ONNX if kind == 'onnx' else DETECTOR_OPENVINO
    for name, part in zip(names, [content] if kind == 'onnx' else openvino_files(content)):
        new.write(name, lambda file, part=part: file.write(part))
    return {'file': names[0], 'inputs': list(INPUTS), 'canvas': list(canvas), 'batch': 'any'}


def _prove_on_canvas(
    network: LoadedDetector,
    written: Path,
    kind: str,
    images: Sequence[np.ndarray],
    canvas: Tuple[int, int],
    folder: os.PathLike,
) -> Dict[str, Any]:
    known = network.preprocessing
    if kind == 'onnx':
        session = OnnxNetwork(written / DETECTOR_ONNX[0]).session
        run = lambda *inputs: session.run(None, dict(zip(INPUTS, inputs)))  # noqa: E731
    else:
        run = OpenvinoNetwork(written / DETECTOR_OPENVINO[0]).run
    found = Apart(0.0, 0, 0)
    for image in images:
        data, sizes = known.batch([known.normalise(known.fit(image))])
        if data.shape[2] > canvas[0] or data.shape[3] > canvas[1]:
            raise UserError(
                f'an image of {data.shape[2]} x {data.shape[3]} pixels is larger than the canvas of {canvas[0]} x '
                f'{canvas[1]}; give a larger --canvas, or a smaller --short and --max-size'
            )
        data = on_canvas(data, canvas)
        expected = [array.asnumpy() for array in network.net(mx.nd.array(data), mx.nd.array(sizes))]
        one = apart(expected, run(data, sizes), ON_CANVAS)
        found = Apart(max(found.difference, one.difference), found.missed + one.missed, found.boxes + one.boxes)
    if found.missed > SHARE_MISSED * found.boxes:
        raise UserError(
            f'{os.fspath(folder)} is not written: {found.missed} of {found.boxes} boxes of the {kind} detector are '
            'others; report this network'
        )
    return {**found._asdict(), 'images': len(images)}


def _prove(network: LoadedDetector, written: Path, images: Sequence[np.ndarray], folder: Path) -> Dict[str, Any]:
    exported, _ = portable.load(str(written))
    known = network.preprocessing
    difference, boxes = 0.0, 0
    for image in images:
        inputs = [mx.nd.array(array) for array in known.batch([known.normalise(known.fit(image))])]
        expected, found = ([array.asnumpy() for array in run(*inputs)] for run in (network.net, exported))
        if (expected[2] != found[2]).any():
            difference = float('inf')
        difference = max(difference, float(np.abs(expected[0] - found[0]).max()))
        boxes += int((expected[2] >= 0).sum())
    if not difference <= TOLERANCE:
        raise UserError(
            f'{folder} is not written: a box of the exported detector differs by {difference} pixels, and {TOLERANCE} '
            'are allowed; report this network'
        )
    return {'difference': difference, 'boxes': boxes, 'images': len(images)}
