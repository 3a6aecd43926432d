"""Export a network to a folder that does not need this project: for MXNet, plain and optimized, ONNX, PyTorch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import mxnet as mx
import numpy as np

from common.schema import NAME, TABLE, check_schema
from environment import UserError, import_extra
from inference import portable, portable_engine
from inference.choices import LOADED
from inference.export_kinds import KINDS, Request, possible_kinds
from inference.exported_folder import exported_folder
from inference.foreign import Foreign
from inference.network import TASKS, LoadedNetwork, network_class
from inference.onnx_file import OnnxNetwork

__all__ = ['KINDS', 'check_kinds', 'describe', 'export', 'export_foreign', 'load_exported', 'possible_kinds']


def check_kinds(kinds: Sequence[str]) -> None:
    """Raise `UserError` before any work is done if this installation cannot write one of these ``KINDS``."""
    for kind in kinds:
        reason = KINDS[kind].why_not()
        if reason is not None:
            raise UserError(f'the kind {kind} cannot be written: {reason}; leave it out')
        for name in KINDS[kind].needs:
            import_extra(name)


def describe(network: LoadedNetwork) -> Dict[str, Any]:
    """Return the description that is stored with an exported network."""
    return {
        'model': network.name,
        'model_kwargs': network.options,
        'class_names': None if network.class_names is None else list(network.class_names),
        'preprocessing': network.preprocessing.to_dict(),
        'input': 'data: (N, 3, size, size) float32, RGB / 255, minus mean, divided by std',
        'output': '(N, classes) float32 logits' + (', each of a sigmoid' if network.several else ''),
        **({'labels': 'several'} if network.several else {}),
        **({'plugins': network.net.plugins} if getattr(network.net, 'plugins', None) else {}),
    }


def export(
    network: LoadedNetwork,
    folder: os.PathLike[str],
    images: np.ndarray,
    kinds: Sequence[str] = ('mxnet', 'optimized', 'onnx'),
    precision: str = 'float32',
    batch_size: int = 1,
    calibration: Optional[np.ndarray] = None,
    pictures: Sequence[Any] = (),
) -> Dict[str, Dict[str, Any]]:
    """Write ``folder``, run what it holds on ``images`` (N, 3, H, W), and return how far each kind is from the network.

    ``precision``, ``batch_size`` and ``calibration`` are the optimized form's, see :func:`inference.optimize`;
    ``pictures`` are the images before all preprocessing, for the kind that has it inside (default: drawn ones).

    For each kind: ``difference`` (of a logit, relative to the largest), ``same_class`` (share of ``images``) and the
    number of ``images``; a kind that nothing here can run is not among them. An earlier export in the folder is
    replaced as a whole, or stays where anything goes wrong. Raises ``UserError`` if float answers differ by more than
    the precision's tolerance, ``SetupError`` where what a kind needs is not installed.
    """
    check_kinds(kinds)
    info = describe(network)
    request = Request(network, info, images, precision, batch_size, calibration, pictures=pictures)
    return write_folder(request, folder, kinds)


def export_foreign(
    foreign: Foreign, folder: os.PathLike[str], kinds: Sequence[str], batch_size: int = 1
) -> Dict[str, Dict[str, Any]]:
    """Write ``folder`` as :func:`export` does, for a network from outside the project.

    It is compared, on random numbers, with the original network.
    """
    check_kinds(kinds)
    info = {
        'task': "its owner's own preprocessing",
        'model': foreign.name,
        'stripped': foreign.stripped,
        'input': f'data: {("N", *foreign.shape[1:])} float32, prepared as the network was trained',
    }
    images = np.random.RandomState(0).standard_normal((4, *foreign.shape[1:])).astype(np.float32)
    network = LoadedNetwork(foreign.net, foreign.name, {}, None, None, {})
    request = Request(network, info, images, batch_size=batch_size, reference=foreign.reference)
    return write_folder(request, folder, kinds)


def write_folder(request: Request, folder: os.PathLike[str], kinds: Sequence[str]) -> Dict[str, Dict[str, Any]]:
    """Write the requested kinds, comparing each with the network before the folder is put in place."""
    info = dict(request.info)
    with exported_folder(folder) as new:
        info['files'] = {kind: KINDS[kind].write(request, new) for kind in kinds}
        new.write_info(info)
        proof = _prove(request, new.path, info['files'], Path(folder))
        new.write_info({**info, 'proof': proof})
    return proof


def _prove(request: Request, written: Path, files: Mapping[str, Any], folder: Path) -> Dict[str, Dict[str, Any]]:
    expected = request.expected()
    proof = {}
    for kind, entry in files.items():
        figures = KINDS[kind].prove(request, written, entry, expected)
        if figures is None:
            continue
        proof[kind] = figures
        allowed = KINDS[kind].tolerance(request)
        if not figures['difference'] <= allowed:
            raise UserError(
                f'{folder} is not written: the {kind} network differs by {figures["difference"]:.1e} of the largest '
                f'logit, and {allowed} is allowed; report this network'
            )
    return proof


# The files of one kind, as a schema: only files beside export.json are opened, whatever it says.
_FILES = {'symbol?': NAME, 'params?': NAME, 'file?': NAME, ...: object}
# The parts of export.json, and of an ONNX file's metadata, that are read, as a schema.
_INFO = {'model': str, 'model_kwargs': TABLE, 'class_names': ([str], None), 'preprocessing': TABLE, ...: object}


class _ExportedEngine(mx.gluon.Block):
    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._run, _ = portable_engine.load(str(folder))

    def forward(self, x: mx.nd.NDArray) -> mx.nd.NDArray:
        return mx.nd.from_numpy(self._run(x.asnumpy()), zero_copy=True)


class _Exported(mx.gluon.Block):
    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__()
        self._folder = folder
        self._run, _ = portable.load(str(folder), kind)

    def forward(self, *inputs: mx.nd.NDArray) -> Any:
        try:
            answer = self._run(*inputs)
            for array in answer if isinstance(answer, list) else [answer]:
                array.wait_to_read()
            return answer
        except mx.MXNetError as error:  # a damaged symbol from before there were digests
            raise UserError(
                f'{self._folder} holds a network that does not run ({portable.reason(error)}); export it again'
            ) from error


def _fastest(path: Path, info: Dict[str, Any]) -> List[str]:
    """Return the kinds in the folder, the fastest first; plans come last if the processor cannot run them."""
    kinds = [name for name in LOADED if name in info['files']]
    if 'engine' in kinds and not portable_engine.fits(str(path), info):
        kinds.append(kinds.pop(0))
    return kinds


def load_exported(path: os.PathLike[str], kind: Optional[str] = None) -> LoadedNetwork:
    """Return the network in an exported folder, or in an ONNX file that :func:`export` wrote.

    ``kind`` is one of ``LOADED``, for a folder; by default the fastest that this machine can run. Raises ``UserError``
    for anything that is missing or damaged; files are checked against their digests, if the export has them.
    """
    path = Path(path)
    try:
        if path.is_dir():
            info = portable.read_info(str(path))
            if info.get('task', 'classification') not in TASKS:
                raise UserError(f'{path} holds a network for {info["task"]}; give an exported classifier or detector')
            check_schema(info, {'files': {...: _FILES}, 'sha256?': {...: str}, ...: object})
            files = info['files']
            kind = kind or next(iter(_fastest(path, info)), 'mxnet')
            if kind not in files:
                raise UserError(f'{path} holds no {kind} network; it has: {", ".join(files)}')
            if 'canvas' in files[kind]:
                raise UserError(f'{path}: its {kind} network, a detector, is for other programs; leave the kind out')
            if kind == 'onnx':
                portable.content(str(path), files['onnx']['file'], info)
                net = OnnxNetwork(path / files['onnx']['file'])
            elif kind == 'engine':
                net = _ExportedEngine(path)
            else:
                net = _Exported(path, kind)
        else:
            net = OnnxNetwork(path)
            info = net.info()
        check_schema(info, _INFO)
        if str(info.get('input')).startswith(('pixels', 'images')):
            raise UserError(f'{path} takes pixels, which it prepares itself; give network.onnx, or run it as it is')
        return network_class(info.get('task')).restored(
            net, info['model'], info['model_kwargs'], info['class_names'], info
        )
    except portable.DamagedExport as error:
        raise UserError(str(error)) from error
    except (OSError, ValueError, KeyError, TypeError, mx.MXNetError) as error:
        raise UserError(
            f'{path} is not a network that scripts/export.py wrote ({portable.reason(error)}); export it again'
        ) from error
