"""Write an exported folder as a whole: its files, their digests, the loader."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Callable, Dict, Iterator, Mapping

import mxnet as mx
import numpy as np

from common.files import sha256_file
from common.together import Together, written_together
from inference import portable, portable_engine, portable_files
from inference.engine.network import EngineNetwork
from kernels import engine
from kernels.engine import engine_library
from model.parameters import params_format
from model.parameters.file_format import write_params_file

__all__ = ['ExportedFolder', 'exported_folder']

ONNX = 'network.onnx'
ONNX_PIXELS, ONNX_IMAGES, ONNX_INT8 = 'network-pixels.onnx', 'network-images.onnx', 'network-int8.onnx'
OPENVINO = ('network.xml', 'network.bin')
DETECTOR_ONNX, DETECTOR_OPENVINO = ('detector.onnx',), ('detector.xml', 'detector.bin')
TORCH = ('net.py', 'net.safetensors', 'net-check.safetensors')
STEMS = ('network', 'optimized', 'detector')
LOADER, ENGINE_LOADER, SOURCE = 'load.py', 'load_engine.py', 'engine.cc'
_PARTS = (params_format, portable_files, engine_library)


def _loader(of_engine: bool) -> Dict[str, bytes]:
    """Return the loader as files that do not need this project; they import each other by their bare names."""
    modules = {LOADER: portable, **({ENGINE_LOADER: portable_engine} if of_engine else {})}
    modules.update({f'{module.__name__.rpartition(".")[2]}.py': module for module in _PARTS})
    texts = {name: Path(module.__file__).read_text(encoding='utf-8') for name, module in modules.items()}
    for module in _PARTS:
        inside, alone = module.__name__, module.__name__.rpartition('.')[2]
        texts = {name: text.replace(f'from {inside} import', f'from {alone} import') for name, text in texts.items()}
    if not of_engine:
        del texts['engine_library.py']
    return {name: text.encode() for name, text in texts.items()}


def _names(stem: str) -> Dict[str, str]:
    return {'symbol': f'{stem}-symbol.json', 'params': f'{stem}-0000.params'}


class ExportedFolder:
    """What an export writes into; :func:`exported_folder` makes it.

    Attributes:
        path: where the files lie, by their final names, until the export is complete.
    """

    def __init__(self, folder: Path, new: Together) -> None:
        self._folder, self._new = folder, new
        self._digests: Dict[str, str] = {}
        self.path = new.beside(folder)

    def write(self, name: str, write: Callable[[BinaryIO], object]) -> None:
        """Write a file with ``write(file)``, and keep its digest."""
        self._new.write(self._folder / name, write)
        self._digests[name] = sha256_file(self.path / name)

    def write_network(self, stem: str, symbol: mx.sym.Symbol, arrays: Mapping[str, np.ndarray]) -> Dict[str, Any]:
        """Write a symbol and its parameters; returns their entry for ``files`` of export.json."""
        names = _names(stem)
        # Without the argument MXNet leaves out the casts to bfloat16.
        text = symbol.tojson(remove_amp_cast=False).encode()
        self.write(names['symbol'], lambda file: file.write(text))
        self.write(names['params'], lambda file: write_params_file(file, arrays))
        return names

    def write_plans(self, plans: Mapping[str, EngineNetwork]) -> Dict[str, Any]:
        """Write plans by their sets of instructions, with libraries and source; returns their entry for ``files``."""
        sets = []
        for name, network in plans.items():
            files = {'library': f'engine-{name}.so', 'plan': f'engine-{name}.plan'}
            content = network.library.path.read_bytes()
            self.write(files['library'], lambda file, content=content: file.write(content))
            plan = network.plan
            arrays = (network.library, plan.table, plan.weights_array)
            self.write(files['plan'], lambda file, arrays=arrays: portable_engine.write_plan(file, *arrays))
            needs = engine.needed(name, network.precision)
            sets.append({'name': name, **files, 'needs': needs, 'compiler': engine.command(name)})
        self.write(SOURCE, lambda file: file.write(engine.source().encode()))
        first = next(iter(plans.values()))
        shape = list(first.input_shape)
        return {'sets': sets, 'input_shape': shape, 'source': SOURCE, 'precision': first.precision}

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write export.json, with the digests of all files, and the loader; may be called again."""
        for name, content in _loader('engine' in info['files']).items():
            self.write(name, lambda file, content=content: file.write(content))
        complete = json.loads(json.dumps({**info, 'sha256': self._digests}))  # as it will be read
        self._new.write_json(self._folder / portable.INFO, {**complete, 'digest': portable.digest(complete)})

    def remove_others(self) -> None:
        """Remove files of an earlier export from the folder that this one does not contain."""
        names = [
            ONNX,
            ONNX_PIXELS,
            ONNX_IMAGES,
            ONNX_INT8,
            *OPENVINO,
            *DETECTOR_ONNX,
            *DETECTOR_OPENVINO,
            *TORCH,
            *(name for stem in STEMS for name in _names(stem).values()),
        ]
        names += [ENGINE_LOADER, SOURCE, 'engine_library.py', *(path.name for path in self._folder.glob('engine-*.*'))]
        names += [path.name for path in self._folder.glob('compiled-*.so')]
        for name in names:
            self._new.remove(self._folder / name)


@contextmanager
def exported_folder(folder: os.PathLike[str]) -> Iterator[ExportedFolder]:
    """Yield the folder into which an export writes.

    At the end of the block its files are moved to ``folder``, all of them or, if anything goes wrong, none, so that an
    earlier export remains as it was.
    """
    folder = Path(folder)
    with written_together() as new:
        new.make_folder(folder)
        earlier = (folder / portable.INFO).is_file()
        exported = ExportedFolder(folder, new)
        yield exported
        if earlier:
            exported.remove_others()
