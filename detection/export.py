"""A detector as a folder that needs nothing of ours: MXNet's symbol and parameters, and what goes with them."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any, Dict, Sequence

import mxnet as mx
import numpy as np

from detection.detector import MULTIPLE, Detector
from detection.load import TASK, LoadedDetector
from environment import UserError
from environment.files import atomic_write, make_folder, write_json, write_text
from inference.graph import parameters_of
from model.params_file import write_params_file

__all__ = ['export_detector', 'trace_detector']

SYMBOL, PARAMS, INFO = 'detector-symbol.json', 'detector-0000.params', 'export.json'
INPUTS = ('data', 'sizes')
TOLERANCE = 0.01  # pixels


def trace_detector(det: Detector) -> mx.sym.Symbol:
    """Return the whole of a detector's inference, suppression included, as a symbol ``(data, sizes) -> three arrays``.

    It takes batches of any number and size of images, as the detector itself does.
    """
    with mx.autograd.pause():  # some units take other forms where gradients are asked for
        return mx.sym.Group(list(det(*(mx.sym.var(name) for name in INPUTS))))


def _arrays(det: Detector, symbol: mx.sym.Symbol) -> Dict[str, np.ndarray]:
    """The parameters as ``SymbolBlock.imports`` looks for them."""
    values = parameters_of(det)
    statistics = set(symbol.list_auxiliary_states())
    names = [name for name in symbol.list_inputs() if name not in INPUTS]
    return {('aux:' if name in statistics else 'arg:') + name: values[name] for name in names}


def export_detector(network: LoadedDetector, folder: os.PathLike, images: Sequence[np.ndarray]) -> Dict[str, Any]:
    """Write ``folder``, let what it holds find boxes on ``images`` (H, W, 3) uint8, and return how far they are off.

    ``mx.gluon.SymbolBlock.imports(symbol, ['data', 'sizes'], params)`` reads it; ``export.json`` says how to prepare
    images. Returns ``difference`` (of a corner, in pixels), ``boxes`` and ``images``. ``UserError`` where a box differs
    by more than a hundredth of a pixel, or has another class.
    """
    folder = Path(folder)
    make_folder(folder)
    symbol = trace_detector(network.net)
    arrays = _arrays(network.net, symbol)
    write_text(folder / SYMBOL, symbol.tojson())
    atomic_write(folder / PARAMS, lambda file: write_params_file(file, arrays))
    proof = _prove(network, folder, images)
    classes = network.classes
    info = {
        'task': TASK,
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
        'files': {'symbol': SYMBOL, 'params': PARAMS},
        'proof': proof,
    }
    write_json(folder / INFO, info)
    return proof


def _prove(network: LoadedDetector, folder: Path, images: Sequence[np.ndarray]) -> Dict[str, Any]:
    with warnings.catch_warnings():
        # Said of every graph that MXNet imports: it asks for the inputs' types before it has read the parameters.
        warnings.filterwarnings('ignore', 'Cannot decide type for the following arguments')
        exported = mx.gluon.SymbolBlock.imports(str(folder / SYMBOL), list(INPUTS), str(folder / PARAMS))
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
            f'{folder}: a box of the exported detector differs by {difference} pixels, and {TOLERANCE} are allowed; do '
            'not use it, and report this network'
        )
    return {'difference': difference, 'boxes': boxes, 'images': len(images)}
