"""An exported folder, written as a whole: its files, their digests, the loader."""

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
from inference import portable
from model.parameters import params_format
from model.parameters.file_format import write_params_file

__all__ = ['ExportedFolder', 'exported_folder']

ONNX = 'network.onnx'
TORCH = ('net.py', 'net.safetensors', 'net-check.safetensors')
STEMS = ('network', 'optimized', 'detector')


LOADER = 'load.py'


def _loader() -> Dict[str, bytes]:
    """What loads the folder, in two files that need nothing of ours; the one imports the other by its bare name."""
    text = Path(portable.__file__).read_text(encoding='utf-8')
    parts = Path(params_format.__file__)
    alone = text.replace('from model.parameters.params_format import', f'from {parts.stem} import')
    return {LOADER: alone.encode(), parts.name: parts.read_bytes()}


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

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write export.json, with the digests of all other files and its own, and the loader; again, if need be."""
        for name, content in _loader().items():
            self.write(name, lambda file, content=content: file.write(content))
        complete = json.loads(json.dumps({**info, 'sha256': self._digests}))  # as it will be read
        self._new.write_json(self._folder / portable.INFO, {**complete, 'digest': portable.digest(complete)})

    def remove_others(self) -> None:
        """Remove what an earlier export has left in the folder and this one does not hold."""
        for name in (ONNX, *TORCH, *(name for stem in STEMS for name in _names(stem).values())):
            self._new.remove(self._folder / name)


@contextmanager
def exported_folder(folder: os.PathLike[str]) -> Iterator[ExportedFolder]:
    """Yield what an export writes into. At the end of the block its files take their places in ``folder``, all of them
    or, if anything goes wrong, none: an earlier export then stays as it was.
    """
    folder = Path(folder)
    with written_together() as new:
        new.make_folder(folder)
        earlier = (folder / portable.INFO).is_file()
        exported = ExportedFolder(folder, new)
        yield exported
        if earlier:
            exported.remove_others()
