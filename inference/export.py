"""A network as a folder that needs nothing of ours: plain and optimized for MXNet, ONNX, and what goes with it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np

from environment import UserError
from environment.files import atomic_write, make_folder, write_json, write_text
from environment.form import NAME, TABLE, check_form, read_json
from inference import portable
from inference.graph import Graph, trace
from inference.network import LoadedNetwork
from inference.onnx_file import OPSET, OnnxNetwork, export_onnx
from inference.optimization.optimizer import TOLERANCE, Optimized, difference, optimize
from inference.preprocessing import Preprocessing

__all__ = ['KINDS', 'describe', 'export', 'load_exported']

KINDS = ('mxnet', 'optimized', 'onnx')


def _save(folder: Path, stem: str, symbol: mx.sym.Symbol, arrays: Mapping[str, mx.nd.NDArray]) -> Dict[str, Any]:
    names = {'symbol': f'{stem}-symbol.json', 'params': f'{stem}-0000.params'}
    # Without the argument MXNet leaves out the casts to bfloat16.
    text = symbol.tojson(remove_amp_cast=False)
    write_text(folder / names['symbol'], text)
    atomic_write(folder / names['params'], lambda file: mx.nd.save(file.name, dict(arrays)))
    return names


def _in_int8(symbol: mx.sym.Symbol, arrays: Mapping[str, mx.nd.NDArray]) -> Dict[str, mx.nd.NDArray]:
    """The weights of int8 convolutions in int8, and ``NAME:scale`` beside each, one for every output channel."""
    packed = {}
    for node in Graph.of(symbol, {}).nodes():
        if node.op == '_sg_mkldnn_conv' and node.true('quantized'):
            name = node.inputs[1].node.name
            weight = arrays[name].asnumpy()
            largest = np.abs(weight).max(axis=tuple(range(1, weight.ndim)), keepdims=True)
            scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            packed[name] = mx.nd.array(np.rint(weight / scale), dtype='int8')
            packed[f'{name}:scale'] = mx.nd.array(scale)
    return packed


def _save_optimized(folder: Path, fast: Optimized) -> Dict[str, Any]:
    arrays = dict(fast.program.arrays)
    packed = _in_int8(fast.program.symbol, arrays) if fast.precision == 'int8' else {}
    arrays.update(packed)
    narrow = sorted(fast.program.bfloat16)
    for name in narrow:  # the file format has no bfloat16
        arrays[name] = mx.nd.amp_cast(arrays[name], dtype='float32')
    entry = _save(folder, 'optimized', fast.program.symbol, arrays)
    entry.update(
        precision=fast.precision,
        input_shape=list(fast.input_shape),
        piece=fast.piece,
        int8=sorted(name for name in packed if not name.endswith(':scale')),
        bfloat16=narrow,
    )
    return entry


def describe(network: LoadedNetwork) -> Dict[str, Any]:
    """What travels with an exported network."""
    return {
        'model': network.name,
        'model_kwargs': network.options,
        'class_names': None if network.class_names is None else list(network.class_names),
        'preprocessing': network.preprocessing.to_dict(),
        'input': 'data: (N, 3, size, size) float32, RGB / 255, minus mean, divided by std',
        'output': '(N, classes) float32 logits',
    }


def export(
    network: LoadedNetwork,
    folder: os.PathLike[str],
    images: np.ndarray,
    kinds: Sequence[str] = KINDS,
    precision: str = 'float32',
    batch_size: int = 1,
    calibration: Optional[np.ndarray] = None,
) -> Dict[str, Dict[str, Any]]:
    """Write ``folder``, run what it holds on ``images`` (N, 3, H, W), and return how far each kind is from the network.

    ``precision``, ``batch_size`` and ``calibration`` are the optimized form's, see :func:`inference.optimize`. For each
    kind: ``difference`` (of a logit, relative to the largest) and ``same_class`` (share of ``images``). ``UserError``
    where float answers differ by more than the precision's tolerance.
    """
    folder = Path(folder)
    make_folder(folder)
    info = describe(network)
    size = network.preprocessing.size
    files: Dict[str, Any] = {}
    if 'mxnet' in kinds:
        graph = trace(network.net)
        files['mxnet'] = _save(
            folder, 'network', graph.symbol(), {name: mx.nd.array(value) for name, value in graph.params.items()}
        )
    if 'optimized' in kinds:
        shape = (batch_size, 3, size, size)
        files['optimized'] = _save_optimized(folder, optimize(network.net, shape, precision, calibration))
    if 'onnx' in kinds:
        export_onnx(network.net, folder / 'network.onnx', size, info)
        files['onnx'] = {'file': 'network.onnx', 'opset': OPSET, 'input': 'data', 'batch': 'any'}
    info['files'] = files
    _write_info(folder, info)
    shutil.copyfile(portable.__file__, folder / 'load.py')
    proof = _prove(network, folder, images, kinds, precision)
    _write_info(folder, {**info, 'proof': proof})
    return proof


def _write_info(folder: Path, info: Mapping[str, Any]) -> None:
    write_json(folder / portable.INFO, info)


def _prove(
    network: LoadedNetwork, folder: Path, images: np.ndarray, kinds: Sequence[str], precision: str
) -> Dict[str, Dict[str, Any]]:
    data = mx.nd.array(images)
    expected = network.net(data)
    proof = {}
    for kind in kinds:
        run = OnnxNetwork(folder / 'network.onnx') if kind == 'onnx' else portable.load(str(folder), kind)[0]
        answer = run(data)
        same = (answer.asnumpy().argmax(axis=1) == expected.asnumpy().argmax(axis=1)).mean()
        found = difference(answer, expected)
        proof[kind] = {'difference': found, 'same_class': float(same), 'images': len(images)}
        allowed = TOLERANCE.get(precision if kind == 'optimized' else 'float32', float('inf'))
        if not found <= allowed:
            raise UserError(
                f'{folder}: the exported {kind} network differs by {found:.1e} of the largest logit, and {allowed} is '
                'allowed; do not use it, and report this network'
            )
    return proof


# The files of one kind, as a form: what is opened lies beside export.json, wherever that has come from.
_FILES = {'symbol?': NAME, 'params?': NAME, 'file?': NAME, ...: object}
# What is read of export.json, and of what an ONNX file carries, as a form.
_INFO = {'model': str, 'model_kwargs': TABLE, 'class_names': ([str], None), 'preprocessing': TABLE, ...: object}


class _Exported(mx.gluon.Block):
    def __init__(self, run: Any) -> None:
        super().__init__()
        self._exported = run

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        return self._exported(x)


def load_exported(path: os.PathLike[str], kind: Optional[str] = None) -> LoadedNetwork:
    """The network in an exported folder, or in an ONNX file that :func:`export` wrote, wherever it lies now.

    ``kind`` is one of ``KINDS``, for a folder; by default the fastest that runs with MXNet. ``UserError`` for anything
    that is missing or damaged.
    """
    path = Path(path)
    try:
        if path.is_dir():
            info = read_json(path / portable.INFO, TABLE)
            if 'task' in info:
                raise UserError(f'{path} holds a network for {info["task"]}; give an exported classifier')
            check_form(info, {'files': {...: _FILES}, ...: object})
            files = info['files']
            kind = kind or next((name for name in ('optimized', 'mxnet', 'onnx') if name in files), 'mxnet')
            if kind not in files:
                raise UserError(f'{path} holds no {kind} network; it has: {", ".join(files)}')
            net = OnnxNetwork(path / files['onnx']['file']) if kind == 'onnx' else _Exported(_loaded(path, kind))
        else:
            net = OnnxNetwork(path)
            info = net.info()
        check_form(info, _INFO)
        names = info['class_names']
        return LoadedNetwork(
            net,
            info['model'],
            info['model_kwargs'],
            Preprocessing.from_dict(info['preprocessing']),
            None if names is None else tuple(names),
            info,
        )
    except (OSError, ValueError, KeyError, TypeError, mx.MXNetError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f'{path} is no network that scripts/export.py wrote ({reason}); export it again') from error


def _loaded(path: Path, kind: str) -> Any:
    return portable.load(str(path), kind)[0]
