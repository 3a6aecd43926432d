"""A network as a folder that needs nothing of ours: plain and optimized for MXNet, ONNX, and what goes with it."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np

from common.schema import NAME, TABLE, check_schema
from data.preprocessing import Preprocessing
from environment import UserError, import_extra
from inference import portable
from inference.exported_folder import ONNX, ExportedFolder, exported_folder
from inference.graph import Graph, trace
from inference.network import LoadedNetwork
from inference.onnx_file import EXTRAS, OPSET, OnnxNetwork, onnx_content
from inference.optimization.optimizer import TOLERANCE, Optimized, difference, optimize

__all__ = ['KINDS', 'check_onnx', 'describe', 'export', 'load_exported', 'possible_kinds']

KINDS = ('mxnet', 'optimized', 'onnx')


def possible_kinds() -> List[str]:
    """Those of ``KINDS`` that this installation can write: ONNX is an extra."""
    lacking = [name for name in EXTRAS if importlib.util.find_spec(name) is None]
    return [kind for kind in KINDS if kind != 'onnx' or not lacking]


def _in_int8(symbol: mx.sym.Symbol, arrays: Mapping[str, mx.nd.NDArray]) -> Dict[str, np.ndarray]:
    """The weights of int8 convolutions in int8, and ``NAME:scale`` beside each, one for every output channel."""
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


def _write_optimized(new: ExportedFolder, fast: Optimized) -> Dict[str, Any]:
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


def check_onnx() -> None:
    """``SetupError`` unless this installation can write ONNX files and run them, for the time before there is work."""
    for name in EXTRAS:
        import_extra(name)


def describe(network: LoadedNetwork) -> Dict[str, Any]:
    """What travels with an exported network."""
    return {
        'model': network.name,
        'model_kwargs': network.options,
        'class_names': None if network.class_names is None else list(network.class_names),
        'preprocessing': network.preprocessing.to_dict(),
        'input': 'data: (N, 3, size, size) float32, RGB / 255, minus mean, divided by std',
        'output': '(N, classes) float32 logits',
        **({'plugins': network.net.plugins} if getattr(network.net, 'plugins', None) else {}),
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
    kind: ``difference`` (of a logit, relative to the largest) and ``same_class`` (share of ``images``). An earlier
    export in the folder is replaced as a whole, or stays where anything goes wrong. ``UserError`` where float answers
    differ by more than the precision's tolerance, ``SetupError`` where ONNX is wanted and not installed.
    """
    if 'onnx' in kinds:
        check_onnx()
    info = describe(network)
    size = network.preprocessing.size
    files: Dict[str, Any] = {}
    with exported_folder(folder) as new:
        if 'mxnet' in kinds:
            graph = trace(network.net)
            files['mxnet'] = new.write_network('network', graph.symbol(), graph.params)
        if 'optimized' in kinds:
            shape = (batch_size, 3, size, size)
            files['optimized'] = _write_optimized(
                new, optimize(network.net, shape, precision, calibration, engine='mxnet')
            )
        if 'onnx' in kinds:
            content = onnx_content(network.net, size, info)
            new.write(ONNX, lambda file: file.write(content))
            files['onnx'] = {'file': ONNX, 'opset': OPSET, 'input': 'data', 'batch': 'any'}
        info['files'] = files
        new.write_info(info)
        proof = _prove(network, new.path, images, kinds, precision, Path(folder))
        new.write_info({**info, 'proof': proof})
    return proof


def _prove(
    network: LoadedNetwork, written: Path, images: np.ndarray, kinds: Sequence[str], precision: str, folder: Path
) -> Dict[str, Dict[str, Any]]:
    data = mx.nd.array(images)
    expected = network.net(data)
    proof = {}
    for kind in kinds:
        run = OnnxNetwork(written / ONNX) if kind == 'onnx' else portable.load(str(written), kind)[0]
        answer = run(data)
        same = (answer.asnumpy().argmax(axis=1) == expected.asnumpy().argmax(axis=1)).mean()
        found = difference(answer, expected)
        proof[kind] = {'difference': found, 'same_class': float(same), 'images': len(images)}
        allowed = TOLERANCE.get(precision if kind == 'optimized' else 'float32', float('inf'))
        if not found <= allowed:
            raise UserError(
                f'{folder} is not written: the {kind} network differs by {found:.1e} of the largest logit, and '
                f'{allowed} is allowed; report this network'
            )
    return proof


# The files of one kind, as a schema: what is opened lies beside export.json, wherever that has come from.
_FILES = {'symbol?': NAME, 'params?': NAME, 'file?': NAME, ...: object}
# What is read of export.json, and of what an ONNX file carries, as a schema.
_INFO = {'model': str, 'model_kwargs': TABLE, 'class_names': ([str], None), 'preprocessing': TABLE, ...: object}


class _Exported(mx.gluon.Block):
    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__()
        self._folder = folder
        self._run, _ = portable.load(str(folder), kind)

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        try:
            answer = self._run(x)
            answer.wait_to_read()
            return answer
        except mx.MXNetError as error:  # a damaged symbol of before there were digests
            raise UserError(
                f'{self._folder} holds a network that does not run ({portable.reason(error)}); export it again'
            ) from error


def load_exported(path: os.PathLike[str], kind: Optional[str] = None) -> LoadedNetwork:
    """The network in an exported folder, or in an ONNX file that :func:`export` wrote, wherever it lies now.

    ``kind`` is one of ``KINDS``, for a folder; by default the fastest that runs with MXNet. ``UserError`` for anything
    that is missing or damaged: files are checked against their digests, where the export has them.
    """
    path = Path(path)
    try:
        if path.is_dir():
            info = portable.read_info(str(path))
            if 'task' in info:
                raise UserError(f'{path} holds a network for {info["task"]}; give an exported classifier')
            check_schema(info, {'files': {...: _FILES}, 'sha256?': {...: str}, ...: object})
            files = info['files']
            kind = kind or next((name for name in ('optimized', 'mxnet', 'onnx') if name in files), 'mxnet')
            if kind not in files:
                raise UserError(f'{path} holds no {kind} network; it has: {", ".join(files)}')
            if kind == 'onnx':
                portable.content(str(path), files['onnx']['file'], info)
                net = OnnxNetwork(path / files['onnx']['file'])
            else:
                net = _Exported(path, kind)
        else:
            net = OnnxNetwork(path)
            info = net.info()
        check_schema(info, _INFO)
        names = info['class_names']
        return LoadedNetwork(
            net,
            info['model'],
            info['model_kwargs'],
            Preprocessing.from_dict(info['preprocessing']),
            None if names is None else tuple(names),
            info,
        )
    except portable.DamagedExport as error:
        raise UserError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, mx.MXNetError) as error:
        raise UserError(
            f'{path} is no network that scripts/export.py wrote ({portable.reason(error)}); export it again'
        ) from error
